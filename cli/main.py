"""``reticent``: mounts the command lines of both sides and adds what joins them. Owns words and exit codes only."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cli.ledger import ledger_app
from cli.owner.command import page
from cli.policy.command import policy_app
from client.cli import device_app
from common.errors import ReticentError
from common.taxonomy import ModelFamily, Profile
from server.cli import model_app, server_app
from server.transparency.cli import log_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Privacy-preserving personalised advertising: behaviour stays on the device.",
)
device_app.command("page")(page)
app.add_typer(device_app, name="device")
app.add_typer(ledger_app, name="ledger")
app.add_typer(server_app, name="server")
app.add_typer(model_app, name="model")
app.add_typer(log_app, name="log")
app.add_typer(policy_app, name="policy")
console = Console(stderr=True)


@contextmanager
def _named_errors() -> Iterator[None]:
    """Every error of ours becomes one line with its name, and exit status 1."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    try:
        yield
    except ReticentError as error:
        console.print(f"[bold red]{error.name}[/]: {error}", soft_wrap=True)
        raise typer.Exit(1) from None


@app.command()
def demo(
    full: Annotated[bool, typer.Option("--full", help="All 2,450 households instead of a subset.")] = False,
    devices: Annotated[int, typer.Option(min=40, help="Households in the subset.")] = 500,
    rounds: Annotated[int, typer.Option(min=1, help="Federated rounds per training.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="Of the subset, the slates and the model.")] = 0,
    out: Annotated[Path, typer.Option(help="Where results go; replaced.")] = Path("var/demo"),
    cache: Annotated[Path, typer.Option(help="Where populations are kept between runs.")] = Path("var/cache"),
) -> None:
    """From raw behaviour to a consented placement: populate, train, register, serve, place, withdraw, report."""
    from cli.demo import Demo

    with _named_errors():
        Demo(devices=None if full else devices, rounds=rounds, seed=seed, out=out, cache=cache).run()


@app.command("train-csv")
def train_csv(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.")],
    description: Annotated[
        str, typer.Option("--description", "-d", help="YAML that says what the columns mean, or a built-in name.")
    ] = "seed_v1v2v3",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the model; replaced.")] = Path("var/model"),
    profile: Annotated[
        Profile, typer.Option(help="record_local adds noise on each device; non_private is for simulations.")
    ] = Profile.RECORD_LOCAL,
    compare: Annotated[bool, typer.Option(help="Also train without privacy, to show what privacy costs.")] = True,
    rounds: Annotated[int, typer.Option(min=1)] = 20,
    family: Annotated[ModelFamily, typer.Option()] = ModelFamily.LOGISTIC,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a click/conversion model on your own table, split into simulated devices."""
    from cli.shows import show_trained, training_progress
    from cli.tables import Order, train_table
    from client.population.description import load_description

    with _named_errors(), training_progress(rounds) as (progress, watch):
        order = Order(
            table=table,
            description=load_description(description),
            folder=out,
            profile=profile,
            compare=compare,
            rounds=rounds,
            family=family,
            seed=seed,
        )
        results = train_table(order, progress=progress, watch=watch)
    show_trained(results, out)


@app.command("predict-csv")
def predict_csv(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file; a label column is not needed.")],
    model: Annotated[Path, typer.Option("--model", "-m", help="Folder written by train-csv.")] = Path("var/model"),
    out: Annotated[Path | None, typer.Option("--out", "-o", help="CSV to write; standard output if absent.")] = None,
) -> None:
    """Print the probability of a positive label for every row: ``row,probability``."""
    from cli.tables import predict_table

    with _named_errors():
        predictions = predict_table(table, model)
        target = out.open("w") if out else sys.stdout
        try:
            target.write("row,probability\n")
            for found in predictions:
                target.write(f"{found.row},{found.probability:.6f}\n")
        finally:
            if out:
                target.close()


@app.command("describe-csv")
def describe_csv(
    table: Annotated[Path, typer.Argument(help="CSV or Parquet file.")],
    label: Annotated[str | None, typer.Option(help="The label column, if its name does not say so.")] = None,
) -> None:
    """Draft a data set description from a table's column names, for you to correct and pass to train-csv."""
    from client.population.draft import draft_description

    with _named_errors():
        sys.stdout.write(draft_description(table, label=label))


@app.command("bundle")
def bundle_command(
    out: Annotated[Path, typer.Argument(help="The archive to write; replaced.")],
    personal: Annotated[bool, typer.Option(help="With receipts and records about people.")] = True,
) -> None:
    """Write one archive of evidence: log, receipts, ledger, cards, audits, policies, checkpoints, proofs, keys."""
    from cli.evidence.command import bundle

    with _named_errors():
        typer.echo(bundle(out, personal=personal))


@app.command("verify")
def verify_command(
    archive: Annotated[Path, typer.Argument(help="Written by reticent bundle.")],
    key: Annotated[str, typer.Option("--key", help="The public key (43 characters, a JWK or a file), from elsewhere.")],
    checkpoint: Annotated[
        list[Path] | None, typer.Option("--checkpoint", help="Checkpoints that somebody else kept; may be repeated.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="JSON and nothing else.")] = False,
    all_signatures: Annotated[
        bool, typer.Option("--all-signatures", help="Of every receipt, also of more than 20,000.")
    ] = False,
) -> None:
    """Verify a bundle offline: exit status 1 names the first bad row, 3: all is genuine, not all is there."""
    from cli.evidence.command import verify

    with _named_errors():
        status = verify(archive, key, checkpoint or (), as_json=json, every_signature=all_signatures)
    raise typer.Exit(status)


@app.command("audit")
def audit_command(
    profile: Annotated[
        Profile | None, typer.Option(help="Whose guarantees are tried.", show_default="the policy's")
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=100, help="Canary scores with and as many without.", show_default="20000")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Repeatable noise.", show_default="the production generator")
    ] = None,
    home: Annotated[Path | None, typer.Option("--home", help="A node whose ledger is checked too.")] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Save the findings, for evidence bundles.")] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Save the picture: .svg, .png, .pdf or .html.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A few seconds, with less power.")] = False,
) -> None:
    """Try to falsify the privacy claims on the code that trains; exit status 1 if one is false."""
    from cli.audit.command import Options, run

    with _named_errors():
        found = run(Options(profile, runs, seed, home, json, plot, quick))
    raise typer.Exit(0 if found.passed else 1)


@app.command("desk-demo")
def desk_demo(
    out: Annotated[Path, typer.Option(help="The installation's directory; must not exist.")] = Path("var/desk"),
    people: Annotated[int, typer.Option(min=60, help="Made-up people.")] = 320,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of each of two trainings.")] = 8,
    seed: Annotated[int, typer.Option(min=0, help="Of people, decisions and moments.")] = 7,
) -> None:
    """Fill an installation for a look at the privacy officer's desk; prints how to serve it and who may sign in."""
    import time

    from cli.desk_demo import DeskDemo

    with _named_errors():
        keys = DeskDemo(out, time.time, people=people, rounds=rounds, seed=seed).run()
    for holder, key in keys.items():
        typer.echo(f"{holder:<14} {key}")
    typer.echo(f"RETICENT_STATE_DIR={out} reticent server serve   # then open http://127.0.0.1:8000/desk/")


@app.command("compose-demo")
def compose_demo() -> None:
    """The fleet in containers: one training round, one consented and one refused placement."""
    from cli.compose_demo import run

    with _named_errors():
        raise typer.Exit(run())
