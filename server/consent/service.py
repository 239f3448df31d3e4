"""Consent. Owns enrolment, grants, withdrawals, their receipts, and what is effective now.

An event, its receipt and the projection are one transaction. Nothing is cached: whoever asks reads the database.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass, replace

from common.crypto.signing import SigningKey, key_ring
from common.errors import NotFound, NoticeExpired, TrustError, UnknownNotice
from common.taxonomy import ConsentState, Purpose, RefusalReason, Role
from common.wire.documents import open_document, seal
from common.wire.messages import ConsentChange, ConsentReceipt, ConsentWithdrawal, SubjectEnrolment
from policies.consent import ConsentSnapshot, Permit, Refusal, decide
from policies.notices import Locale
from policies.schema import PurposesPolicy
from server.consent import repository
from server.consent.repository import StoredEvent, SubjectFacts
from server.storage import Database, Transaction

_DAY_S = 86_400
_LAPSED = {RefusalReason.EXPIRED: ConsentState.EXPIRED, RefusalReason.SUPERSEDED: ConsentState.SUPERSEDED}


@dataclass(frozen=True, slots=True)
class Receipt:
    """One signed receipt."""

    receipt_id: str
    purpose: Purpose
    state: ConsentState
    valid_until: int
    jws: str


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


@dataclass(frozen=True, slots=True)
class _Circumstances:
    """Under which notice, in which language, where and through whom a decision was made."""

    notice_digest: str
    locale: Locale
    surface: str
    actor: Role


class ConsentService:
    """Consent of subjects, on one database."""

    def __init__(
        self,
        database: Database,
        *,
        rules: PurposesPolicy,
        signer: SigningKey,
        controller: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._rules, self._signer = database, rules, signer
        self._controller, self._clock = controller, clock

    def enrol(self, enrolment: SubjectEnrolment) -> str:
        """A fresh random handle (128 bits) for a device."""
        handle = secrets.token_urlsafe(16)
        with self._database.write() as session:
            repository.add_subject(session, handle, enrolment, day=int(self._clock() // _DAY_S))
        return handle

    def change(self, change: ConsentChange, actor: Role, *, app_id: str | None = None) -> list[Receipt]:
        """Record grants and refusals. ``app_id`` narrows who counts as known.

        Raises:
            NotFound: the subject is not known.
            UnknownNotice, NoticeExpired: the notice was never published in this language, or is retired.
        """
        with self._database.write() as session:
            found = self._locked(session, change.handle, app_id)
            self._check_notice(session, change.notice_digest, change.locale)
            under = _Circumstances(change.notice_digest, change.locale, change.surface, actor)
            return [
                self._record(session, found, purpose, ConsentState(answer), under=under)
                for purpose, answer in sorted(change.decisions.items())
            ]

    def withdraw(self, withdrawal: ConsentWithdrawal, actor: Role, *, app_id: str | None = None) -> list[Receipt]:
        """Withdraw grants. Repeating it changes nothing and returns the same receipts; what was never decided has none.

        Raises:
            NotFound: the subject is not known.
        """
        wanted = tuple(Purpose) if withdrawal.purposes == "all" else withdrawal.purposes
        with self._database.write() as session:
            found = self._locked(session, withdrawal.handle, app_id)
            receipts = (self._withdraw(session, found, purpose, actor) for purpose in sorted(set(wanted)))
            return [receipt for receipt in receipts if receipt is not None]

    def permit(
        self, session: Transaction, found: SubjectFacts | None, purpose: Purpose, *, signal_opt_out: bool
    ) -> Permit | Refusal:
        """Whether a purpose is permitted, decided inside the caller's transaction."""
        state = repository.snapshot(session, found, signal_opt_out=signal_opt_out)
        return decide(state, purpose, self._clock(), self._rules)

    def effective(
        self,
        handle: str,
        purposes: Iterable[Purpose] = tuple(Purpose),
        *,
        app_id: str | None = None,
        opposed: Container[Purpose] = frozenset(),
    ) -> list[Effective]:
        """What holds now; an unknown subject gets refusals, not an error.

        Args:
            handle: whom.
            purposes: which purposes are asked about.
            app_id: narrows who counts as known.
            opposed: purposes that privacy signals oppose, directly or through what they need.
        """
        now = self._clock()
        with self._database.read() as session:
            found = repository.subject(session, handle, app_id=app_id)
            state = repository.snapshot(session, found)
        seen = {purpose: replace(state, signal_opt_out=purpose in opposed) for purpose in purposes}
        return [_effective(found, decide(found, purpose, now, self._rules)) for purpose, found in seen.items()]

    def history(self, handle: str) -> Sequence[StoredEvent]:
        """Every decision of a subject, oldest first."""
        with self._database.read() as session:
            return repository.history(session, handle)

    def verify(self, jws: str) -> ReceiptVerdict:
        """Whether a receipt was signed here, and whether it still is the latest word on its purpose."""
        try:
            receipt = open_document(jws, ConsentReceipt, key_ring(self._signer.public))
        except TrustError:
            return ReceiptVerdict(genuine=False, latest=False, receipt=None)
        with self._database.read() as session:
            latest = repository.is_latest(session, receipt.receipt_id)
        return ReceiptVerdict(genuine=latest is not None, latest=bool(latest), receipt=receipt)

    def _locked(self, session: Transaction, handle: str, app_id: str | None) -> SubjectFacts:
        found = repository.subject(session, handle, app_id=app_id, lock="change")
        if found is None:
            raise NotFound("no such subject")
        return found

    def _check_notice(self, session: Transaction, digest: str, locale: str) -> None:
        notice = repository.notice(session, digest)
        if notice is None or notice.notice.locale != locale:
            raise UnknownNotice("no notice with this digest was published here in this language")
        if notice.retired_at is not None:
            raise NoticeExpired(f"notice version {notice.notice.version} is no longer in force; show the current one")

    def _record(
        self,
        session: Transaction,
        found: SubjectFacts,
        purpose: Purpose,
        state: ConsentState,
        *,
        under: _Circumstances,
    ) -> Receipt:
        """Append one decision, later than the last one: receipts of one purpose have one order."""
        last = repository.latest_event(session, found.handle, purpose)
        moment = max(int(self._clock()), 0 if last is None else last.event_time + 1)
        receipt = ConsentReceipt(
            receipt_id=f"rcp_{secrets.token_urlsafe(16)}",
            handle=found.handle,
            purpose=purpose,
            state=state,
            age_band=found.age_band,
            notice_digest=under.notice_digest,
            event_time=moment,
            valid_until=moment + (self._rules.validity_days_default * _DAY_S if state is ConsentState.GIVEN else 0),
            locale=under.locale,
            jurisdiction=found.jurisdiction,
            controller=self._controller,
        )
        jws = seal(receipt, self._signer)
        repository.add_event(session, receipt, jws, surface=under.surface, actor=under.actor.value)
        return Receipt(receipt.receipt_id, purpose, state, receipt.valid_until, jws)

    def _withdraw(self, session: Transaction, found: SubjectFacts, purpose: Purpose, actor: Role) -> Receipt | None:
        last = repository.latest_event(session, found.handle, purpose)
        if last is None:
            return None
        if last.state is not ConsentState.GIVEN:
            return Receipt(last.receipt_id, last.purpose, last.state, last.valid_until, last.receipt)
        under = _Circumstances(last.notice_digest, last.locale, last.surface, actor)
        return self._record(session, found, purpose, ConsentState.WITHDRAWN, under=under)


def _effective(state: ConsentSnapshot, answer: Permit | Refusal) -> Effective:
    """What holds now, with a lapsed grant named as such."""
    fact = state.facts.get(answer.purpose)
    stored = ConsentState.UNKNOWN if fact is None else fact.state
    if isinstance(answer, Permit):
        return Effective(answer.purpose, stored, permitted=True, reason=None, valid_until=int(answer.valid_until))
    lapsed = _LAPSED.get(answer.reason, stored)
    return Effective(answer.purpose, lapsed, permitted=False, reason=answer.reason, valid_until=None)
