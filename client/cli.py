"""The device's own command line: its owner sees, takes and deletes what is held, and reads what it cost.

Owns the commands of ``reticent device``; what they print is ``client.console``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from client import console, pick_cli, placed_cli, rights_cli
from client.behavior import importing
from client.behavior.decoding import event_from_fields
from client.behavior.summary import json_lines, summarise
from client.device import OWNER, Node
from client.journal import read_journal
from client.options import Device, Home, Keys, choose, opened
from client.store.keys import DeviceId
from client.store.vault import Salvage
from common.crypto.keyfile import write_private
from common.errors import InputError, MalformedInput, VaultCorrupt
from common.taxonomy import EventKind

device_app = typer.Typer(no_args_is_help=True, help="See, take and delete what this device holds about you.")
for about_ads in (placed_cli.why, placed_cli.replay, placed_cli.group):
    device_app.command(about_ads.__name__)(about_ads)
device_app.add_typer(placed_cli.tags_app, name="tags")
device_app.command("pick")(pick_cli.pick)
for command in (rights_cli.withdraw, rights_cli.request, rights_cli.requests, rights_cli.cancel, rights_cli.package):
    device_app.command(command.__name__)(command)

StartAgain = Annotated[bool, typer.Option("--start-again", help="Begin a device anew that was erased.")]


def _begin(node: Node, device: DeviceId, *, start_again: bool) -> None:
    if start_again and node.vault.is_erased(device):
        node.vault.start_again(device)


@device_app.command("record")
def record(
    kind: Annotated[EventKind | None, typer.Argument(help="What happened.", show_default=False)] = None,
    *,
    app: Annotated[str, typer.Option(help="Which app reports it.")] = "cli",
    item: Annotated[str | None, typer.Option(help="Which item.")] = None,
    time: Annotated[str | None, typer.Option(help="ISO 8601 or seconds since the epoch.", show_default="now")] = None,
    query: Annotated[str | None, typer.Option(help="Text of a search.")] = None,
    text: Annotated[str | None, typer.Option(help="Text of a comment.")] = None,
    quantity: Annotated[float | None, typer.Option(help="How many (cart, purchase).")] = None,
    dwell_s: Annotated[float | None, typer.Option(help="Seconds looked at (view).")] = None,
    exposure_id: Annotated[str | None, typer.Option(help="The app's id of an exposure.")] = None,
    outcome: Annotated[int | None, typer.Option(help="1 or 0 (impression).")] = None,
    attribute: Annotated[list[str] | None, typer.Option(help="NAME=VALUE, may be repeated.")] = None,
    from_json: Annotated[str | None, typer.Option("--json", help="The whole event as a JSON object instead.")] = None,
    start_again: StartAgain = False,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Record one event."""
    with opened(home, keys) as node:
        chosen = choose(node, device, writing=True)
        fields: dict[str, Any] = {
            "kind": kind and kind.value, "app": app, "item": item, "time": time or node.settings.now(), "query": query,
            "text": text, "quantity": quantity, "dwell_s": dwell_s, "exposure_id": exposure_id, "outcome": outcome,
            "attributes": _pairs(attribute or []) or None,
        }  # fmt: skip
        given = {name: value for name, value in fields.items() if value is not None}
        event = event_from_fields(given if from_json is None else _json_object(from_json))
        _begin(node, chosen, start_again=start_again)
        new = node.recorder.record(chosen, event)
        console.say("recorded, encrypted, on this device" if new else "this event was recorded already")


@device_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="JSON Lines, a JSON array, or CSV.")],
    *,
    form: Annotated[str | None, typer.Option("--format", help="jsonl, json or csv.", show_default="by name")] = None,
    start_again: StartAgain = False,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Record the events of a file; a bad row costs itself and nothing else."""
    with opened(home, keys) as node:
        chosen = choose(node, device, writing=True)
        form_checked = importing.format_of(Path(f"x.{form}") if form else file)
        _begin(node, chosen, start_again=start_again)
        with console.file_progress(file) as progress:
            report = importing.import_file(node.recorder, chosen, file, form=form_checked, progress=progress)
        console.import_report(report)
        report.require_whole()


@device_app.command("show")
def show(
    *,
    events: Annotated[int, typer.Option("--events", min=0, help="Also print the latest N events.")] = 0,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """What is held, how much of it, and until when."""
    with opened(home, keys) as node:
        if device is None and len(node.vault.devices()) > 1:
            console.devices({name: node.vault.count(name) for name in node.vault.devices()}, node.directory)
            return
        chosen = choose(node, device)
        held = node.vault.read(chosen)
        now = node.config.behaviour_now or node.settings.now()
        console.holdings(summarise(held, node.policies.policies.retention, now), node.directory, chosen)
        for line in json_lines(held[-events:] if events else []):
            console.plain(line.decode().rstrip())


@device_app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="A new file; it is readable by you alone.")],
    *,
    salvage: Annotated[bool, typer.Option(help="Save what a damaged vault still holds.")] = False,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Take everything with you, as JSON Lines that `import` reads again."""
    with opened(home, keys) as node:
        chosen = choose(node, device)
        found = node.vault.salvage(chosen) if salvage else Salvage(node.vault.read(chosen), [], 0)
        try:
            write_private(file, b"".join(json_lines(found.events)))
        except FileExistsError:
            raise InputError(f"{file.name} exists already; it was not touched") from None
        except OSError as error:
            raise InputError(f"{file.name} cannot be written ({error.strerror})") from None
        console.say(f"{len(found.events)} events in {file}, unencrypted: keep it safe")
        if found.bad_sequences or found.missing:
            raise VaultCorrupt(
                f"{len(found.bad_sequences)} damaged records could not be saved "
                f"({', '.join(map(str, found.bad_sequences[:10]))}), {found.missing} were missing"
            )


@device_app.command("erase")
def erase(
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Delete everything held about you: the key first, then the records."""
    with opened(home, keys) as node:
        chosen = choose(node, device)
        if not yes and not typer.confirm(f"Delete all {node.vault.count(chosen)} events for good?"):
            console.say("nothing was deleted")
            raise typer.Exit(1)
        node.erase(chosen)
        console.say(
            "erased: the key is destroyed, the records and consent receipts are deleted. The privacy ledger keeps what "
            "was spent in this period, so that starting again does not refill it"
        )


@device_app.command("consent-status")
def consent_status(*, device: Device = None, home: Home = None, keys: Keys = None) -> None:
    """What you have agreed to, as this device sees it."""
    with opened(home, keys) as node:
        chosen = choose(node, device)
        rules = node.policies.policies.purposes.purposes
        console.consent([(rule, node.gate.permits(chosen, rule.id)) for rule in rules])


@device_app.command("journal")
def journal(device: Device = None, home: Home = None, keys: Keys = None) -> None:
    """What left this device, when and why, and what was held back."""
    with opened(home, keys) as node:
        console.journal(read_journal(node.directory / "journal.db", device))


@device_app.command("ledger")
def ledger_show(*, device: Device = None, home: Home = None, keys: Keys = None) -> None:
    """Every release that was charged, and the ones that were refused."""
    with opened(home, keys, prove=True) as node:
        known = node.ledger.devices()
        if device is not None and DeviceId(device) not in {*known, *node.vault.devices()}:
            raise InputError("this node has no device of that name")
        if device is None and len(known) > 1:
            console.ledger_overview(node.ledger)
            return
        one = DeviceId(device) if device else (known[0] if known else OWNER)
        console.ledger(node.ledger, one)
        if node.policies.policies.privacy_budget.placement is not None:
            console.say("Private picks have a ledger of their own; nothing of it is added to the lines above.")
            console.ledger(node.pick_ledger, one)


def _pairs(texts: list[str]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    if not all(name and value for name, value in pairs.items()):
        raise MalformedInput("an attribute is written NAME=VALUE")
    return pairs


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        raise MalformedInput("--json takes one JSON object") from None
    if not isinstance(value, dict):
        raise MalformedInput("--json takes one JSON object")
    return value
