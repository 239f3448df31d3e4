"""The officers' cap on private picks as everybody is told it. Owns that a decision has one text a quarter hour.

Signatures are deterministic (RFC 8032), so that processes which make the same document make the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable

from common.crypto.signing import SigningKey
from common.errors import NotFound
from common.taxonomy import CapState
from common.wire.documents import seal
from common.wire.pick_cap import PickCap
from policies import pick_caps
from policies.picks import line_of_picks
from policies.schema import PickRules
from server.ledger.bounds import PICKS
from server.ledger.caps_repository import CAPS, Cap
from server.storage import Database, Transaction


class CapNotice:
    """Signs what is in force."""

    def __init__(
        self, database: Database, *, rules: PickRules | None, signer: SigningKey, clock: Callable[[], float]
    ) -> None:
        self._database, self._rules, self._signer, self._clock = database, rules, signer, clock
        self._signed: tuple[PickCap, str] | None = None

    def current(self) -> str:
        """The signed cap, the same bytes for everybody until it is decided anew or a quarter of an hour is over.

        Raises:
            NotFound: the budget document knows no private picks.
        """
        if self._rules is None:
            raise NotFound("there are no private picks here")
        with self._database.read() as session:
            cap = _decided(session, self._rules)
        now = self._clock()
        decided = (0, None) if cap is None else (cap.id, cap.epsilon_max)
        made = pick_caps.made(self._rules, number=decided[0], epsilon_max=decided[1], now=now)
        known = self._signed
        if known is None or known[0] != made:
            known = self._signed = (made, seal(made, self._signer))
        return known[1]


def _decided(session: Transaction, rules: PickRules) -> Cap | None:
    """The officers' decision on private picks that is in force; None where they have decided nothing."""
    where = (line_of_picks(rules).unit, PICKS)
    return next((cap for cap in CAPS.kept_as(session, CapState.IN_FORCE) if (cap.unit, cap.bound) == where), None)
