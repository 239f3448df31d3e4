"""``reticent ledger``: what was spent, what would be, and whether the figures are true. Owns words and exit codes only.

``--home`` is a device's node (its owner's view), ``--database`` the server's ledger (by hashed identity).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import ledger_plan, ledger_views
from cli.ledger_plan import Plan, Spent
from cli.ledger_views import Disagreement
from client import console
from client.budget import Ledger
from client.device import Node, anchor_path, pick_ledger_paths
from client.settings import Settings, home_from_env
from client.store.keys import DeviceId
from common.errors import InputError, ReticentError
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import Task
from policies import budget, loader
from policies.picks import pick_budget
from policies.schema import PrivacyBudgetPolicy

if TYPE_CHECKING:
    from client.store.ledger_check import Verdict
    from server.ledger.check import ServerVerdict
    from server.ledger.service import ServerLedger

ledger_app = typer.Typer(no_args_is_help=True, help="What contributions have cost in privacy, and would cost.")
TOLERANCE = 0.01

Home = Annotated[
    Path | None,
    typer.Option("--home", envvar="RETICENT_HOME", help="The node's directory.", show_default="~/.reticent/device"),
]
Keys = Annotated[
    Path | None, typer.Option("--keys", envvar="RETICENT_KEYS_DIR", help="Where the keys are, if not in the home.")
]
Database = Annotated[str | None, typer.Option("--database", help="The server's database instead of a node: its URL.")]
Device = Annotated[str | None, typer.Option("--device", help="One device of the node.", show_default="all")]
Json = Annotated[bool, typer.Option("--json", help="For programs.")]
Count = Annotated[int, typer.Option(min=0)]


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Every error of ours becomes one line with its name, and exit status 1."""
    try:
        yield
    except ReticentError as error:
        console.error(error)
        raise typer.Exit(1) from None


def _settings(keys: Path | None) -> Settings:
    settings = Settings.from_env()
    return settings if keys is None else replace(settings, keys_directory=keys)


@contextlib.contextmanager
def _node(home: Path | None, keys: Path | None) -> Iterator[Node]:
    with Node.open(home or home_from_env(), _settings(keys), prove=False) as node:
        yield node


@contextlib.contextmanager
def _server(url: str) -> Iterator[ServerLedger]:
    from server.ledger.service import ServerLedger
    from server.storage import open_database

    policies = loader.load(_settings(None).policies_directory, prove=False)
    database = open_database(url)
    try:
        yield ServerLedger(database, policies.policies.privacy_budget)
    finally:
        database.close()


@ledger_app.command("show")
def show(
    *, device: Device = None, as_json: Json = False, database: Database = None, home: Home = None, keys: Keys = None
) -> None:
    """Caps and quotas of each line, what is spent and left, and every entry."""
    with _named_errors():
        if database is not None:
            _show_server(database, as_json=as_json)
            return
        with _node(home, keys) as node:
            _show_device(node, device, as_json=as_json)


def _show_device(node: Node, device: str | None, *, as_json: bool) -> None:
    ledger, known = node.ledger, node.ledger.devices()
    if device is not None and DeviceId(device) not in {*known, *node.vault.devices()}:
        raise InputError("this node has no device of that name")
    one = DeviceId(device) if device else (known[0] if len(known) == 1 else None)
    spends: list[tuple[Spent, int]] = [(ledger.spent(one), 1)] if one else ledger.spends()
    views = ledger_views.line_views(ledger.policy, spends, lost=ledger.exhausted)
    if as_json:
        ledger_views.as_json(
            {
                "period": ledger.period,
                "exhausted": ledger.exhausted,
                "lines": [asdict(view) for view in views],
                "entries": [_entry(row) for row in ledger.entries(one)],
                "refusals": [_entry(row) for row in ledger.refusals(one)],
            }
        )
        return
    if one is None and len(known) > 1:
        console.ledger_overview(ledger)
    else:
        console.ledger(ledger, one or DeviceId("owner"))
    ledger_views.lines(views)


def _entry(row: object) -> dict[str, object]:
    """An entry or refusal as plain values."""
    fields = asdict(row)  # type: ignore[call-overload]
    return {name: value.model_dump() if isinstance(value, MechanismUse) else value for name, value in fields.items()}


def _show_server(url: str, *, as_json: bool) -> None:
    with _server(url) as ledger:
        views = ledger_views.line_views(ledger.policy, ledger.spends(), lost=False)
        rows = ledger.charges()
    if as_json:
        charges = [{**asdict(row), "members": len(row.members), "settled": row.settled is not None} for row in rows]
        ledger_views.as_json({"lines": [asdict(view) for view in views], "charges": charges})
        return
    ledger_views.charges(rows)
    ledger_views.lines(views)


@ledger_app.command("project")
def project(
    rounds: Annotated[int | None, typer.Option(min=0, help="Training rounds.", show_default="the document's")] = None,
    *,
    calibrations: Count = 0,
    evaluations: Count = 0,
    histograms: Count = 0,
    measurements: Count = 0,
    weights: Annotated[int, typer.Option(min=1, help="Weights of the model.")] = 1000,
    noise_multiplier: Annotated[float | None, typer.Option("-z", help="Another z of the user-level update.")] = None,
    record_noise_multiplier: Annotated[float | None, typer.Option(help="Another z of DP-SGD on the device.")] = None,
    device: Annotated[str | None, typer.Option("--device", help="Count on top of what this device has spent.")] = None,
    as_json: Json = False,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """What a training would cost one device that takes part in all of it, and when caps and quotas are reached."""
    with _named_errors():
        policy = loader.load(_settings(None).policies_directory, prove=False).policies.privacy_budget
        tasks = {Task.CALIBRATE: calibrations, Task.EVALUATE: evaluations, Task.HISTOGRAM: histograms}
        tasks[Task.MEASURE] = measurements
        plan = Plan(
            rounds=policy.rounds_max if rounds is None else rounds,
            tasks=tasks,
            weights=weights,
            noise_multiplier=noise_multiplier,
            record_noise_multiplier=record_noise_multiplier,
        )
        spent: Spent = []
        made: budget.Made = {}
        if device is not None:
            with _node(home, keys) as node:
                spent, made = node.ledger.spent(DeviceId(device)), node.ledger.made(DeviceId(device))
        found = ledger_plan.forecast(policy, plan, spent, made)
        if as_json:
            ledger_views.as_json(ledger_views.forecast_json(plan, found))
        else:
            ledger_views.forecast(plan, found)


@ledger_app.command("recompute")
def recompute(*, as_json: Json = False, database: Database = None, home: Home = None, keys: Keys = None) -> None:
    """Derive every ε again with an independent accountant; exit status 1 if one differs by more than 1 %."""
    with _named_errors():
        if database is not None:
            with _server(database) as book:
                pairs = list(_pairs(book.releases(), book.spends(), book.policy))
        else:
            with _node(home, keys) as node:
                pairs = list(_pairs(node.ledger.releases(), node.ledger.spends(), node.ledger.policy))
        differences = [(_difference(said, again), Disagreement(what, said, again)) for what, said, again in pairs]
        worst = max((difference for difference, _ in differences), default=0.0)
        wrong = [row for difference, row in differences if difference > TOLERANCE]
        if as_json:
            figures = [asdict(row) for row in wrong]
            ledger_views.as_json({"checked": len(pairs), "largest_difference": worst, "wrong": figures})
        else:
            ledger_views.recomputed(len(pairs), worst, wrong)
        if wrong:
            raise typer.Exit(1)


def _pairs(
    releases: Iterable[tuple[MechanismUse, float, float]],
    spends: Iterable[tuple[Spent, int]],
    policy: PrivacyBudgetPolicy,
) -> Iterator[tuple[str, float, float]]:
    """Every figure with the same one derived again: releases as written down, budgets as computed."""
    for use, said, delta in releases:
        yield f"release {accountant.describe([use])}", said, recompute_epsilon([use], delta)
    for spent, count in spends:
        for line in policy.lines:
            uses = budget.uses_on(line, spent)
            if uses:
                what = f"{count} devices, {accountant.describe(uses)}"
                yield what, accountant.epsilon(uses, line.delta), recompute_epsilon(uses, line.delta)


def _difference(said: float, again: float) -> float:
    if said == again:
        return 0.0
    return abs(said - again) / again if math.isfinite(said) and math.isfinite(again) and again > 0 else math.inf


@ledger_app.command("verify")
def verify(*, as_json: Json = False, database: Database = None, home: Home = None, keys: Keys = None) -> None:
    """Check chain, anchor, totals, caps and log row by row; exit status 1 and the first bad row if one is wrong."""
    with _named_errors():
        found = _verify_node(home, keys) if database is None else _verify_server(database)
        if as_json:
            ledger_views.as_json(asdict(found))
        else:
            ledger_views.verdict(found)
        if found.problems:
            raise typer.Exit(1)


def _verify_node(home: Path | None, keys: Path | None) -> Verdict:
    with _node(home, keys) as node:
        found, picks = node.ledger.verify(), node.pick_ledger.verify()
        return replace(found, problems=(*found.problems, *(f"private picks: {one}" for one in picks.problems)))


def _verify_server(url: str) -> ServerVerdict:
    from server.ledger.check import verify as check
    from server.ledger.logged import compare

    with _server(url) as book:
        found = check(book)
        return replace(found, problems=(*found.problems, *compare(book)))


def _reset_picks(directory: Path, settings: Settings, policy: PrivacyBudgetPolicy) -> None:
    """The same for the ledger of private picks, if this node has one."""
    path, own = pick_ledger_paths(directory, settings)
    if not path.exists() and not own.exists():
        return
    _, moved = Ledger.recover(
        path, policy if policy.placement is None else pick_budget(policy), now=settings.now, anchor=own
    )
    if moved is not None:
        ledger_views.say(f"the unreadable ledger of private picks is now {moved.name}")


@ledger_app.command("reset")
def reset(
    *,
    accept_exhausted: Annotated[
        bool, typer.Option("--accept-exhausted", help="Yes, the budget of the period counts as spent.")
    ] = False,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Go on after a ledger was lost or put back: the budget of the running period counts as spent, for every device."""
    with _named_errors():
        if not accept_exhausted:
            raise InputError(
                "nobody knows what was spent, so the whole budget of the running period will count as spent for every "
                "device of this node; say --accept-exhausted if that is what you want"
            )
        settings, directory = _settings(keys), home or home_from_env()
        policy = loader.load(settings.policies_directory, prove=False).policies.privacy_budget
        anchor = anchor_path(directory, settings)
        period, moved = Ledger.recover(directory / "ledger.db", policy, now=settings.now, anchor=anchor)
        if moved is not None:
            ledger_views.say(f"the unreadable ledger is now {moved.name}")
        _reset_picks(directory, settings, policy)
        ledger_views.say(f"budget period {period} counts as spent; releases go on in the next one")
