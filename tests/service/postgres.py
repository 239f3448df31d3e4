"""A throw-away PostgreSQL cluster on a unix socket, if this machine has its programs."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

OPTIONS = "-c listen_addresses='' -c fsync=off -c max_connections=60 -k "
_MEMORY = Path("/dev/shm")  # noqa: S108 - a cluster that is thrown away need not reach a disk
_ROOM_BYTES = 2 * 1024**3


def missing() -> str | None:
    """Why no cluster can be started here, or None."""
    if programs() is None:
        return "PostgreSQL's initdb and pg_ctl are not installed"
    if os.geteuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            return "PostgreSQL refuses to run as root and there is no user postgres"
        if shutil.which("setpriv") is None:
            return "PostgreSQL refuses to run as root and setpriv is not installed"
    return None


def programs() -> Path | None:
    """The folder of initdb and pg_ctl."""
    found = shutil.which("initdb")
    folders = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()), None)


def _memory() -> Path | None:
    """Memory with the face of a folder, where this machine has enough of it; None: where temporary files go."""
    roomy = _MEMORY.is_dir() and os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    return _MEMORY if roomy else None


@contextmanager
def cluster() -> Iterator[str]:
    """Start a cluster; yields the URL prefix to which a database's name and the socket are added by ``url``."""
    folder = Path(tempfile.mkdtemp(prefix="reticent-pg-", dir=_memory()))
    programs_at = programs()
    assert programs_at is not None
    prefix: list[str] = []
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres", "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(programs_at / program), *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL
        )

    data = str(folder / "data")
    run("initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")
    try:
        run("pg_ctl", "-D", data, "-w", "-s", "-l", str(folder / "server.log"), "-o", f"{OPTIONS}{folder}", "start")
        yield str(folder)
    finally:
        run("pg_ctl", "-D", data, "-w", "-s", "-m", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def url(socket_folder: str, name: str) -> str:
    return f"postgresql://postgres@/{name}?host={socket_folder}"
