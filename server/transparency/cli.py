"""``reticent log …``: checkpoints of the transparency log. Owns words and exit codes only."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from common.transparency.checkpoint import verifier_key
from server.cli import named_errors
from server.settings import Settings

log_app = typer.Typer(no_args_is_help=True, help="The transparency log: checkpoints for others to keep.")


@log_app.command()
def checkpoint() -> None:
    """Print the newest checkpoint, a signed note; a new one is signed if there are new entries."""
    from server.api.services import build_services

    with named_errors():
        typer.echo(build_services(Settings.from_env()).log.checkpoint(), nl=False)


@log_app.command()
def key() -> None:
    """Print the public key as tools for signed notes take it."""
    from server.api.services import build_services

    with named_errors():
        services = build_services(Settings.from_env())
        typer.echo(verifier_key(services.log.origin, services.signer.public))


@log_app.command()
def push(
    to: Annotated[str, typer.Option("--to", help="A file that is added to, or a URL that takes a POST.")],
) -> None:
    """Hand the newest checkpoint to somebody who keeps it: what shows a history that was rewritten."""
    from server.api.services import build_services
    from server.transparency.push import push_to_file, push_to_url

    with named_errors():
        services = build_services(Settings.from_env())
        if to.startswith(("http://", "https://")):
            size = push_to_url(services.log, to)
            typer.echo(f"Checkpoint of {size} entries taken.")
            return
        new = push_to_file(services.log, services.keys, Path(to))
        typer.echo(f"{new} new entries under the newest checkpoint in {to}.")
