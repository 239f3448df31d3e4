"""What the device's commands share. Owns their common options, which device is meant, and how an error is told."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from client import console
from client.device import OWNER, Node
from client.settings import Settings, home_from_env
from client.store.keys import DeviceId
from common.errors import InputError, ReticentError

Home = Annotated[
    Path | None,
    typer.Option("--home", envvar="RETICENT_HOME", help="The node's directory.", show_default="~/.reticent/device"),
]
Keys = Annotated[
    Path | None, typer.Option("--keys", envvar="RETICENT_KEYS_DIR", help="Where the keys are, if not in the home.")
]
Device = Annotated[
    str | None, typer.Option("--device", help="Which device, if the node hosts several.", show_default="the only one")
]
Service = Annotated[
    str | None, typer.Option("--service", help="Base URL of the service.", show_default="RETICENT_SERVICE")
]


@contextlib.contextmanager
def named_errors() -> Iterator[None]:
    """Every error of ours becomes one line with its name, and exit status 1."""
    try:
        yield
    except ReticentError as error:
        console.error(error)
        raise typer.Exit(1) from None


def settings_from(keys: Path | None, service: str | None = None) -> Settings:
    """Settings of the environment, with what the command line says instead.

    Raises:
        MalformedInput: a value that is not what it must be.
    """
    settings = Settings.from_env()
    if keys is not None:
        settings = replace(settings, keys_directory=keys)
    return settings if service is None else replace(settings, service_url=service)


@contextlib.contextmanager
def opened(home: Path | None, keys: Path | None, *, service: str | None = None, prove: bool = False) -> Iterator[Node]:
    """The owner's node; policy figures need proof only where something is computed from them."""
    with named_errors(), Node.open(home or home_from_env(), settings_from(keys, service), prove=prove) as node:
        yield node


def choose(node: Node, device: str | None, *, writing: bool = False) -> DeviceId:
    """The device that is meant: the one named, the only one, or the owner's.

    Raises:
        InputError: there are several, or the named one does not exist.
    """
    held = node.vault.devices()
    if device is not None:
        if writing or device in held or node.vault.is_erased(DeviceId(device)):
            return DeviceId(device)
        raise InputError("this node has no device of that name")
    if len(held) > 1:
        raise InputError(f"this node hosts {len(held)} devices: name one with --device")
    return held[0] if held else OWNER
