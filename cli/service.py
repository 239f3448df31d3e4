"""Runs the real service for a demonstration: its own process, its own state, on loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from common.crypto.signing import PublicKey
from common.errors import ReticentError
from common.taxonomy import Role
from server.api.connection import CLASS as CONNECTION
from server.api.services import initialise
from server.campaigns.service import CatalogueService
from server.campaigns.templates import ItemFacts, build_catalogue, read_templates
from server.settings import Settings

START_S = 60.0


class ServiceFailed(ReticentError):
    """The demonstration's service did not start."""


class Service:
    """A uvicorn process over ``settings``; leaving the context stops it."""

    def __init__(self, settings: Settings, items: Sequence[ItemFacts]) -> None:
        """Initialise state, keys and catalogue; the process starts on entering the context."""
        self.settings = settings
        services = initialise(settings)
        try:
            self.public_key: PublicKey = services.signer.public
            authority = services.authority.public
            self.authorities: tuple[PublicKey, ...] = () if authority is None else (authority,)
            self.backend_key = services.access.issue(Role.APP_BACKEND, label="demo shop").token
            self.notices = [services.notices.current(locale).notice.digest for locale in ("en", "zh-CN")]
            self.creatives = self._publish(services.catalogues, items)
        finally:
            services.database.close()
        self._held = _held_port()
        self.port = int(self._held.getsockname()[1])
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        """What it printed."""
        return self.settings.state_dir / "service.log"

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "uvicorn", "server.api.app:create_app", "--factory", "--http", CONNECTION]
        environment = os.environ | {
            "RETICENT_STATE_DIR": str(self.settings.state_dir),
            "RETICENT_DATABASE_URL": self.settings.database_url,
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [*command, "--http", CONNECTION, "--port", str(self.port)],
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self) -> None:
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process is None or self._process.poll() is not None:
                raise ServiceFailed(f"the service ended at once; see {self.log}")
            try:
                if httpx.get(f"{self.url}/readyz", trust_env=False).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise ServiceFailed(f"the service did not become ready in {START_S:.0f} s; see {self.log}")

    def _stop(self) -> None:
        self._held.close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    @staticmethod
    def _publish(catalogues: CatalogueService, items: Sequence[ItemFacts]) -> int:
        return catalogues.publish(build_catalogue(items, read_templates()).creatives).creatives


def _held_port() -> socket.socket:
    """A port that nobody else is given while this is open; bound, not listened on, so the service may take it over."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held
