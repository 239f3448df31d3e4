"""Everything a device's owner may want to know, read in one go. Owns the figures of the owner's page; prints nothing.

Only reads: consent as the gate sees it, receipts, the egress journal, the privacy ledger, placements, holdings and
requests. What cannot be read is said to be so, part by part: one damaged file does not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from client.behavior.summary import KindSummary, summarise
from client.budget import Ledger
from client.device import Node
from client.journal import read_journal
from client.requests import AskedRequest
from client.store.keys import DeviceId
from client.store.ledger_table import LedgerEntry, LedgerRefusal
from client.store.placed import NO_CHOICES, Choices, PlacedAd
from common.errors import ReticentError
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import Purpose
from common.wire.journal import JournalRow
from common.wire.messages import ConsentReceipt
from policies.consent import Permit, Refusal
from policies.schema import BudgetLine, EgressRule, PurposeRule

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PurposeView:
    """One purpose: its words, what holds now, and the receipt that says so (None where nobody decided)."""

    rule: PurposeRule
    answer: Permit | Refusal
    receipt: ConsentReceipt | None
    untold: bool


@dataclass(frozen=True, slots=True)
class LineView:
    """One line of a privacy ledger in its running period of so many days."""

    line: BudgetLine
    statement: PrivacyStatement
    remaining: float
    period_days: int


@dataclass(frozen=True, slots=True)
class Overview:
    """What one device holds, has agreed to, has sent and has chosen.

    Attributes:
        handle: its subject handle at the service; None before it enrolled.
        period_days: length of a budget period.
        journal: oldest first.
        placements: newest first.
        choices: topics that are switched off, and the declared group.
        unreadable: names of the parts that could not be read, with the error's name.
    """

    device: DeviceId
    handle: str | None
    erased: bool
    now: float
    period_days: int
    purposes: tuple[PurposeView, ...]
    receipts: tuple[ConsentReceipt, ...]
    journal: tuple[JournalRow, ...]
    lines: tuple[LineView, ...]
    entries: tuple[LedgerEntry, ...]
    refusals: tuple[LedgerRefusal, ...]
    holdings: tuple[KindSummary, ...]
    placements: tuple[PlacedAd, ...]
    choices: Choices
    requests: tuple[AskedRequest, ...]
    rules: tuple[EgressRule, ...]
    unreadable: tuple[tuple[str, str], ...]


def overview(node: Node, device: DeviceId) -> Overview:
    """The whole picture of one device, now."""
    failed: list[tuple[str, str]] = []

    def part(name: str, read: Callable[[], Sequence[T]]) -> tuple[T, ...]:
        try:
            return tuple(read())
        except ReticentError as error:
            failed.append((name, error.name))
            return ()

    documents, now = node.policies.policies, node.settings.now()
    erased = node.vault.is_erased(device)
    receipts = part("consent", lambda: node.gate.receipts(device))
    behaviour_now = node.config.behaviour_now or now
    return Overview(
        device=device,
        handle=node.gate.handle(device),
        erased=erased,
        now=now,
        period_days=documents.privacy_budget.budget_period_days,
        purposes=part("consent", lambda: _purposes(node, device, receipts)),
        receipts=receipts,
        journal=part("journal", lambda: read_journal(node.directory / "journal.db", device)),
        lines=part("ledger", lambda: _lines(node.ledger, device)) + part("ledger", lambda: _picks(node, device)),
        entries=part("ledger", lambda: node.ledger.entries(device))
        + part("ledger", lambda: node.pick_ledger.entries(device)),
        refusals=part("ledger", lambda: node.ledger.refusals(device))
        + part("ledger", lambda: node.pick_ledger.refusals(device)),
        holdings=()
        if erased
        else part("holdings", lambda: summarise(node.vault.read(device), documents.retention, behaviour_now)),
        placements=() if erased else part("placements", lambda: node.placements.read(device)),
        choices=next(iter(() if erased else part("placements", lambda: [node.choices.read(device)])), NO_CHOICES),
        requests=part("requests", lambda: node.requests.of(device)),
        rules=documents.egress.messages,
        unreadable=tuple(dict.fromkeys(failed)),
    )


def _purposes(node: Node, device: DeviceId, receipts: Sequence[ConsentReceipt]) -> list[PurposeView]:
    latest: dict[Purpose, ConsentReceipt] = {receipt.purpose: receipt for receipt in receipts}
    untold = set(node.gate.untold(device))
    return [
        PurposeView(rule, node.gate.permits(device, rule.id), latest.get(rule.id), rule.id in untold)
        for rule in node.policies.policies.purposes.purposes
    ]


def _lines(ledger: Ledger, device: DeviceId) -> list[LineView]:
    days = ledger.policy.budget_period_days
    return [
        LineView(line, ledger.statement(device, line), ledger.remaining(device, line), days)
        for line in ledger.policy.lines
    ]


def _picks(node: Node, device: DeviceId) -> list[LineView]:
    """The line of private picks, where the document has one: a ledger of its own."""
    return _lines(node.pick_ledger, device) if node.policies.policies.privacy_budget.placement is not None else []
