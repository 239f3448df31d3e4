"""``reticent policy promote | adjust | experiment | approve | reject | changes | rollback | report | stop``: words."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import click
import httpx
import typer
from rich.console import Console

from cli.policy.remote import KEY_VARIABLE, Office
from common.errors import InputError, ReticentError

Service = Annotated[str, typer.Option(envvar="RETICENT_SERVICE", help="Base URL of the service.")]
Reason = Annotated[str, typer.Option(help="For whoever decides, and for the record.")]
Evidence = Annotated[Path | None, typer.Option(help="JSON of `reticent policy evaluate --json` or of a report.")]
Number = Annotated[int, typer.Argument(min=1, help="Of the proposal.")]
_HERE = "http://127.0.0.1:8000"


def register(app: typer.Typer) -> None:
    """Add these commands to ``reticent policy``."""
    for command in (promote, adjust, experiment, approve, reject, changes, rollback, report, stop):
        app.command(command.__name__)(command)


def promote(
    document: Annotated[str, typer.Argument(help="A placement policy: a YAML file, or a ready one (ecommerce, …).")],
    reason: Reason,
    evidence: Evidence = None,
    service: Service = _HERE,
) -> None:
    """Propose a placement policy; it is in force at the next decision once another person has approved it."""
    with _office(service) as office:
        change = {"kind": "placement_policy", "text": _policy(document)}
        _told(office.propose(change, reason=reason, evidence=_evidence(evidence)))


def adjust(
    what: Annotated[str, typer.Argument(help="pause or resume a creative, or budget of a campaign.")],
    target: Annotated[str, typer.Argument(help="Id of the creative or campaign.")],
    reason: Reason,
    budget_micros: Annotated[int | None, typer.Option(min=0, help="With budget: millionths of its currency.")] = None,
    evidence: Evidence = None,
    service: Service = _HERE,
) -> None:
    """Propose to pause or resume a creative, or another budget; it happens once another person has approved it."""
    with _office(service) as office:
        if what in {"pause", "resume"} and budget_micros is None:
            change: dict[str, Any] = {"kind": "creative", "creative_id": target, "action": what}
        elif what == "budget" and budget_micros is not None:
            change = {"kind": "budget", "campaign_id": target, "budget_micros": budget_micros}
        else:
            raise InputError("say pause or resume, or budget with --budget-micros")
        _told(office.propose(change, reason=reason, evidence=_evidence(evidence)))


def experiment(
    name: Annotated[str, typer.Argument(help="Of the experiment; used once.")],
    arm: Annotated[list[str], typer.Option(help="NAME=DOCUMENT:PERCENT; the first is the policy in force.")],
    days: Annotated[float, typer.Option(min=0.01, max=366, help="How long it runs, from its approval.")],
    reason: Reason,
    fixed_horizon: Annotated[bool, typer.Option(help="One look at the end, instead of intervals at any time.")] = False,
    reward: Annotated[str, typer.Option(help="clicks or conversions, per view.")] = "clicks",
    service: Service = _HERE,
) -> None:
    """Propose an experiment; devices draw their arms by themselves once another person has approved it."""
    with _office(service) as office:
        draft = {
            "kind": "experiment",
            "experiment_id": name,
            "arms": [_arm(text) for text in arm],
            "length_s": round(days * 86_400),
            "reward": reward,
            "method": "fixed_horizon" if fixed_horizon else "sequential",
        }
        _told(office.propose(draft, reason=reason, evidence=None))


def approve(
    number: Number,
    service: Service = _HERE,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; you have read it.")] = False,
) -> None:
    """Read somebody else's proposal, and put it in force."""
    with _office(service) as office:
        wanted = office.change(number)
        typer.echo(json.dumps(wanted["change"], indent=1, ensure_ascii=False).replace("\\n", "\n"))
        typer.echo(f"proposed by {wanted['proposed_by']}: {wanted['reason']}")
        if not yes:
            typer.confirm("Put this in force?", abort=True)
        _told(office.decide(number, "approve"))


def reject(number: Number, service: Service = _HERE) -> None:
    """End a proposal, one's own included."""
    with _office(service) as office:
        _told(office.decide(number, "reject"))


def changes(service: Service = _HERE) -> None:
    """Proposals, newest first."""
    from cli.shows import show_table

    with _office(service) as office:
        rows = [
            [str(c["number"]), c["kind"], c["state"], c["proposed_by"], c["decided_by"] or "", c["reason"]]
            for c in office.changes()
        ]
        show_table("Proposals", ["number", "kind", "state", "proposed by", "decided by", "reason"], rows)


def rollback(
    reason: Reason,
    to: Annotated[
        int | None, typer.Option(min=0, help="Version; 0 is the file.", show_default="the one before")
    ] = None,
    service: Service = _HERE,
) -> None:
    """Put an earlier placement policy in force again, at the next decision; one person is enough."""
    with _office(service) as office:
        done = office.rollback(to, reason=reason)
        typer.echo(f"version {done['version']} is in force: {done['digest'][:16]}…")


def report(
    name: Annotated[str, typer.Argument(help="Of the experiment.")],
    json_: Annotated[
        Path | None, typer.Option("--json", help="All figures as JSON, as evidence for a promotion.")
    ] = None,
    service: Service = _HERE,
) -> None:
    """What an experiment has shown; exit status 1 if its split is broken, for then nothing in it can be believed."""
    from cli.policy.show import show_report

    with _office(service) as office:
        found = office.report(name)
        if json_ is not None:
            json_.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        sound = show_report(found)
    if not sound:
        raise typer.Exit(1)


def stop(
    name: Annotated[str, typer.Argument(help="Of the experiment.")], reason: Reason, service: Service = _HERE
) -> None:
    """End an experiment now; one person is enough."""
    with _office(service) as office:
        done = office.stop(name, reason=reason)
        typer.echo(f"{done['experiment_id']} is stopped")


@contextlib.contextmanager
def _office(service: str) -> Iterator[Office]:
    transport = click.get_current_context().find_object(httpx.BaseTransport)  # whoever embeds the commands may give one
    try:
        yield Office(service, os.environ.get(KEY_VARIABLE, ""), transport)
    except ReticentError as error:
        Console(stderr=True).print(f"[bold red]{error.name}[/]: {error}", soft_wrap=True)
        raise typer.Exit(1) from None


def _told(change: dict[str, Any]) -> None:
    line = f"proposal {change['number']} ({change['kind']}): {change['state']}"
    typer.echo(line if change["decided_by"] is None else f"{line} by {change['decided_by']}")


def _arm(text: str) -> dict[str, Any]:
    name, _, rest = text.partition("=")
    document, _, percent = rest.rpartition(":")
    try:
        share = round(float(percent) * 100)
    except ValueError:
        raise InputError("an arm is NAME=DOCUMENT:PERCENT") from None
    return {"name": name, "share": share, "policy_text": _policy(document)}


def _policy(document: str) -> str:
    """The text of a document, which is checked here already."""
    from policies.loader import load_placement, ready_placements

    path = ready_placements().get(document, Path(document))
    _, digest = load_placement(path)
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError(f"{path.name} was changed while it was read")
    return data.decode()


def _evidence(path: Path | None) -> dict[str, Any] | None:
    if path is None:
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{path.name} is no JSON that can be read") from None
    if not isinstance(found, dict):
        raise InputError(f"{path.name} is no JSON object")
    return found
