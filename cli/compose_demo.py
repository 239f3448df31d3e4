"""``reticent compose-demo``: brings the fleet up in containers, trains a round, places twice, and takes it all down.

What it asks, an app's backend would ask: it holds an API key and two handles. What the device chooses is told by the
edge itself, which is the only one to know.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from cli.fleet import CONSENTED
from cli.people import CONTEXT
from common.errors import ReticentError
from common.taxonomy import RefusalReason

ROOT: Final = Path(__file__).resolve().parent.parent
HOME: Final = "/data/node"  # of the edges, inside their containers
OWNERS: Final = (CONSENTED, RefusalReason.REFUSED.value)
EDGES: Final = ("edge-1", "edge-2", "edge-3")
STEP_S_MAX: Final = 1_800
TAIL_LINES: Final = 40

console = Console()


class FleetFailed(ReticentError):
    """A step of the containers' demonstration did not succeed."""


@dataclass(frozen=True, slots=True)
class Compose:
    """The compose command on our file, with a database password that lives as long as this run."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def find(cls) -> Compose:
        """The compose of this environment, else Docker's own.

        Raises:
            FleetFailed: there is none, or no container engine answers.
        """
        chosen = {"RETICENT_DATABASE_PASSWORD": secrets.token_urlsafe(24), "RETICENT_API_PORT": "0"}
        places = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own, docker = shutil.which("docker-compose", path=places), shutil.which("docker")
        if own is None and docker is None:
            raise FleetFailed("neither docker-compose nor docker is installed")
        compose = cls((own,) if own else (str(docker), "compose"), chosen | os.environ)
        compose("ls", why="no container engine answers; is one running, and does DOCKER_HOST name it?")
        return compose

    def __call__(self, *arguments: str, why: str = "", given: str = "") -> str:
        """Run one compose command, ``given`` on its standard input, and return what it printed.

        Raises:
            FleetFailed: it failed, with the end of what it said.
        """
        done = subprocess.run(
            [*self.command, "--file", str(ROOT / "docker-compose.yml"), *arguments],
            env=self.environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
            timeout=STEP_S_MAX,
        )
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
            raise FleetFailed(f"{why or ' '.join(arguments)}\n{said}")
        return done.stdout

    def inside(self, service: str, *command: str, given: str = "") -> str:
        """Run a command in a running container."""
        return self("exec", "-T", service, *command, given=given)


@dataclass(frozen=True, slots=True)
class Placed:
    """One request for a placement and what came of it."""

    owner: str
    mode: str
    reason: str
    shown: str
    chosen_by: str


def run() -> int:
    """Tell the story.

    Returns:
        The exit status: 0 if a round was trained, one placement was personal and the other was not.
    """
    with fleet() as compose:
        with _step("training one round over the edges"):
            round_line = train_round(compose)
        model = compose.inside("api", "reticent", "model", "verify")
        with _step("asking for placements"):
            placements = place_twice(compose)
    console.print(round_line, markup=False, highlight=False)
    console.print(model.rstrip(), markup=False, highlight=False)
    table = Table("owner", "mode", "reason", "shown", "chosen by", title="Two placements")
    for p in placements:
        table.add_row(p.owner, p.mode, p.reason, p.shown, p.chosen_by)
    console.print(table)
    return 0 if [p.mode for p in placements] == ["on_device", "contextual"] else 1


@contextmanager
def fleet() -> Iterator[Compose]:
    """The running fleet. Containers, networks and volumes are gone afterwards, whatever happened.

    Raises:
        FleetFailed: it did not become healthy; the containers' last lines have been printed.
    """
    compose = Compose.find()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # else nothing would be taken down
    try:
        with _step("building the image (minutes, the first time)"):
            compose("build")
        with _step("starting database, service, SuperLink, executor and three edges"):
            compose("up", "--detach", "--wait")
        yield compose
    except FleetFailed:
        console.print(compose("logs", "--no-color", "--tail", str(TAIL_LINES)), markup=False, highlight=False)
        raise
    finally:
        with _step("taking everything down"):
            compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def train_round(compose: Compose) -> str:
    """Train one round over the edges; the line that the server logged about it.

    Raises:
        FleetFailed: no round was finished.
    """
    log = compose("run", "--rm", "--no-deps", "train")
    found = [line for line in log.splitlines() if " devices from " in line]
    if not found:
        raise FleetFailed(f"no round was finished\n{log}")
    return found[-1][found[-1].index("round") :]


def place_twice(compose: Compose) -> list[Placed]:
    """Ask for one placement for an owner who consented and one for an owner who refused."""
    key = compose.inside("api", "reticent", "server", "create-key", "--role", "app_backend").strip()
    edge, owners = _owners(compose)
    headers = {"authorization": f"Bearer {key}"}
    placements = []
    with httpx.Client(base_url=f"http://{_address(compose)}", headers=headers, trust_env=False) as backend:
        for name in OWNERS:
            answer = _ask(backend, owners[name]["handle"])
            chosen = _chosen(compose, edge, owners[name]["device"], answer["permit"])
            placements.append(_placed(name.removeprefix("consent-"), answer, chosen))
    return placements


def _address(compose: Compose) -> str:
    return compose("port", "api", "8000").strip()


def _owners(compose: Compose) -> tuple[str, dict[str, dict[str, str]]]:
    """An edge that hosts a consenting and a refusing owner, and one of each."""
    for edge in EDGES:
        owners = json.loads(compose.inside(edge, "python", "-m", "cli.fleet", "people", "--home", HOME))
        if owners.keys() >= set(OWNERS):
            return edge, owners
    raise FleetFailed("no edge hosts both a consenting and a refusing owner")


def _ask(backend: httpx.Client, handle: str) -> dict[str, Any]:
    body = {"handle": handle, "slots": [{"slot_id": "home-top"}], "context": CONTEXT}
    return dict(backend.post("/v1/decisions", json=body).raise_for_status().json())


def _chosen(compose: Compose, edge: str, device: str, permit: str | None) -> str | None:
    """What the device shows by itself; None where it got no permit to."""
    if permit is None:
        return None
    told = compose.inside(edge, "python", "-m", "cli.fleet", "place", "--home", HOME, device, given=permit)
    (placement,) = json.loads(told)["placements"]
    title: str | None = placement["title"]  # None where the policy found nothing eligible
    return title


def _placed(owner: str, answer: Mapping[str, Any], chosen: str | None) -> Placed:
    (slot,) = answer["slots"]
    contextual = (slot["creative"] or {}).get("title", "nothing")
    return Placed(
        owner=owner,
        mode=answer["mode"],
        reason=slot["reason"] or "consent given",
        shown=chosen or contextual,
        chosen_by="the device" if chosen else "the service",
    )


@contextmanager
def _step(name: str) -> Iterator[None]:
    """A spinner while it lasts, and afterwards how long it took."""
    began = time.monotonic()
    with console.status(name):
        yield
    console.print(f"{name}: {time.monotonic() - began:.0f} s", highlight=False)
