"""``reticent compose-demo``: brings the fleet up in containers, trains a round, places twice, and takes it all down.

What it asks, an app's backend would ask: it holds an API key and two handles. What the device chooses is told by the
edge itself, which is the only one to know.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from cli.people import CONTEXT
from common.errors import ReticentError

ROOT: Final = Path(__file__).resolve().parent.parent
HOME: Final = "/data/node"  # of the edges, inside their containers
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
        environment = dict(os.environ)
        environment.setdefault("RETICENT_DATABASE_PASSWORD", secrets.token_urlsafe(24))
        beside = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        docker = shutil.which("docker")
        if beside is None and docker is None:
            raise FleetFailed("neither docker-compose nor docker is installed")
        compose = cls((beside,) if beside else (str(docker), "compose"), environment)
        compose("ls", why="no container engine answers; is one running, and does DOCKER_HOST name it?")
        return compose

    def __call__(self, *arguments: str, why: str = "", given: str | None = None) -> str:
        """Run one compose command and return what it printed.

        Raises:
            FleetFailed: it failed, with the end of what it said.
        """
        done = subprocess.run(
            [*self.command, "--file", str(ROOT / "docker-compose.yml"), *arguments],
            env=self.environment, input=given, stdin=None if given is not None else subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=STEP_S_MAX,
        )  # fmt: skip
        if done.returncode != 0:
            said = "\n".join((done.stdout + done.stderr).splitlines()[-TAIL_LINES:])
            raise FleetFailed(f"{why or ' '.join(arguments)}\n{said}")
        return done.stdout

    def logs(self) -> str:
        """The last lines of every container."""
        return self("logs", "--no-color", "--tail", str(TAIL_LINES))


@dataclass(frozen=True, slots=True)
class Placed:
    """One request for a placement and what came of it."""

    owner: str
    mode: str
    reason: str
    shown: str
    chosen_by: str


def run() -> int:
    """Tell the story; the containers and their volumes are gone afterwards, whatever happened.

    Returns:
        The exit status: 0 if a round was trained, one placement was personal and the other was not.
    """
    compose = Compose.find()
    try:
        with console.status("building the image (minutes, the first time)"):
            compose("build")
        with console.status("starting database, service, SuperLink, executor and three edges"):
            compose("up", "--detach", "--wait")
        with console.status("training one round over the edges"):
            log = compose("run", "--rm", "train")
        model = compose("exec", "-T", "api", "reticent", "model", "show")
        with console.status("asking for placements"):
            placements = _place(compose)
    except FleetFailed:
        console.print(compose.logs(), markup=False, highlight=False)
        raise
    finally:
        with console.status("taking everything down"):
            compose("down", "--volumes", "--remove-orphans", "--timeout", "5")
    _show(log, model, placements)
    return 0 if [p.mode for p in placements] == ["on_device", "contextual"] else 1


def _place(compose: Compose) -> list[Placed]:
    key = compose("exec", "-T", "api", "reticent", "server", "create-key", "--role", "app_backend").strip()
    address = compose("port", "api", "8000").strip()
    edge, owners = _owners(compose)
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"http://{address}", headers=headers, trust_env=False) as backend:
        answers = {name: _ask(backend, owners[name]["handle"]) for name in ("consented", "refused")}
    return [
        _outcome(name, answer, _chosen(compose, edge, owners[name]["device"], answer["permit"]))
        for name, answer in answers.items()
    ]


def _owners(compose: Compose) -> tuple[str, dict[str, dict[str, str]]]:
    """An edge that hosts a consenting and a refusing owner, and one of each."""
    for edge in EDGES:
        owners = json.loads(compose("exec", "-T", edge, "python", "-m", "cli.fleet", "people", "--home", HOME))
        if len(owners) == 2:
            return edge, owners
    raise FleetFailed("no edge hosts both a consenting and a refusing owner")


def _ask(backend: httpx.Client, handle: str) -> dict[str, Any]:
    body = {"handle": handle, "slots": [{"slot_id": "home-top"}], "context": CONTEXT}
    return dict(backend.post("/v1/decisions", json=body).raise_for_status().json())


def _chosen(compose: Compose, edge: str, device: str, permit: str | None) -> str | None:
    """What the device shows by itself; None where it got no permit to."""
    if permit is None:
        return None
    told = compose("exec", "-T", edge, "python", "-m", "cli.fleet", "place", "--home", HOME, device, given=permit)
    (placement,) = json.loads(told)["placements"]
    return str(placement["title"])


def _outcome(owner: str, answer: Mapping[str, Any], chosen: str | None) -> Placed:
    (slot,) = answer["slots"]
    shown = chosen or (slot["creative"] or {}).get("title", "nothing")
    return Placed(
        owner, answer["mode"], slot["reason"] or "consent given", shown, "the device" if chosen else "the service"
    )


def _show(log: str, model: str, placements: list[Placed]) -> None:
    for line in log.splitlines():
        if "contributions from" in line:
            console.print(line.partition("round")[2].join(["round", ""]), markup=False, highlight=False)
    console.print(model.rstrip(), markup=False, highlight=False)
    table = Table("owner", "mode", "reason", "shown", "chosen by", title="Two placements")
    for p in placements:
        table.add_row(p.owner, p.mode, p.reason, p.shown, p.chosen_by)
    console.print(table)
