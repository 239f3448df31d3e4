"""Where privacy officers' caps are kept. Owns their value; hands out no rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.taxonomy import CapState, PrivacyUnit
from server.approvals import Approvals, Proposal, Refusals, shared
from server.ledger.tables import LedgerCap


@dataclass(frozen=True, slots=True, kw_only=True)
class Cap(Proposal):
    """One bound that was proposed; see ``LedgerCap``."""

    unit: PrivacyUnit
    bound: str
    epsilon_max: float
    state: CapState


def _cap(row: LedgerCap) -> Cap:
    return Cap(
        **shared(row),
        unit=PrivacyUnit(row.unit),
        bound=row.bound,
        epsilon_max=row.epsilon_max,
        state=CapState(row.state),
    )


CAPS: Final = Approvals(
    LedgerCap,
    _cap,
    Refusals(
        unknown="no such cap",
        decided="this cap is no longer waiting for a decision",
        own="who proposed this cap cannot approve it; a second privacy officer has to",
        nobody="this key has no holder: a cap is changed by a person",
    ),
)
