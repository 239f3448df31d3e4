"""Whether ledger and transparency log tell one story. Owns what makes a dropped or changed charge come to light.

Each charge is the newest of its entries in the log, word for word: a row that is edited or back-dated differs from it,
one that is dropped is missing, one that was slipped in has no entry. That the log itself was not rewritten is for its
checkpoints to show, best those that somebody else keeps (``reticent verify``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from common.taxonomy import LogKind
from server.ledger.repository import StoredCharge
from server.ledger.service import ServerLedger
from server.ledger.told import charge_record
from server.transparency import repository as log


def compare(ledger: ServerLedger) -> tuple[str, ...]:
    """The first row of each kind that does not fit the log; charges older than the log's first one are left out."""
    with ledger.database.read() as session:
        entries = list(log.entries(session, kinds=(LogKind.CHARGE,)))
    told: dict[int, tuple[int, Mapping[str, Any]]] = {}
    for entry in entries:
        if entry.opening is None or entry.opening.payload_commit != entry.leaf.payload_commit:
            return (f"log: entry {entry.leaf.seq} does not open",)
        record = json.loads(entry.opening.record)
        record.pop("event", None)
        told[int(record["charge"])] = (entry.leaf.seq, record)
    rows, uses = {charge.id: charge for charge in ledger.charges()}, ledger.uses()
    first = min(told, default=None)
    found = [_missing(told, rows), _unlogged(told, rows, first)]
    for number, (seq, record) in sorted(told.items()):
        if number in rows and charge_record(rows[number], uses) != record:
            found.append(f"charges: row {number} is not what entry {seq} of the log says")
            break
    return tuple(problem for problem in found if problem)


def _missing(told: Mapping[int, tuple[int, object]], rows: Mapping[int, StoredCharge]) -> str:
    gone = min(told.keys() - rows.keys(), default=None)
    return "" if gone is None else f"charges: row {gone} is in the log (entry {told[gone][0]}) and not in the ledger"


def _unlogged(told: Mapping[int, object], rows: Mapping[int, StoredCharge], first: int | None) -> str:
    found = min((number for number in rows.keys() - told.keys() if first is not None and number > first), default=None)
    return "" if found is None else f"charges: row {found} is in the ledger and not in the log"
