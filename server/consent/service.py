"""Consent. Owns every change of it: enrolment, requests, grants, withdrawals, and how a grant ends without its person.

An event, its receipt, its log entry and the projection are one transaction. States: unknown, then requested, then given
or refused; a grant ends withdrawn, expired, superseded or invalidated; from each end only a new request leads back. An
answer is evidence that the question was put, so it brings its request with it where none is pending.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from common.crypto.signing import PublicKey, SigningKey
from common.errors import AskedTooEarly, NotFound, NoticeExpired, UnknownNotice
from common.taxonomy import AgeBand, ConsentMethod, ConsentState, InvalidationReason, Purpose, Role
from common.wire.consent import SignalEvidence
from common.wire.messages import ConsentChange, ConsentWithdrawal, SubjectEnrolment
from policies.notices import Locale
from server.consent import notice_repository, repository
from server.consent.reading import ConsentReader
from server.consent.recording import DAY_S, SYSTEM, Circumstances, EventLog, Receipt, Recorder, Rulebook
from server.consent.repository import SubjectFacts
from server.storage import Database, Transaction


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """Purposes that a person is about to be asked about, under the notice that is shown."""

    handle: str
    notice_digest: str
    purposes: tuple[Purpose, ...]
    locale: Locale
    surface: str


class ConsentService(ConsentReader):
    """Consent of subjects, on one database: all answers, and all changes.

    Args of the constructor:
        database: the server's.
        rulebook: what every record states.
        signer: signs receipts and standings.
        log: the transparency log; every event is in it or did not happen.
        keys: every key whose receipts are genuine, retired ones included; the signer's alone by default.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        *,
        rulebook: Rulebook,
        signer: SigningKey,
        log: EventLog,
        keys: Mapping[str, PublicKey] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(database, rules=rulebook.purposes, signer=signer, keys=keys, clock=clock)
        self._recorder = Recorder(rulebook, signer=signer, log=log, clock=clock)

    # ── what people do ───────────────────────────────────────────────────────────────────────────────────────────────

    def enrol(self, enrolment: SubjectEnrolment) -> str:
        """A fresh random handle (128 bits) for a device."""
        handle = secrets.token_urlsafe(16)
        with self._database.write() as session:
            repository.add_subject(session, handle, enrolment, day=int(self._clock() // DAY_S))
        return handle

    def request(self, wanted: ConsentRequest, actor: Role, *, app_id: str | None = None) -> list[Receipt]:
        """Record that a person is asked. A live grant stands until they answer.

        Raises:
            NotFound: the subject is not known.
            UnknownNotice, NoticeExpired: the notice was never published in this language, or is retired.
            AskedTooEarly: their last no still keeps them from being asked.
        """
        with self._database.write() as session:
            found = self._locked(session, wanted.handle, app_id)
            self._check_notice(session, wanted.notice_digest, wanted.locale)
            reasks, now = repository.reasks(session, found.handle), self._clock()
            if any(now < reasks.get(purpose, 0) for purpose in wanted.purposes):
                raise AskedTooEarly("the last no of this person keeps them from being asked again yet")
            under = Circumstances(wanted.notice_digest, wanted.locale, wanted.surface, actor, ConsentMethod.API)
            return [self._ask(session, found, purpose, under) for purpose in sorted(set(wanted.purposes))]

    def change(
        self,
        change: ConsentChange,
        actor: Role,
        *,
        app_id: str | None = None,
        heard: Callable[[str], SignalEvidence] | None = None,
    ) -> list[Receipt]:
        """Record grants and refusals.

        Args:
            change: the decisions.
            actor: role of whoever reports them.
            app_id: narrows who counts as known.
            heard: the privacy signals that came with them, as they count in a jurisdiction; a purpose that they oppose
                is not permitted by its grant.

        Raises:
            NotFound: the subject is not known.
            UnknownNotice, NoticeExpired: the notice was never published in this language, or is retired.
        """
        with self._database.write() as session:
            found = self._locked(session, change.handle, app_id)
            self._check_notice(session, change.notice_digest, change.locale)
            under = Circumstances(
                change.notice_digest,
                change.locale,
                change.surface,
                actor,
                change.method,
                signals=SignalEvidence() if heard is None else heard(found.jurisdiction),
            )
            return [
                self._answer(session, found, purpose, ConsentState(answer), under)
                for purpose, answer in sorted(change.decisions.items())
            ]

    def withdraw(self, withdrawal: ConsentWithdrawal, actor: Role, *, app_id: str | None = None) -> list[Receipt]:
        """Withdraw grants, those too that have ended by themselves: it is a no, whoever noticed the end first.

        Repeating it changes nothing and returns the same receipts; what was never decided has none.

        Raises:
            NotFound: the subject is not known.
        """
        wanted = tuple(Purpose) if withdrawal.purposes == "all" else withdrawal.purposes
        with self._database.write() as session:
            found = self._locked(session, withdrawal.handle, app_id)
            ended = (
                self._end(session, found, purpose, ConsentState.WITHDRAWN, entity=actor, method=withdrawal.method)
                for purpose in sorted(set(wanted))
            )
            return [receipt for receipt in ended if receipt is not None]

    # ── what officers and time do ────────────────────────────────────────────────────────────────────────────────────

    def invalidate(self, receipt_id: str, reason: InvalidationReason, *, actor: str) -> Receipt:
        """End a grant that never was a valid consent. Repeating it changes nothing, nor does it touch a later grant.

        Args:
            receipt_id: of the grant.
            reason: why.
            actor: for the log: role and holder.

        Returns:
            The receipt of what ended the grant; where it had ended before, the last decision's.

        Raises:
            NotFound: there is no such receipt, or it is of no decision.
        """
        with self._database.write() as session:
            event = repository.event(session, receipt_id)
            last = None if event is None else repository.latest_event(session, event.handle, event.purpose)
            if event is None or last is None:
                raise NotFound("no such receipt of a decision")
            if event.receipt_id != last.receipt_id:
                return Receipt.of(last)
            found = self._locked(session, event.handle, None)
            ended = self._end(
                session, found, event.purpose, ConsentState.INVALIDATED,
                entity=Role.PRIVACY_OFFICER, method=ConsentMethod.OFFICER, actor=actor, reason=reason,
            )  # fmt: skip
            return Receipt.of(last) if ended is None else ended

    def lapse(self, limit: int = 1000) -> int:
        """Mark grants that have ended by time or by a notice; how many. Nothing is permitted by this being late."""
        with self._database.read() as session:
            due = repository.lapsed(session, now=int(self._clock()), limit=limit)
        marked = 0
        for handle in sorted({handle for handle, _ in due}):
            with self._database.write() as session:
                found = repository.subject(session, handle, lock="change")
                if found is not None:
                    marked += self._settle(session, found, [p for h, p in due if h == handle])
        return marked

    # ── what data-subject requests do, inside their transaction ──────────────────────────────────────────────────────

    def object(self, session: Transaction, handle: str, *, on: bool = True, actor: str = "device") -> None:
        """Record or lift a general objection to personalised treatment; it outlives every grant.

        Raises:
            NotFound: the subject is not known.
        """
        found = self._locked(session, handle, None)
        repository.set_flags(session, handle, objected=on)
        self._recorder.mark(session, found, {"event": "objection", "on": on}, actor=actor)

    def restrict(self, session: Transaction, handle: str, *, on: bool, actor: str = "device") -> None:
        """Restrict processing to storage, or lift that.

        Raises:
            NotFound: the subject is not known.
        """
        found = self._locked(session, handle, None)
        repository.set_flags(session, handle, restricted=on)
        self._recorder.mark(session, found, {"event": "restriction", "on": on}, actor=actor)

    def rectify_age_band(
        self, session: Transaction, handle: str, age_band: AgeBand, *, actor: str = "device"
    ) -> list[Receipt]:
        """Correct a declared age band. Grants made under the wrong one end: they were somebody else's to give.

        Raises:
            NotFound: the subject is not known.
        """
        found = self._locked(session, handle, None)
        if found.age_band is age_band:
            return []
        repository.set_age_band(session, handle, age_band)
        record = {"event": "age_band", "from": found.age_band.value, "to": age_band.value}
        self._recorder.mark(session, found, record, actor=actor)
        now = replace(found, age_band=age_band)
        given = [p for p, fact in repository.snapshot(session, now).facts.items() if fact.state is ConsentState.GIVEN]
        ended = (
            self._end(
                session, now, purpose, ConsentState.INVALIDATED,
                entity=SYSTEM, method=ConsentMethod.REQUEST, actor=actor, reason=InvalidationReason.NOT_AN_ADULT,
            )
            for purpose in sorted(given)
        )  # fmt: skip
        return [receipt for receipt in ended if receipt is not None]

    def forget(self, session: Transaction, handle: str) -> int:
        """Delete a subject with all events, receipts and states; how many rows. The log's records are not this room's.

        Raises:
            NotFound: the subject is not known.
        """
        self._locked(session, handle, None)
        return repository.forget(session, handle)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _locked(self, session: Transaction, handle: str, app_id: str | None) -> SubjectFacts:
        found = repository.subject(session, handle, app_id=app_id, lock="change")
        if found is None:
            raise NotFound("no such subject")
        return found

    def _check_notice(self, session: Transaction, digest: str, locale: str) -> None:
        notice = notice_repository.notice(session, digest)
        if notice is None or notice.notice.locale != locale:
            raise UnknownNotice("no notice with this digest was published here in this language")
        if notice.retired_at is not None:
            raise NoticeExpired(f"notice version {notice.notice.version} is no longer in force; show the current one")

    def _ask(self, session: Transaction, found: SubjectFacts, purpose: Purpose, under: Circumstances) -> Receipt:
        """A question is the purpose's state unless a grant stands."""
        last = repository.latest_event(session, found.handle, purpose)
        standing = last is not None and last.state is ConsentState.GIVEN
        return self._recorder.record(
            session, found, purpose, ConsentState.REQUESTED, under=under, projected=not standing
        )

    def _answer(
        self, session: Transaction, found: SubjectFacts, purpose: Purpose, state: ConsentState, under: Circumstances
    ) -> Receipt:
        """An answer, with its question where none is pending under the same notice."""
        self._settle(session, found, [purpose])
        last = repository.latest_event(session, found.handle, purpose, decided=False)
        pending = last is not None and last.state is ConsentState.REQUESTED
        if last is None or not pending or last.notice_digest != under.notice_digest:
            self._recorder.record(session, found, purpose, ConsentState.REQUESTED, under=under, projected=False)
        return self._recorder.record(session, found, purpose, state, under=under)

    def _end(
        self,
        session: Transaction,
        found: SubjectFacts,
        purpose: Purpose,
        state: ConsentState,
        *,
        entity: Role | Literal["system"],
        method: ConsentMethod,
        actor: str = "",
        reason: InvalidationReason | None = None,
    ) -> Receipt | None:
        """End a grant; where there is none to end, the last decision's receipt again.

        A withdrawal also follows an end that was nobody's no: whether a lapse was marked yet must not decide if people
        are asked again.
        """
        last = repository.latest_event(session, found.handle, purpose)
        if last is None:
            return None
        refused = last.state in (ConsentState.REFUSED, ConsentState.WITHDRAWN)
        if refused if state is ConsentState.WITHDRAWN else last.state is not ConsentState.GIVEN:
            return Receipt.of(last)
        under = replace(Circumstances.of(last, entity, method), actor=actor, reason=reason)
        return self._recorder.record(session, found, purpose, state, under=under)

    def _settle(self, session: Transaction, found: SubjectFacts, purposes: Iterable[Purpose]) -> int:
        """Mark lapsed grants of one subject."""
        marked, now, state = 0, self._clock(), repository.snapshot(session, found)
        for purpose in purposes:
            fact = state.facts.get(purpose)
            if fact is None or fact.state is not ConsentState.GIVEN:
                continue
            current = fact.notice_digest in state.current_notices
            if current and now < fact.valid_until:
                continue
            ended = ConsentState.EXPIRED if current else ConsentState.SUPERSEDED
            self._end(session, found, purpose, ended, entity=SYSTEM, method=ConsentMethod.CLOCK)
            marked += 1
        return marked
