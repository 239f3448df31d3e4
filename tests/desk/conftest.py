from __future__ import annotations

import asyncio
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from cli.desk_demo import DeskDemo
from common.taxonomy import Role
from server.api.app import create_app
from server.api.services import Services, build_services
from server.settings import Settings

TOKEN = re.compile(r'name="form_token" value="([0-9a-f]+)"')


class TurnedClock:
    """The present, turned on by tests."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


class Client:
    """Requests without a socket, by a client that keeps cookies and follows redirects."""

    def __init__(self, services: Services, base: str, language: str) -> None:
        transport = httpx.ASGITransport(create_app(services=services), raise_app_exceptions=False)
        headers = {"accept-language": language}
        self._client = httpx.AsyncClient(transport=transport, base_url=base, headers=headers, follow_redirects=True)

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401 - as httpx has them
        return asyncio.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:  # noqa: ANN401
        return self.request("POST", path, **more)


class Visit:
    """A browser without a screen: fills the forms of the page that it is on."""

    def __init__(self, services: Services, *, base: str = "http://127.0.0.1", language: str = "en") -> None:
        self.client = Client(services, base, language)
        self.page = self.key = ""

    def get(self, path: str) -> httpx.Response:
        answer = self.client.get(f"/desk{path}")
        self.page = answer.text if answer.headers.get("content-type", "").startswith("text/html") else ""
        return answer

    def post(
        self, path: str, *, token: str | None = None, headers: dict[str, str] | None = None, **fields: str
    ) -> httpx.Response:
        if token is None:
            found = TOKEN.search(self.page)
            token = found.group(1) if found else ""
        answer = self.client.post(f"/desk{path}", data={"form_token": token, **fields}, headers=headers or {})
        if answer.status_code < 400:
            self.page = answer.text
        return answer

    def sign_in(self, key: str) -> httpx.Response:
        self.key = key
        self.get("/sign-in")
        return self.post("/sign-in", api_key=key, wanted="/desk/")

    def sign_in_again(self) -> httpx.Response:
        """After a jump in time, which ends a session."""
        return self.sign_in(self.key)


@dataclass(frozen=True)
class Installed:
    """A filled installation and who may sign in."""

    state: Path
    keys: dict[str, str]


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """An installation with people, trainings, requests and caps; to be copied."""
    state = tmp_path_factory.mktemp("desk") / "state"
    many = "RETICENT_PICTURES" in os.environ
    keys = DeskDemo(state, time.time, people=320 if many else 60, rounds=8 if many else 3).run()
    shutil.copytree(Path(__file__).parent / "audits", state / "audits")
    return Installed(state, keys)


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def services(filled: Installed, tmp_path: Path, clock: TurnedClock) -> Iterator[Services]:
    shutil.copytree(filled.state, tmp_path / "state")
    services = build_services(Settings.at(tmp_path / "state"), clock=clock)
    yield services
    services.database.close()


@pytest.fixture(scope="module")
def reading(filled: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """For tests that change nothing but the log."""
    state = tmp_path_factory.mktemp("reading") / "state"
    shutil.copytree(filled.state, state)
    services = build_services(Settings.at(state))
    yield services
    services.database.close()


@pytest.fixture
def officer(services: Services, filled: Installed) -> Visit:
    visit = Visit(services)
    assert visit.sign_in(filled.keys["ada.officer"]).status_code == 200
    return visit


@pytest.fixture
def second(services: Services, filled: Installed) -> Visit:
    visit = Visit(services)
    visit.sign_in(filled.keys["lin.officer"])
    return visit


def key_of(services: Services, role: Role) -> str:
    return services.access.issue(role, label="test", holder=f"some.{role.value.replace('_', '-')}").token
