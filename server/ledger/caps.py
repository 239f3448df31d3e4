"""Bounds on ε that privacy officers set. Owns who may change them and when a change holds.

Lowering holds at once and needs one officer; raising needs a second person, and never reaches above the document,
which every device enforces by itself. Whoever lowers a bound ends every proposal to raise it: the strictest word is the
last one. Each step is an entry of the transparency log, in its own transaction.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from common.errors import OutOfRange
from common.taxonomy import CapState, LogKind, PrivacyUnit, Role
from policies.picks import line_of_picks
from policies.releases import line_of_unit
from policies.schema import PrivacyBudgetPolicy
from server.ledger.bounds import CAP, PICKS, PURPOSES, Bound, bound_of_picks, bounds_of, documented, officers_in_force
from server.ledger.caps_repository import CAPS, Cap
from server.ledger.service import ROOM
from server.ledger.told import Appends
from server.storage import Database, Transaction, exclusive

PROPOSAL_DAYS: Final = 7
_DAY_S: Final = 86_400


class CapService:
    """Proposes, approves and rejects caps.

    Args of the constructor:
        database: the server's.
        policy: the privacy budget document, whose bounds are the hard ones.
        log: the transparency log.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        policy: PrivacyBudgetPolicy,
        log: Appends,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._policy, self._log, self._clock = database, policy, log, clock

    def propose(self, unit: PrivacyUnit, bound: str, epsilon_max: float, *, reason: str, holder: str | None) -> Cap:
        """Ask for another bound; what lowers it is in force when this returns.

        Args:
            unit: which line.
            bound: ``cap``, or the purpose whose quota it is; ``place.personalised`` is the cap of private picks, whose
                line is another (``policies.picks``).
            epsilon_max: ε at the line's δ, at least 0; 0 stops every release.
            reason: for the record.
            holder: the person who asks.

        Raises:
            PolicyError: the document has no such line.
            OutOfRange: not a number, or more than the document allows; or no such bound.
            NotAllowed: nobody in person holds the caller's key.
        """
        person, hard = CAPS.person(holder), self._hard(unit, bound)
        if not (math.isfinite(epsilon_max) and 0 <= epsilon_max <= hard):
            raise OutOfRange(f"ε lies between 0 and {hard:g}: the privacy budget document, which every device enforces")
        now = int(self._clock())
        with self._database.write() as session:
            exclusive(session, ROOM)
            self._expire(session, now)
            draft = Cap(
                unit=unit,
                bound=bound,
                epsilon_max=epsilon_max,
                state=CapState.PROPOSED,
                reason=reason,
                proposed_by=person,
                proposed_at=now,
                expires_at=now + PROPOSAL_DAYS * _DAY_S,
            )
            cap = CAPS.add(session, draft)
            lowers = epsilon_max <= min(hard, officers_in_force(session).get((unit, bound), hard))
            return self._enforce(session, cap, person, now) if lowers else self._tell(session, cap, person)

    def approve(self, number: int, *, holder: str | None) -> Cap:
        """Put a proposal in force.

        Raises:
            NotFound: there is none of this number.
            NotPending: it was decided, replaced, or is too old.
            SecondOfficerNeeded: by the person who proposed it.
        """
        person, now = CAPS.person(holder), int(self._clock())
        with self._database.write() as session:
            exclusive(session, ROOM)
            return self._enforce(session, CAPS.waiting(session, number, now, approver=person), person, now)

    def reject(self, number: int, *, holder: str | None) -> Cap:
        """End a proposal; whoever made it may end it too.

        Raises:
            NotFound, NotPending: as ``approve``.
        """
        person, now = CAPS.person(holder), int(self._clock())
        with self._database.write() as session:
            exclusive(session, ROOM)
            cap = CAPS.waiting(session, number, now)
            return self._tell(session, replace(cap, state=CapState.REJECTED, decided_by=person, decided_at=now), person)

    def list(self, before: int | None = None, limit: int = 50) -> list[Cap]:
        """Caps that were ever proposed, newest first; a proposal that is too old shows as expired.

        Args:
            before: the last number of the page before.
            limit: how many at most.
        """
        with self._database.read() as session:
            return CAPS.newest(session, self._clock(), before=before, limit=limit)

    def in_force(self) -> Sequence[Bound]:
        """Every bound, and what binds."""
        with self._database.read() as session:
            return bounds_of(self._policy, officers_in_force(session))

    def picks_in_force(self) -> Bound | None:
        """The cap on private picks, on their own line; None where the document knows no picks."""
        if self._policy.placement is None:
            return None
        with self._database.read() as session:
            return bound_of_picks(session, self._policy.placement)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _hard(self, unit: PrivacyUnit, bound: str) -> float:
        """What the document allows under a bound."""
        rules = self._policy.placement
        if bound == PICKS and rules is not None and unit is line_of_picks(rules).unit:
            return rules.epsilon_cap
        if bound not in {CAP, *PURPOSES}:
            raise OutOfRange("a bound is the cap of a line, or the quota of a purpose for which something is released")
        return documented(line_of_unit(self._policy, unit), bound)

    def _enforce(self, session: Transaction, cap: Cap, person: str, now: int) -> Cap:
        """Put a cap in force; what stood there, and what else was proposed there, is replaced."""
        for state in (CapState.IN_FORCE, CapState.PROPOSED):
            for other in CAPS.kept_as(session, state):
                if (other.unit, other.bound) == (cap.unit, cap.bound) and other.id != cap.id:
                    CAPS.put(session, replace(other, state=CapState.REPLACED))
        return self._tell(session, replace(cap, state=CapState.IN_FORCE, decided_by=person, decided_at=now), person)

    def _expire(self, session: Transaction, now: int) -> None:
        for cap in CAPS.kept_as(session, CapState.PROPOSED):
            CAPS.put(session, cap.at(now))

    def _tell(self, session: Transaction, cap: Cap, person: str) -> Cap:
        record = cap.record(
            cap=cap.id,
            unit=cap.unit.value,
            bound=cap.bound,
            epsilon_max=cap.epsilon_max,
            document=self._hard(cap.unit, cap.bound),
        )
        seq = self._log.append(session, LogKind.CAP, record, actor=f"{Role.PRIVACY_OFFICER.value}:{person}")
        return CAPS.put(session, replace(cap, log_seq=seq))
