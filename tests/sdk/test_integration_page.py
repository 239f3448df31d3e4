"""docs/integration.md: its Python runs as written, its commands are commands, and the example backend is one."""

from __future__ import annotations

import asyncio
import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx
import pytest

from common.taxonomy import Role
from server.settings import Settings
from tests.sdk.conftest import Live

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "integration.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_its_python_runs_as_written(
    live: Live, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (("URL", live.url), ("API_KEY", live.key), ("HANDLE", live.enrol())):
        monkeypatch.setenv(f"RETICENT_{name}", value)
    names: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/integration.md", "exec"), names)  # noqa: S102 - our own page
    said = capsys.readouterr().out.splitlines()
    assert len([line for line in said if line.startswith("soup-")]) == 3
    for line in ("True", "False", "['given', 'given']", "on_device", "contextual", "403 TokenForged"):
        assert line in said, line


def test_what_it_names_is_there() -> None:
    roles = re.findall(r"create-key --role (\w+)", PAGE)
    assert {Role(role) for role in roles} == {Role.APP_BACKEND, Role.EXCHANGE}
    for link in re.findall(r"\]\(\.\./([^)]+)\)", PAGE):
        assert (ROOT / link).exists(), link
    documented = Settings.__doc__ or ""
    for variable in set(re.findall(r"RETICENT_[A-Z_]+", PAGE)) - {
        "RETICENT_URL",
        "RETICENT_API_KEY",
        "RETICENT_HANDLE",
    }:
        assert variable in documented, variable
    assert "11.36.0" in (ROOT / "tests" / "exchange" / "prebid" / "package.json").read_text("utf-8")


@pytest.fixture
def recipes(live: Live, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv("RETICENT_URL", live.url)
    monkeypatch.setenv("RETICENT_API_KEY", live.key)
    monkeypatch.setenv("RETICENT_TMAX_MS", "20000")
    spec = importlib.util.spec_from_file_location("recipes", ROOT / "sdk" / "examples" / "recipes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def visit(recipes: ModuleType, steps: Callable[[httpx.AsyncClient], object]) -> None:
    async def run() -> None:
        app = recipes.app
        transport = httpx.ASGITransport(app)
        async with recipes.lifespan(app), httpx.AsyncClient(transport=transport, base_url="http://recipes") as reader:
            await steps(reader)  # type: ignore[misc]

    asyncio.run(run())


def test_the_example_backend_counts_a_view_and_a_click(recipes: ModuleType, live: Live) -> None:
    async def steps(reader: httpx.AsyncClient) -> None:
        before = live.services.follow_ups.tally()
        page = (await reader.get("/")).text
        assert "reticent-ad-label" in page
        (seen,) = re.findall(r'src="(/seen/[^"]+)"', page)
        for _ in range(2):
            assert (await reader.get(seen)).status_code == 204
        (link,) = re.findall(r'href="([^"]+/c/[^"]+)"', page)
        async with httpx.AsyncClient() as browser:
            followed = await browser.get(link)
        assert followed.is_redirect
        assert followed.headers["location"].startswith("https://")
        after = live.services.follow_ups.tally()
        assert {kind: after[kind] - before[kind] for kind in ("impression", "click")} == {"impression": 1, "click": 1}
        assert (await reader.get("/seen/forged-token-that-is-long-enough-to-be-one")).status_code == 404

    visit(recipes, steps)


def test_the_example_backend_asks_and_obeys(recipes: ModuleType, live: Live) -> None:
    async def steps(reader: httpx.AsyncClient) -> None:
        reader.cookies.set("reticent_handle", live.enrol())
        assert "/seen/" in (await reader.get("/")).text
        assert len((await reader.post("/consent/yes")).json()["receipts"]) == 2
        assert "/seen/" not in (await reader.get("/")).text  # the device chooses and counts
        assert "/seen/" in (await reader.get("/", headers={"sec-gpc": "1"})).text
        assert "contextual" in (await reader.post("/consent/withdraw")).json()["stops"]
        assert "/seen/" in (await reader.get("/")).text

    visit(recipes, steps)


def test_the_example_backends_page_is_whole_without_ads(recipes: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETICENT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RETICENT_TMAX_MS", "200")

    async def steps(reader: httpx.AsyncClient) -> None:
        page = await reader.get("/")
        assert page.status_code == 200
        assert "Soup" in page.text
        assert "reticent-ad" not in page.text

    visit(recipes, steps)
