"""The commands by which an owner withdraws, and exercises the rights of a data subject. Owns words and exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client import console
from client.agent import Agent
from client.device import Node
from client.egress import HttpTransport
from client.options import Device, Home, Keys, Service, choose, opened
from client.rights import Rights
from client.store.keys import DeviceId
from common.crypto.keyfile import write_private
from common.errors import InputError, ReticentError
from common.taxonomy import AgeBand, Purpose, RequestKind

RequestId = Annotated[str, typer.Argument(help="Its id, as `requests` prints it.")]


def agent_of(node: Node, device: DeviceId) -> Agent:
    """The device's side of the configured service.

    Raises:
        InputError: no service is configured.
    """
    url = node.settings.service_url
    if not url:
        raise InputError("name the service: --service https://… or RETICENT_SERVICE")
    return Agent(node, device, lambda signer: HttpTransport(url, signer=signer))


def withdraw(
    purposes: Annotated[list[Purpose] | None, typer.Argument(help="Which; all of them if none is named.")] = None,
    *,
    service: Service = None,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Withdraw consent: here at once, and at the service."""
    with opened(home, keys, service=service) as node:
        chosen = choose(node, device)
        try:
            agent_of(node, chosen).withdraw(purposes or None)
        except ReticentError:
            node.gate.stop(chosen, purposes or list(Purpose))
            console.say("withdrawn on this device; the service has not been told:")
            raise
        console.say("withdrawn, on this device and at the service")


def request(
    kind: Annotated[RequestKind, typer.Argument(help="What you ask for.")],
    *,
    age_band: Annotated[AgeBand | None, typer.Option(help="The corrected declaration (rectification).")] = None,
    lift: Annotated[bool, typer.Option("--lift", help="End a restriction or an objection.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before an erasure.")] = False,
    service: Service = None,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Ask the service for what the law grants you; an erasure empties this device too."""
    with opened(home, keys, service=service) as node:
        chosen = choose(node, device)
        if kind is RequestKind.ERASURE and not yes and not typer.confirm("Delete everything, here and at the service?"):
            console.say("nothing was deleted")
            raise typer.Exit(1)
        asked = Rights(agent_of(node, chosen)).ask(kind, age_band=age_band, lift=lift)
        console.requests([asked])
        if kind is RequestKind.ERASURE:
            console.say("this device is erased as well. Its ledger keeps what was spent, so nothing is refilled")


def requests(
    *,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask the service how the open ones stand.")] = False,
    service: Service = None,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """What you have asked for, and how it stands."""
    with opened(home, keys, service=service) as node:
        chosen = choose(node, device)
        for asked in [one for one in node.requests.of(chosen) if refresh and one.open]:
            Rights(agent_of(node, chosen)).status(asked.request_id)
        console.requests(node.requests.of(chosen))


def cancel(
    request_id: RequestId, *, service: Service = None, device: Device = None, home: Home = None, keys: Keys = None
) -> None:
    """Take back a request that is still pending."""
    with opened(home, keys, service=service) as node:
        console.requests([Rights(agent_of(node, choose(node, device))).cancel(request_id)])


def package(
    request_id: RequestId,
    file: Annotated[Path, typer.Argument(help="A new file; it is readable by you alone.")],
    *,
    service: Service = None,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Download what an access or portability request has made ready."""
    with opened(home, keys, service=service) as node:
        data = Rights(agent_of(node, choose(node, device))).package(request_id)
        try:
            write_private(file, data)
        except FileExistsError:
            raise InputError(f"{file.name} exists already; it was not touched") from None
        except OSError as error:
            raise InputError(f"{file.name} cannot be written ({error.strerror})") from None
        console.say(f"{len(data)} bytes in {file}, unencrypted: keep it safe")
