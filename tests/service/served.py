"""A service of two uvicorn workers on a socket, and people who speak to it through an app's backend."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from common.crypto.signing import SigningKey
from common.taxonomy import Purpose, Role
from server.api.services import initialise
from server.settings import Settings
from tests.ports import held_ports
from tests.service.http import DeviceAuth
from tests.service.race_app import WORKER_HEADER, Named
from tests.service.world import APP, bearer, catalogue, register_model

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
START_S = 240  # both workers load the numerical library; on a busy machine that takes its time


@dataclass
class Served:
    """A running service and what a backend needs to speak to it."""

    url: str
    key: dict[str, str]
    notice: str
    process: subprocess.Popen[bytes]
    workers: set[str] = field(default_factory=set)

    def client(self) -> httpx.Client:
        """A connection of its own, so that the kernel may hand it to either worker."""
        return httpx.Client(base_url=self.url, headers=self.key, timeout=60, trust_env=False)

    def enrol(self, http: httpx.Client) -> str:
        key = SigningKey.generate()
        body = {"public_key": key.public.x, "app_id": APP, "age_band": "adult", "jurisdiction": "CN"}
        answer = http.post("/v1/subjects", json=body, auth=DeviceAuth(key, key.public.x))
        assert answer.status_code == 201, answer.text
        return str(answer.json()["handle"])

    def grant(self, http: httpx.Client, handle: str) -> httpx.Response:
        body = {
            "handle": handle,
            "notice_digest": self.notice,
            "decisions": {Purpose.TRAIN_LOCAL.value: "given", Purpose.PLACE_PERSONALISED.value: "given"},
            "locale": "en",
            "surface": "race",
        }
        return http.post("/v1/consents", json=body)

    def withdraw(self, http: httpx.Client, handle: str) -> httpx.Response:
        return http.post("/v1/consents/withdraw", json={"handle": handle, "purposes": "all"})

    def mode(self, http: httpx.Client, handle: str) -> str:
        answer = http.post("/v1/decisions", json={"handle": handle, "slots": [{"slot_id": "top"}]})
        assert answer.status_code == 200, answer.text
        self.workers.add(answer.headers[WORKER_HEADER])
        return str(answer.json()["mode"])

    def kill(self) -> None:
        """SIGKILL to the supervisor and both workers at once: nobody gets the chance to tidy up."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


def furnish(settings: Settings) -> tuple[dict[str, str], str]:
    """A model, a catalogue and a backend's key; the key and the notice in force."""
    services = initialise(settings)
    register_model(services)
    services.catalogues.publish(catalogue().creatives)
    key = services.access.issue(Role.APP_BACKEND, label="race", app_id=APP).token
    notice = services.notices.current("en").digest
    services.database.close()
    return bearer(key), notice


@contextmanager
def served(settings: Settings, key: dict[str, str], notice: str, app: str = "real") -> Iterator[Served]:
    """Two workers of ``tests.service.race_app:<app>``."""
    options = ["--factory", "--workers", str(WORKERS), "--http", f"{Named.__module__}:{Named.__name__}"]
    options += ["--no-access-log", "--log-level", "warning", "--port"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETICENT_")} | {
        "RETICENT_STATE_DIR": str(settings.state_dir),
        "RETICENT_DATABASE_URL": settings.database_url,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with held_ports() as (port,), (settings.state_dir / "served.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "uvicorn", f"tests.service.race_app:{app}", *options, str(port)],
            cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        running = Served(f"http://127.0.0.1:{port}", key, notice, process)
        try:
            _wait(running, settings.state_dir / "served.log")
            yield running
        finally:
            running.kill()


def _wait(running: Served, log: Path) -> None:
    """Until both workers answer. Many ask at once: the kernel gives a lone caller to the same worker every time."""
    end, seen = time.monotonic() + START_S, set[str]()
    with ThreadPoolExecutor(8) as pool:
        while len(seen) < WORKERS:
            assert running.process.poll() is None, log.read_text()
            assert time.monotonic() < end, (seen, log.read_text())
            seen |= set(pool.map(_worker, [running.url] * 16)) - {""}


def _worker(url: str) -> str:
    """Which worker answers, if any does."""
    try:
        with httpx.Client(base_url=url, timeout=10, trust_env=False) as http:
            return http.get("/readyz").headers.get(WORKER_HEADER, "")
    except httpx.TransportError:
        time.sleep(0.1)
        return ""


def acknowledged(answer: httpx.Response) -> list[dict[str, Any]]:
    """Receipts in an answer that has arrived."""
    assert answer.status_code in {200, 201}, answer.text
    return list(answer.json()["receipts"])
