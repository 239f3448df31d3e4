"""Whether an acknowledged decision is still there after SIGKILL.

    python -m bench.decisions_kill [--acknowledged 50000] [--kills 3] [--app real|behind]

Two workers are asked for decisions over many connections; all processes are killed at once in the middle of it, again
and again; every decision whose answer has arrived is then looked for in the database. Exit status 1 if one is missing
(for ``behind``, the control that answers before it commits: if none is missing).

SIGKILL loses what a process holds, not what the kernel holds: power loss is not tested. That every batch is synced is
a setting of the connection (``PRAGMA synchronous=FULL``), which is read back here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.decisions_world import furnish
from server.api.connection import CLASS as CONNECTION

CONNECTIONS: Final = 64
START_S: Final = 240
_BEGIN: Final = b'{"decision_id":"'
_ID_BYTES: Final = 36


@dataclass
class Heard:
    """Ids of decisions whose whole answer has arrived."""

    ids: list[str] = field(default_factory=list)
    refused: int = 0


@dataclass(frozen=True)
class Found:
    """What became of them."""

    acknowledged: int
    lost: int
    kills: int
    synchronous: int


class _Asker(asyncio.Protocol):
    """One connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, heard: Heard) -> None:
        self._request, self._heard, self._buffer = request, heard, b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - for the type checker
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, ended, body = self._buffer.partition(b"\r\n\r\n")
        if not ended or len(body) < _length(head):
            return
        self._buffer = b""
        if head.startswith(b"HTTP/1.1 200") and body.startswith(_BEGIN):
            self._heard.ids.append(body[len(_BEGIN) : len(_BEGIN) + _ID_BYTES].decode())
        else:
            self._heard.refused += 1
        if self._transport is not None:
            self._transport.write(self._request)


def measure(folder: Path, *, app: str, acknowledged: int, kills: int) -> Found:
    """Ask, kill, and look what is left.

    Args:
        folder: for the installation; must be new.
        app: of ``bench.decisions_apps``.
        acknowledged: how many answers are to arrive in all, at least.
        kills: how often everything is killed on the way.
    """
    world = furnish(folder, people=2, creatives=20)
    heard = Heard()
    for number in range(1, kills + 1):
        asyncio.run(_until_killed(folder, app, world["key"], heard=heard, until=acknowledged * number // kills))
    if heard.refused:
        raise RuntimeError(f"{heard.refused} requests were not answered with a decision")
    with contextlib.closing(sqlite3.connect(folder / "reticent.db")) as connection:
        kept = {row[0] for row in connection.execute("SELECT DISTINCT decision_id FROM decision")}
    return Found(len(heard.ids), len(set(heard.ids) - kept), kills, _synchronous(folder))


async def _until_killed(folder: Path, app: str, key: str, *, heard: Heard, until: int) -> None:
    port = _free_port()
    process = _serve(folder, app, port)
    body = json.dumps({"slots": [{"slot_id": "top"}], "context": {"page": "home"}}).encode()
    lines = ["POST /v1/decisions HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {key}"]
    head = "\r\n".join([*lines, "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""])
    loop, transports = asyncio.get_running_loop(), list[asyncio.BaseTransport]()
    try:
        await _answers(port, process)
        for _ in range(CONNECTIONS):
            transport, _ = await loop.create_connection(lambda: _Asker(head.encode() + body, heard), "127.0.0.1", port)
            transports.append(transport)
        end = time.monotonic() + START_S
        while len(heard.ids) < until:
            if time.monotonic() > end:
                raise RuntimeError("the service answers too slowly")
            await asyncio.sleep(0.005)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.sleep(0.2)  # what had arrived before the kill still counts
        for transport in transports:
            transport.close()
        process.wait(30)


def _serve(folder: Path, app: str, port: int) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETICENT_")} | {
        "RETICENT_STATE_DIR": str(folder),
        "RETICENT_RATE_LIMITS": "app_backend=1000000000/60",
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "uvicorn", f"bench.decisions_apps:{app}", "--factory", "--workers", "2"]
    options = ["--http", CONNECTION, "--port", str(port), "--no-access-log", "--log-level", "warning"]
    with (folder / "served.log").open("ab") as log:
        return subprocess.Popen([*command, *options], env=environment, stdout=log, stderr=log, start_new_session=True)


async def _answers(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until somebody listens."""
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError("the service did not start")
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.2)
    raise RuntimeError("the service did not start in time")


def _synchronous(folder: Path) -> int:
    """The level of sync that the service's own connections have: 2 is FULL."""
    from server.settings import Settings
    from server.storage import open_database

    database = open_database(Settings.at(folder).database_url)
    try:
        with contextlib.closing(database.engine.raw_connection()) as connection:
            return int(connection.cursor().execute("PRAGMA synchronous").fetchone()[0])  # type: ignore[func-returns-value]
    finally:
        database.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def main() -> int:
    """Measure one app; 0 if it is as it should be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--acknowledged", type=int, default=50_000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--app", choices=["real", "behind"], default="real")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder) / "state", app=args.app, acknowledged=args.acknowledged, kills=args.kills)
    print(f"{args.app}: {found.lost} of {found.acknowledged} acknowledged decisions lost in {found.kills} kills")
    return int(found.lost > 0) if args.app == "real" else int(found.lost == 0)


if __name__ == "__main__":
    sys.exit(main())
