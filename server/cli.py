"""The server's own command line: ``reticent server …`` and ``reticent model …``. Owns words and exit codes only."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from common.errors import MalformedInput, ReticentError
from common.taxonomy import Role
from common.wire.codec import describe
from common.wire.messages import ModelManifest
from server.settings import Settings

server_app = typer.Typer(no_args_is_help=True, help="The service: keys, database, catalogue, HTTP.")
model_app = typer.Typer(no_args_is_help=True, help="The registry of signed models.")


@contextmanager
def named_errors() -> Iterator[None]:
    """An error of ours is one line and exit code 1, never a trace."""
    try:
        yield
    except ReticentError as error:
        typer.echo(f"{error.name}: {error}", err=True)
        raise typer.Exit(1) from None


@server_app.command()
def init() -> None:
    """Make what is missing: signing key, pepper, tables, the published notice. Safe to repeat."""
    from server.api.services import initialise

    settings = Settings.from_env()
    with named_errors():
        services = initialise(settings)
        notice = services.notices.current("en").notice.version
    typer.echo(f"State in {settings.state_dir}; signing key {services.signer.kid}; notice version {notice} in force.")


@server_app.command()
def migrate() -> None:
    """Bring the database to the newest revision."""
    from server.migrations import migrate as run
    from server.storage import open_database

    with named_errors():
        typer.echo(f"Database at revision {run(open_database(Settings.from_env().database_url))}.")


@server_app.command()
def serve(
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: Annotated[
        int | None, typer.Option(min=1, max=256, help="Processes that answer; WEB_CONCURRENCY where it is not given.")
    ] = None,
) -> None:
    """Answer HTTP requests until stopped."""
    import uvicorn

    from server.api.app import create_app
    from server.api.connection import CLASS

    if workers is not None:
        os.environ["WEB_CONCURRENCY"] = str(workers)  # each worker then grants its share of the rate limits
    with named_errors():
        settings = Settings.from_env()
        app = create_app(settings)
    how: dict[str, Any] = {"host": host, "port": port, "http": CLASS, "ws": "none", "access_log": False}
    how["server_header"] = False
    if settings.workers == 1:
        uvicorn.run(app, workers=1, **how)
    else:
        app.state.services.database.close()  # every worker opens its own
        uvicorn.run("server.api.app:create_app", factory=True, workers=settings.workers, **how)


@server_app.command("create-key")
def create_key(
    role: Annotated[Role, typer.Option(help="What the key may do; a device has none and signs instead.")],
    label: Annotated[str, typer.Option(help="For whom, in your own words.")] = "",
    holder: Annotated[str, typer.Option(help="The person or organisation: a short name, kept over rotations.")] = "",
    app: Annotated[str | None, typer.Option(help="Narrow an app backend's key to the subjects of one app.")] = None,
    days: Annotated[int, typer.Option(min=1, max=3660)] = 365,
) -> None:
    """Issue an API key and print it, this once."""
    from server.api.services import build_services

    if role is Role.DEVICE:
        raise typer.BadParameter("a device signs with the key that it enrols: POST /v1/subjects")
    with named_errors():
        key = build_services(Settings.from_env()).access.issue(role, label=label, holder=holder, app_id=app, days=days)
    typer.echo(key.token)


@server_app.command("public-key")
def public_key() -> None:
    """Print the public signing key, as devices pin it (JWK)."""
    from common.crypto import keyfile

    with named_errors():
        try:
            public = keyfile.load(Settings.from_env().signing_key).public
        except OSError:
            raise MalformedInput("there is no signing key; run: reticent server init") from None
    typer.echo(json.dumps({"kty": "OKP", "crv": "Ed25519", "kid": public.kid, "x": public.x}))


@server_app.command("rotate-key")
def rotate_key() -> None:
    """Put a new signing key in force, named by the old one; old documents still verify. Restart services after it."""
    from server.api.services import build_services
    from server.transparency.keys import rotate

    with named_errors():
        services = build_services(Settings.from_env())
        stored = rotate(services.database, services.log, services.settings.signing_key)
    typer.echo(
        f"Signing key {stored.key.kid} is number {stored.number}. Restart the services; pins follow by themselves."
    )


@server_app.command()
def lapse() -> None:
    """Mark grants that have ended by time or by a notice. Run it daily; what is permitted never waits for it."""
    from server.api.services import build_services

    marked = 0
    with named_errors():
        consent = build_services(Settings.from_env()).consent
        while found := consent.lapse():
            marked += found
    typer.echo(f"{marked} grants marked as ended.")


@server_app.command()
def scrub() -> None:
    """Destroy keys of tombstones whose period is over, and write the database's file anew without what was deleted.

    Run it daily: an erasure does the second by itself where it finds traces. PostgreSQL does it in its own ways.
    """
    from server.api.services import build_services

    with named_errors():
        services = build_services(Settings.from_env())
        services.picks.retire()
        keys, clean = services.ledger.retire(), services.database.scrub()
    done = "The file was written anew." if clean else "Run VACUUM FULL; its log and backups expire as you set them."
    typer.echo(f"{keys} keys of past periods destroyed. {done}")


@server_app.command("openapi")
def openapi(file: Annotated[Path | None, typer.Argument(help="Write it here instead of printing it.")] = None) -> None:
    """The OpenAPI 3.1 document of the service; docs/openapi.json holds it."""
    import tempfile

    from server.api.app import create_app
    from server.api.openapi import text
    from server.api.services import initialise

    with tempfile.TemporaryDirectory() as folder, named_errors():
        services = initialise(Settings.at(Path(folder)))
        document = text(create_app(services=services).openapi())
        services.database.close()
    if file is None:
        typer.echo(document, nl=False)
    else:
        file.write_text(document, "utf-8")


@server_app.command("store-audit")
def store_audit(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="audit --json")]) -> None:
    """Keep an audit's result: the desk shows it beside the claims, and evidence bundles hold it."""
    from server.ledger.audits import keep_audit

    with named_errors():
        stored = keep_audit(file, Settings.from_env().state_dir)
    typer.echo(f"Audit stored as {stored.name}.")


@server_app.command("publish-catalogue")
def publish_catalogue(
    file: Annotated[Path | None, typer.Argument(exists=True, dir_okay=False, help='JSON: {"creatives": […]}')] = None,
) -> None:
    """Publish what follows from the campaigns now; run it by a timer. With a file: put its creatives in force beside.

    What hints at a special category is left out and counted.
    """
    from server.api.services import build_services
    from server.campaigns.routes import CatalogueDraft

    with named_errors():
        catalogues = build_services(Settings.from_env()).catalogues
        if file is None:
            done = catalogues.compile()
        else:
            try:
                draft = CatalogueDraft.model_validate_json(file.read_bytes())
            except ValidationError as error:
                raise MalformedInput(f"{file.name}: {describe(error)}") from None
            done = catalogues.publish(draft.creatives)
    typer.echo(f"Catalogue version {done.version}: {done.creatives} creatives{'' if done.changed else ', unchanged'}.")
    if done.refused:
        told = ", ".join(f"{name} {count}" for name, count in done.refused.items())
        typer.echo(f"Left out for special categories: {told}.")


@model_app.command("list")
def list_models() -> None:
    """All registered models, newest first."""
    from server.api.services import build_services

    with named_errors():
        manifests = build_services(Settings.from_env()).registry.manifests()
    if not manifests:
        typer.echo("No model is registered.")
    for manifest in manifests:
        figures = ", ".join(f"{name} {value:.4g}" for name, value in sorted(manifest.metrics.items()))
        typer.echo(
            f"{manifest.version}  {manifest.created_at}  {manifest.run_id}  {manifest.model.family.value}  {figures}"
        )


@model_app.command()
def show(
    version: Annotated[int | None, typer.Argument(help="Default: the newest.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The disclosure card as JSON, nothing else.")] = False,  # noqa: FBT002 - a flag
    html: Annotated[Path | None, typer.Option(help="Write the disclosure card as a page here.")] = None,
) -> None:
    """A model's manifest and disclosure card: where it comes from, what it can do, what it cost in privacy."""
    from server.api.services import build_services
    from server.registry.card import card_html, card_json, card_text

    with named_errors():
        registry = build_services(Settings.from_env()).registry
        manifest, _, spec = registry.verified(version)
        card = registry.card(version) if manifest.disclosure or as_json or html else None
    if card and as_json:
        typer.echo(card_json(card))
        return
    _print_manifest(manifest)
    typer.echo(f"features     {spec.name} version {spec.version}: {len(spec.categorical)} + {len(spec.numeric)} fields")
    if card:
        typer.echo(card_text(card))
    if card and html:
        html.write_text(card_html(card), "utf-8")
        typer.echo(f"Page: {html}")


@model_app.command()
def verify(version: Annotated[int | None, typer.Argument(help="Default: the newest.")] = None) -> None:
    """Check a model as a device does: signature, features, digest, names, shapes and values of its arrays."""
    from server.api.services import build_services

    with named_errors():
        manifest, arrays, _ = build_services(Settings.from_env()).registry.verified(version)
    weights = sum(array.size for array in arrays.values())
    typer.echo(f"Model version {manifest.version} verifies: {weights} weights in {len(arrays)} arrays.")


def _print_manifest(manifest: ModelManifest) -> None:
    typer.echo(f"version      {manifest.version} of {manifest.created_at}, training {manifest.run_id}")
    typer.echo(f"family       {manifest.model.family.value}, features {manifest.model.spec_digest[:16]}…")
    typer.echo(f"arrays       {manifest.arrays_digest}")
    for name, value in sorted(manifest.metrics.items()):
        typer.echo(f"{name:<12} {value:.6g}")
    for statement in manifest.privacy:
        typer.echo(f"privacy      {statement.sentence()}")
