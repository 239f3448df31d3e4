"""What the transparency log is told about the ledger. Owns the form of these records: counts and digests, no subject.

The digest of the packed members commits to exactly who was charged, by the ledger's own numbers: a row that is dropped,
edited or back-dated afterwards no longer fits the log, and the log names nobody.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from common.privacy.parameters import MechanismUse
from common.taxonomy import LogKind, ReleaseKind
from server.ledger import repository
from server.ledger.repository import StoredCharge
from server.ledger.words import Words
from server.storage import Transaction

ACTOR = "training"


class Appends(Protocol):
    """The transparency log, as far as the ledger knows it."""

    def append(
        self,
        session: Transaction,
        kind: LogKind,
        record: Mapping[str, Any],
        *,
        actor: str,
        subject: str | None = None,
    ) -> int:
        """Write an entry in this transaction; its number."""


def tell(
    log: Appends, session: Transaction, words: Words, cause: str, what: Literal["charged", "extended", "settled"]
) -> None:
    """Append what became of a charge, and note where."""
    charge = repository.charge(session, cause)
    if charge is not None:
        record = charge_record(charge, {row.use: words.use(session, row.use) for row in charge.releases}) | {
            "event": what
        }
        repository.set_log_seq(session, charge.id, log.append(session, LogKind.CHARGE, record, actor=ACTOR))


def charge_record(charge: StoredCharge, uses: Mapping[int, tuple[ReleaseKind, MechanismUse]]) -> dict[str, Any]:
    """One charge as JSON, recomputable from its row.

    Args:
        charge: the row.
        uses: what its releases stand for, by number.
    """
    return {
        "charge": charge.id,
        "cause": charge.cause,
        "run_id": charge.run_id,
        "period": charge.period,
        "day": charge.day,
        "devices": charge.devices,
        "unnamed": charge.unnamed,
        "barred": charge.barred,
        "members": hashlib.sha256(charge.members).hexdigest(),
        "settled": None if charge.settled is None else hashlib.sha256(charge.settled).hexdigest(),
        "releases": [
            {
                "kind": uses[row.use][0].value,
                "use": uses[row.use][1].model_dump(mode="json", exclude_none=True),
                "epsilon": number(row.epsilon),
                "rho": None if row.rho is None else number(row.rho),
                "delta": row.delta,
            }
            for row in charge.releases
        ],
    }


def number(value: float) -> float | str:
    """A number as JSON has it; infinity as a word."""
    return value if math.isfinite(value) else str(value)
