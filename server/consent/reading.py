"""What holds now, and what was said before. Owns every answer about consent; changes nothing.

Nothing is cached: whoever asks reads the database, inside the caller's transaction where there is one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common.crypto.signing import PublicKey, SigningKey, key_ring
from common.errors import NotFound, TrustError
from common.taxonomy import ConsentState, Purpose, RefusalReason
from common.wire.consent import PurposeStanding
from common.wire.documents import open_document, seal
from common.wire.messages import ConsentReceipt, ConsentStanding
from policies.consent import ConsentSnapshot, Permit, Refusal, decide
from policies.schema import PurposesPolicy
from server.consent import overview, repository
from server.consent.overview import Found, Rate
from server.consent.repository import StoredEvent, SubjectFacts
from server.controls import repository as controls
from server.storage import Database, Transaction

STANDING_S: Final = 300
_LAPSED: Final = {RefusalReason.EXPIRED: ConsentState.EXPIRED, RefusalReason.SUPERSEDED: ConsentState.SUPERSEDED}


@dataclass(frozen=True, slots=True)
class Effective:
    """What holds now for one purpose.

    Attributes:
        state: as decided, or EXPIRED / SUPERSEDED where a grant has lapsed.
        reason: why it is not permitted; None if it is.
        valid_until: seconds since the epoch; None without a permit.
    """

    purpose: Purpose
    state: ConsentState
    permitted: bool
    reason: RefusalReason | None
    valid_until: int | None


@dataclass(frozen=True, slots=True)
class ReceiptVerdict:
    """What a receipt proves."""

    genuine: bool
    latest: bool
    receipt: ConsentReceipt | None


class ConsentReader:
    """Answers about the consent of subjects, on one database.

    Args of the constructor:
        database: the server's.
        rules: the purposes document.
        signer: signs standings.
        keys: every key whose receipts are genuine, retired ones included; the signer's alone by default.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        *,
        rules: PurposesPolicy,
        signer: SigningKey,
        keys: Mapping[str, PublicKey] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._rules, self._signer, self._clock = database, rules, signer, clock
        self._keys = key_ring(signer.public) if keys is None else keys

    def permit(
        self, session: Transaction, found: SubjectFacts | None, purpose: Purpose, *, signal_opt_out: bool = False
    ) -> Permit | Refusal:
        """Whether a purpose is permitted, decided inside the caller's transaction."""
        state = self._snapshot(session, found)
        return decide(replace(state, signal_opt_out=signal_opt_out), purpose, self._clock(), self._rules)

    def judged(self, _handle: str, state: ConsentSnapshot, purpose: Purpose) -> Permit | Refusal:
        """Whether a purpose is permitted to somebody, in the state that the caller's transaction has read of them.

        Args:
            _handle: whom, empty for somebody who is not known; the rule must not look at it.
            state: as it stands in that transaction; nothing else is looked at.
            purpose: what one wants to do.
        """
        return decide(state, purpose, self._clock(), self._rules)

    def permitted_keys(self, session: Transaction, public_keys: Sequence[str], purpose: Purpose) -> dict[str, bool]:
        """Whether everybody who enrolled with each key permits the purpose; a key that nobody enrolled is not in it."""
        found, now = repository.subjects_of_keys(session, public_keys), self._clock()
        everybody = [one for some in found.values() for one in some]
        states = repository.snapshots(session, everybody, stopped=controls.stopped_purposes(session))
        return {
            key: all(isinstance(decide(states[one.handle], purpose, now, self._rules), Permit) for one in some)
            for key, some in found.items()
        }

    def stopped_for_all(self, session: Transaction, purpose: Purpose) -> bool:
        """Whether a purpose, or one that it needs, is stopped everywhere."""
        stopped, wanted = controls.stopped_purposes(session)(None), [purpose]
        for one in wanted:
            wanted += [n for rule in self._rules.purposes if rule.id is one for n in rule.requires if n not in wanted]
        return not stopped.isdisjoint(wanted)

    def effective(
        self,
        handle: str,
        purposes: Iterable[Purpose] = tuple(Purpose),
        *,
        app_id: str | None = None,
        opposed: Callable[[str], Container[Purpose]] | Container[Purpose] = frozenset(),
    ) -> list[Effective]:
        """What holds now; an unknown subject gets refusals, not an error.

        Args:
            handle: whom.
            purposes: which purposes are asked about.
            app_id: narrows who counts as known.
            opposed: purposes that privacy signals oppose, directly or through what they need; or how to find them for
                a jurisdiction.
        """
        now = self._clock()
        with self._database.read() as session:
            found = repository.subject(session, handle, app_id=app_id)
            state = self._snapshot(session, found)
        against = opposed("" if found is None else found.jurisdiction) if callable(opposed) else opposed
        seen = {purpose: replace(state, signal_opt_out=purpose in against) for purpose in purposes}
        return [_effective(found, decide(found, purpose, now, self._rules)) for purpose, found in seen.items()]

    def standing(self, handle: str) -> ConsentStanding:
        """Everything that holds for one subject at this moment; of an unknown one, that nothing does."""
        now = self._clock()
        with self._database.read() as session:
            found = repository.subject(session, handle)
            state, reasks = self._snapshot(session, found), repository.reasks(session, handle)
            campaigns = controls.stopped_campaigns(session)
        held = [_effective(state, decide(state, purpose, now, self._rules)) for purpose in Purpose]
        return ConsentStanding(
            handle=handle,
            purposes=tuple(
                PurposeStanding(
                    purpose=one.purpose,
                    state=one.state,
                    permitted=one.permitted,
                    reason=one.reason,
                    valid_until=one.valid_until,
                    reask_not_before=reasks.get(one.purpose),
                )
                for one in held
            ),
            objection=state.objection,
            restricted=state.restricted,
            stopped=tuple(sorted(state.stopped)),
            stopped_campaigns=tuple(sorted(campaigns)),
            issued_at=int(now),
            expires_at=int(now) + STANDING_S,
        )

    def sealed(self, standing: ConsentStanding) -> str:
        """A standing as a signed document."""
        return seal(standing, self._signer)

    def history(self, handle: str) -> Sequence[StoredEvent]:
        """Every event of a subject, oldest first."""
        with self._database.read() as session:
            return repository.history(session, handle)

    def event(self, receipt_id: str) -> StoredEvent:
        """The event of one receipt.

        Raises:
            NotFound: there is none.
        """
        with self._database.read() as session:
            found = repository.event(session, receipt_id)
        if found is None:
            raise NotFound("no such receipt")
        return found

    def verify(self, jws: str) -> ReceiptVerdict:
        """Whether a receipt was signed here, and whether it still is the latest word on its purpose."""
        try:
            receipt = open_document(jws, ConsentReceipt, self._keys)
        except TrustError:
            return ReceiptVerdict(genuine=False, latest=False, receipt=None)
        with self._database.read() as session:
            latest = repository.is_latest(session, receipt.receipt_id)
        return ReceiptVerdict(genuine=latest is not None, latest=bool(latest), receipt=receipt)

    def rates(self) -> list[Rate]:
        """Consent rates by purpose, jurisdiction and notice version."""
        with self._database.read() as session:
            return overview.rates(session, now=int(self._clock()))

    def find(self, wanted: str) -> Found | None:
        """One person by receipt id or handle; None if neither is known."""
        with self._database.read() as session:
            return overview.find(session, wanted)

    @staticmethod
    def _snapshot(session: Transaction, found: SubjectFacts | None) -> ConsentSnapshot:
        return repository.snapshot(session, found, stopped=controls.stopped_purposes(session))


def _effective(state: ConsentSnapshot, answer: Permit | Refusal) -> Effective:
    """What holds now, with a lapsed grant named as such."""
    fact = state.facts.get(answer.purpose)
    stored = ConsentState.UNKNOWN if fact is None else fact.state
    if isinstance(answer, Permit):
        return Effective(answer.purpose, stored, permitted=True, reason=None, valid_until=int(answer.valid_until))
    lapsed = _LAPSED.get(answer.reason, stored)
    return Effective(answer.purpose, lapsed, permitted=False, reason=answer.reason, valid_until=None)
