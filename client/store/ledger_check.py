"""Whether a privacy ledger tells one story. Owns the checks that read every row; changes nothing.

Chain and anchor say that nothing was put back or cut off; seals say that no charge was changed; totals say that what
budgets are computed from is the sum of the entries; caps say that no device is past a bound of the present document,
on ε or on the number of releases.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from client.store import ledger_table as table
from client.store.ledger_chain import MODULUS, NOTHING, RESET, Anchor, Chain, as_number
from client.store.ledger_table import Uses
from common.errors import StoreError
from policies import budget
from policies.schema import PrivacyBudgetPolicy

_SUMS: Final = (
    "SELECT e.device, c.period, r.use, SUM(r.times) FROM charges c CROSS JOIN entries e ON e.charge = c.id "
    "CROSS JOIN releases r ON r.charge = c.id GROUP BY 1, 2, 3"
)
_SPEND: Final = "SELECT device, period, use, times FROM spend"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check has found.

    Attributes:
        links, charges, entries, devices: how much was read.
        problems: what is wrong, the first bad row of each kind; empty for a ledger that tells one story.
    """

    links: int
    charges: int
    entries: int
    devices: int
    problems: tuple[str, ...]


def verify(  # noqa: PLR0917 - all of them are the ledger's own
    connection: sqlite3.Connection,
    anchor: Anchor,
    chain: Chain,
    uses: Uses,
    policy: PrivacyBudgetPolicy,
    simulation: bool,  # noqa: FBT001
) -> Verdict:
    """Check everything; one snapshot of the ledger.

    Raises:
        VaultCorrupt: the file itself is damaged.
    """
    connection.execute("BEGIN")
    try:
        problems = [
            *_file(connection),
            *_chain(chain, anchor),
            *_charges(connection, chain, anchor, uses),
            *_totals(connection),
            *_caps(connection, uses, policy, simulation=simulation),
        ]
        counts = [
            int(connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0])  # noqa: S608 - constants
            for name in ("chain", "charges", "entries", "devices")
        ]
    finally:
        connection.execute("ROLLBACK")
    links, charges, entries, devices = counts
    return Verdict(links, charges, entries, devices, tuple(problems))


def _file(connection: sqlite3.Connection) -> Iterator[str]:
    (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        yield f"file: {found}"


def _chain(chain: Chain, anchor: Anchor) -> Iterator[str]:
    """Every link since the newest reset; those before it stand for nothing any more."""
    try:
        mark = anchor.read()
        chain.confirm(mark)
    except StoreError as error:
        yield f"anchor: {error}"
        return
    links = list(chain.links())
    start = max((index for index, link in enumerate(links) if link.what == RESET), default=0)
    before = NOTHING
    for link in links[start:]:
        if not chain.genuine(link, before):
            yield f"chain: link {link.sequence} is not genuine"
            return
        before = link.link


def _charges(connection: sqlite3.Connection, chain: Chain, anchor: Anchor, uses: Uses) -> Iterator[str]:
    newest = chain.newest()
    if newest is None or anchor.read() is None:
        return
    total = table.exhaustion(connection, anchor.key)
    for charge in table.charges(connection):
        (stored,) = connection.execute("SELECT seal FROM charges WHERE id = ?", (charge.id,)).fetchone()
        total += as_number(stored)
        if charge.sealed(anchor.key, uses.texts(row.use for row in charge.releases)) != as_number(stored):
            yield f"charges: row {charge.id} was changed"
            return
        if table.member(anchor.key, charge.id, table.names_in(connection, charge.id)) != charge.members:
            yield f"entries: those of charge {charge.id} are not the ones that were written"
            return
    if total % MODULUS != as_number(newest.root):
        yield "charges: a row is missing, or one was added, or a period is no longer marked as spent"


def _totals(connection: sqlite3.Connection) -> Iterator[str]:
    for more, less, what in ((_SUMS, _SPEND, "is less than its entries"), (_SPEND, _SUMS, "is not in its entries")):
        row = connection.execute(
            f"SELECT x.device, x.period, x.use, d.name FROM ({more} EXCEPT {less}) x "  # noqa: S608 - constants
            "LEFT JOIN devices d ON d.id = x.device ORDER BY 1, 2, 3 LIMIT 1"
        ).fetchone()
        if row is not None:
            device, period, use, name = row
            yield f"spend: device {name or device}, period {period}, use {use}: what is counted {what}"
            return


def _caps(
    connection: sqlite3.Connection, uses: Uses, policy: PrivacyBudgetPolicy, *, simulation: bool
) -> Iterator[str]:
    (period,) = connection.execute("SELECT MAX(period) FROM spend").fetchone()
    if period is None:
        return
    for key, count in table.spends(connection, period):
        spent, made = uses.spent(key), budget.counted((*uses[number], times) for number, times in key)
        passed = [budget.passed(line, spent) for line in policy.lines]
        for over in (*passed, budget.too_many(policy, spent, made)):
            if over is not None and not (simulation and math.isinf(over.epsilon_would_be)):
                yield f"caps: {over.said_of(count)}"
                return
