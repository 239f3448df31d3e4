"""``reticent device page``: print the owner's page into a file, or serve it to one browser of this machine."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from cli.owner.loopback import Loopback
from cli.owner.page import render
from cli.owner.site import Site
from cli.owner.texts import LOCALES, Locale
from client import console
from client.device import Node
from client.egress import HttpTransport
from client.options import Device, Home, Keys, Service, choose, named_errors, opened, settings_from
from client.overview import overview
from client.pins import replace_private
from client.settings import home_from_env
from client.store.keys import DeviceId
from common.errors import InputError


def page(
    *,
    serve: Annotated[bool, typer.Option("--serve", help="Serve it on this machine, with all you can do.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of --serve; 0 is a free one.")] = 0,
    out: Annotated[Path, typer.Option("--out", help="The file of a printed page; readable by you alone.")] = Path(
        "reticent-page.html"
    ),
    lang: Annotated[str, typer.Option(help="en or zh-CN.")] = "en",
    service: Service = None,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """What you agreed to, what left, what it cost, why these ads; with --serve also withdraw and ask."""
    with named_errors():
        locale = next((one for one in LOCALES if one == lang), None)
        if locale is None:
            raise InputError(f"the page speaks {' and '.join(LOCALES)}")
    with opened(home, keys) as node:
        chosen = choose(node, device)
        if not serve:
            replace_private(out, render(overview(node, chosen), locale).encode())
            console.say(f"{out}: open it in a browser. It holds what this device knows about you: keep it safe")
            return
    _serve(home, keys, service, chosen, port=port, locale=locale)


def _serve(
    home: Path | None, keys: Path | None, service: str | None, device: DeviceId, *, port: int, locale: Locale
) -> None:
    with named_errors(), contextlib.closing(_listen(port)) as loopback:
        settings = settings_from(keys, service)
        url = settings.service_url
        site = Site(
            lambda: Node.open(home or home_from_env(), settings, prove=False),
            device,
            origin=loopback.origin,
            connect=(lambda signer: HttpTransport(url, signer=signer)) if url else None,
            clock=time.monotonic,
        )
        console.plain(f"{site.link}&lang={locale}")
        console.say("Open this link once, in a browser of this machine; Ctrl-C ends the page.")
        with contextlib.suppress(KeyboardInterrupt):
            loopback.serve(site)


def _listen(port: int) -> Loopback:
    try:
        return Loopback(port)
    except OSError as error:
        raise InputError(f"port {port} cannot be used ({error.strerror})") from None
