"""The jobs inside the fleet's containers: furnish the server, populate an edge, start a training, place on a device.

Run as ``python -m cli.fleet``; docker-compose.yml says who runs which, ``cli.compose_demo`` in what order. An edge's
devices are virtual, all else about it is not: its people enrol and decide over HTTP through their devices' own door,
and its updates carry the operating system's noise.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import httpx
import typer

from cli.people import APP_ID, CONTEXT, SharedWire, attitude
from client.agent import Agent, Decision
from client.device import Node
from client.egress import HttpTransport
from client.population.build import Population, Request, build_population
from client.population.description import load_description
from client.settings import Settings as DeviceSettings
from client.store.keys import DeviceId
from common.crypto.signing import PublicKey
from common.errors import MalformedInput, ReticentError
from common.taxonomy import Purpose
from policies.consent import Permit
from policies.notices import read_notices

CONSENTED: Final = "consented"
DATA_SET: Final = "completejourney"
VISIT_S: Final = 7 * 86_400.0

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help="Jobs of the fleet's containers.")

Home = Annotated[Path, typer.Option(help="The node's directory.")]
Service = Annotated[str, typer.Option(envvar="RETICENT_SERVICE", help="Base URL of the service.")]


@app.command()
def furnish() -> None:
    """Publish the demonstration's catalogue and feature specification. Safe to repeat."""
    from cli.catalogue import catalogue_items
    from server.api.services import initialise
    from server.campaigns.templates import build_catalogue, read_templates
    from server.settings import Settings

    settings = Settings.from_env()
    if settings.feature_spec is None:
        raise MalformedInput("set RETICENT_FEATURE_SPEC to where the feature specification belongs")
    with _population(nodes=1, devices=1) as population:
        creatives = build_catalogue(catalogue_items(population), read_templates()).creatives
    settings.feature_spec.write_text(load_description(DATA_SET).feature_spec().model_dump_json(), encoding="utf-8")
    services = initialise(settings)
    published = services.catalogues.publish(creatives)
    services.database.close()
    typer.echo(f"catalogue version {published.version} with {published.creatives} creatives")
    for name, count in published.refused.items():
        typer.echo(f"left out for hinting at {name}: {count}")


@app.command()
def populate(
    home: Home,
    service: Service,
    edge: Annotated[int, typer.Option(min=1, help="Which edge this is.")],
    edges: Annotated[int, typer.Option(min=1, help="How many there are.")] = 3,
    devices: Annotated[int, typer.Option(min=1, help="Households on all edges together.")] = 90,
) -> None:
    """Fill an edge with its share of the households, who then enrol and decide. A restarted edge keeps its people."""
    if not home.exists():
        unfinished = home.with_name(f"{home.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        with _population(nodes=edges, devices=devices) as population:
            shutil.copytree(population.node_directories[edge - 1], unfinished)
        unfinished.rename(home)
    with Node.open(home, DeviceSettings.from_env()) as node, SharedWire() as wire:
        install(node, service)
        for device in node.vault.devices():
            agent = Agent(node, device, lambda signer: HttpTransport(service, signer=signer, transport=wire))
            if agent.handle is None:
                _enrol_and_decide(agent, device)
        typer.echo(f"{len(node.vault.devices())} devices live here")


@app.command()
def train(
    superlink: Annotated[str, typer.Option(help="host:port")] = "superlink:8000",
    run_config: Annotated[str, typer.Option(help="As for flwr run.")] = "",
) -> None:
    """Hand the app bundle to the SuperLink and follow its log until the training ends."""
    home = Path(os.environ["FLWR_HOME"])
    home.mkdir(parents=True, exist_ok=True)
    lines = ("[superlink]", 'default = "fleet"', "[superlink.fleet]", f"address = {json.dumps(superlink)}")
    (home / "config.toml").write_text("\n".join([*lines, "insecure = true", ""]), encoding="utf-8")
    bundle = str(Path(__file__).resolve().parent.parent)
    os.execlp("flwr", "flwr", "run", bundle, "fleet", "--stream", "--run-config", run_config)  # noqa: S606, S607 - the image's own


@app.command()
def people(home: Home) -> None:
    """Name one device for each answer of the devices' gates about personalised placements (JSON)."""
    found: dict[str, dict[str, str | None]] = {}
    with Node.open(home, DeviceSettings.from_env(), prove=False) as node:
        for device in node.vault.devices():
            answer = node.gate.permits(device, Purpose.PLACE_PERSONALISED)
            name = CONSENTED if isinstance(answer, Permit) else answer.reason.value
            found.setdefault(name, {"device": device, "handle": node.gate.handle(device)})
    typer.echo(json.dumps(found))


@app.command()
def place(home: Home, service: Service, device: str) -> None:
    """Fill the slots of a placement permit (standard input) by the device's own scores; prints what it chose (JSON)."""
    permit = sys.stdin.read().strip()
    with Node.open(home, DeviceSettings.from_env(), prove=False) as node:
        agent = Agent(node, DeviceId(device), lambda signer: HttpTransport(service, signer=signer))
        equipment = agent.fetch()
        placed = agent.place(
            permit, equipment, context=CONTEXT, now=node.settings.now(), moment=node.training_window[1] + VISIT_S
        )
    titles = {creative.creative_id: creative.title["en"] for creative in equipment.catalogue.creatives}
    chosen: list[dict[str, Any]] = [
        {"slot": p.slot_id, "creative": p.creative_id, "title": titles.get(p.creative_id or "")} for p in placed
    ]
    typer.echo(json.dumps({"model_version": equipment.model_version, "placements": chosen}))


def install(node: Node, service: str) -> None:
    """What an app's installer does: pin the service's keys, and the notices that this version of the app shows."""
    shown = read_notices(node.policies.policies.purposes)[-1][1]
    node.pin(
        keys=_public_keys(f"{service}/.well-known/jwks.json"),
        notices=[notice.digest for notice in shown],
        authorities=_public_keys(f"{service}/.well-known/enrolment-authorities.json"),
    )


def _public_keys(url: str) -> list[PublicKey]:
    keys = httpx.get(url, trust_env=False).raise_for_status().json()["keys"]
    return [PublicKey(key["x"]) for key in keys]


def _enrol_and_decide(agent: Agent, device: str) -> None:
    group = attitude(device)
    agent.enrol(app_id=APP_ID, age_band=group.age_band, jurisdiction="DE")
    decisions: dict[Purpose, Decision] = {p: "given" if p in group.given else "refused" for p in Purpose}
    agent.decide(decisions, notice_digest=agent.notice(), surface="fleet/onboarding")


@contextmanager
def _population(*, nodes: int, devices: int) -> Iterator[Population]:
    """A population that is gone afterwards: what is kept of it is copied."""
    with tempfile.TemporaryDirectory() as scratch:
        yield build_population(Request(load_description(DATA_SET), nodes=nodes, devices=devices), Path(scratch))


if __name__ == "__main__":
    try:
        app()
    except ReticentError as error:
        typer.echo(f"{error.name}: {error}", err=True)
        raise SystemExit(1) from None
