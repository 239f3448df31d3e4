"""Requests of data subjects. Owns their states, what each one does, and the signed word on it.

``pending → in_progress → completed``, ``denied`` or ``cancelled``. A request that the person's own device has signed is
done at once where the policy document lets it; everything else waits for an officer. Whatever is done, its log entry,
its status and its acknowledgement are one transaction. An erasure that waits already restricts all processing.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from common.crypto.signing import SigningKey
from common.errors import NotAllowed, NotFound, NotPending, SecondOfficerNeeded, StorageUnavailable
from common.taxonomy import AgeBand, DenialReason, LogKind, RequestKind, RequestStatus, Role
from common.wire.documents import seal
from common.wire.requests import RequestAcknowledgement, proven_identity
from common.wire.subject import SubjectRequest
from policies.requests import due_at, is_automatic, law_of
from policies.schema import RequestsPolicy
from server.access.principal import Principal
from server.consent import repository as subjects
from server.consent.repository import SubjectFacts
from server.requests import repository
from server.requests.erasure import Erased, Rooms
from server.requests.repository import BY_DEVICE, BY_OFFICER, OPEN, Request, Step
from server.storage import Transaction

PACKAGED: Final = frozenset({RequestKind.ACCESS, RequestKind.PORTABILITY})
_DAY_S: Final = 86_400
_LOG: Final = logging.getLogger(__name__)


class RequestService:
    """Takes, answers and carries out requests.

    Args of the constructor:
        rooms: every room that holds something about subjects.
        rules: deadlines, and what needs an officer.
        signer: signs acknowledgements.
        controller: who is responsible, in words.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        rooms: Rooms,
        *,
        rules: RequestsPolicy,
        signer: SigningKey,
        controller: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rooms, self._database = rooms, rooms.database
        self._rules, self._signer, self._controller, self._clock = rules, signer, controller, clock

    # ── what subjects do ─────────────────────────────────────────────────────────────────────────────────────────────

    def submit(self, wanted: SubjectRequest, caller: Principal) -> Request:
        """Take a request, and do what needs no officer. The same one, still open, is not taken twice.

        Args:
            wanted: what is asked.
            caller: the subject's own device, or an officer who has seen proof of identity elsewhere.

        Raises:
            NotAllowed: a device asks for another subject; or an officer would lift what a person has put up.
            NotFound: the subject is not known.
            TrustError: a proof of another ledger identity does not verify.
        """
        own = caller.role is Role.DEVICE
        if own and caller.subject != wanted.handle:
            raise NotAllowed("a device speaks for its own subject only")
        if wanted.lift and not own:
            raise NotAllowed("only the person's own device lifts an objection or a restriction")
        now = self._clock()
        proof = wanted.ledger_proof
        proven = None if proof is None else proven_identity(proof, wanted.handle, now)
        facts = self._facts(wanted.handle)
        request = self._draft(wanted, facts, BY_DEVICE if own else BY_OFFICER, int(now), caller.actor)
        at_once = own and is_automatic(self._rules, wanted.request, becoming=wanted.age_band, was=facts.age_band)
        if at_once:
            return self._carry_out(request, caller.actor, proven=proven, new=True)
        with self._database.write() as session:
            self._locked(session, wanted.handle)
            standing = self._standing(session, request)
            if standing is not None:
                return standing
            if request.request is RequestKind.ERASURE:
                self._rooms.ledger.bury(session, self._rooms.identities(session, wanted.handle, proven))
                self._rooms.consent.restrict(session, wanted.handle, on=True, actor=caller.actor)
            return self._store(session, request, caller.actor, new=True)

    def cancel(self, request_id: str, caller: Principal) -> Request:
        """Take a request back that nobody has begun to answer. A restriction that came with it stays until lifted.

        Raises:
            NotFound: there is none of that id, or it is not the caller's.
            NotAllowed: an officer would take back what a person's own device has asked for.
            NotPending: it is past that.
        """
        with self._database.write() as session:
            request = self._waiting(session, request_id, (RequestStatus.PENDING,))
            if caller.role is Role.DEVICE and request.handle != caller.subject:
                raise NotFound("no such request")
            if caller.role is not Role.DEVICE and request.verified_by != BY_OFFICER:
                raise NotAllowed("what a person has asked for is answered or denied; only they take it back")
            return self._move(session, request, RequestStatus.CANCELLED, caller.actor)

    def get(self, request_id: str, caller: Principal | None = None) -> Request:
        """One request; a device sees its own only.

        Raises:
            NotFound: there is none of that id, or it is not the caller's.
        """
        with self._database.read() as session:
            found = repository.get(session, request_id)
        foreign = caller is not None and caller.role is Role.DEVICE
        if found is None or (foreign and caller is not None and found.handle != caller.subject):
            raise NotFound("no such request")
        return found

    def packaged(self, request: Request) -> bool:
        """Whether there is a package to be fetched."""
        until = (request.completed_at or 0) + self._rules.package_days * _DAY_S
        done = request.status is RequestStatus.COMPLETED and request.request in PACKAGED
        return done and request.handle is not None and self._clock() < until

    # ── what officers do ─────────────────────────────────────────────────────────────────────────────────────────────

    def list(self, status: RequestStatus | None = None, before: int | None = None, limit: int = 50) -> list[Request]:
        """Requests, newest first.

        Args:
            status: only those.
            before: number of the last one of the page before.
            limit: how many at most.
        """
        with self._database.read() as session:
            return repository.newest_first(session, status=status, before=before, limit=limit)

    def open(self) -> Sequence[Request]:
        """Everything that waits for an officer, what is due first first."""
        with self._database.read() as session:
            return repository.in_states(session, OPEN)

    def tally(self) -> dict[tuple[RequestKind, RequestStatus], int]:
        """How many there are, by kind and status."""
        with self._database.read() as session:
            return repository.tally(session)

    def approve(self, request_id: str, by: str) -> Request:
        """Begin to answer a request.

        Raises:
            NotFound, NotPending: there is none, or it is past that.
            SecondOfficerNeeded: this officer has filed it on somebody's behalf.
        """
        with self._database.write() as session:
            request = self._waiting(session, request_id, (RequestStatus.PENDING,))
            if request.filed_by(by):
                raise SecondOfficerNeeded("who files a request on somebody's behalf does not approve it")
            return self._move(session, request, RequestStatus.IN_PROGRESS, by)

    def deny(self, request_id: str, reason: DenialReason, by: str) -> Request:
        """Say no, with one of the reasons that the law knows.

        Raises:
            NotFound, NotPending: there is none, or it is past that.
        """
        with self._database.write() as session:
            request = self._waiting(session, request_id, OPEN)
            return self._move(session, replace(request, denial=reason), RequestStatus.DENIED, by)

    def complete(self, request_id: str, by: str) -> Request:
        """Do what was asked.

        Raises:
            NotFound, NotPending: there is none, or nobody has approved it.
        """
        with self._database.read() as session:
            request = repository.get(session, request_id)
        if request is None:
            raise NotFound("no such request")
        if request.status is not RequestStatus.IN_PROGRESS:
            raise NotPending("a request is completed after it was approved, and once")
        return self._carry_out(request, by, proven=None, new=False)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _draft(self, wanted: SubjectRequest, facts: SubjectFacts, verified_by: str, now: int, actor: str) -> Request:
        law = law_of(self._rules, facts.jurisdiction)
        details: dict[str, str | bool] = {} if wanted.age_band is None else {"age_band": wanted.age_band.value}
        if wanted.request in {RequestKind.RESTRICTION, RequestKind.OBJECTION}:
            details["lift"] = wanted.lift
        return Request(
            request_id=f"dsr_{secrets.token_urlsafe(16)}",
            handle=wanted.handle,
            request=wanted.request,
            details=details,
            status=RequestStatus.PENDING,
            law=law.id,
            locale=wanted.locale,
            verified_by=verified_by,
            received_at=now,
            due_at=due_at(law, now),
            steps=(Step(now, actor, RequestStatus.PENDING),),
        )

    def _carry_out(self, request: Request, actor: str, *, proven: bytes | None, new: bool) -> Request:
        """Do what is asked, all of it or nothing; then take what was deleted off the disk."""
        handle = request.handle
        if handle is None:
            raise NotPending("whose request this was has been erased")
        if request.request is not RequestKind.ERASURE:
            with self._database.write() as session:
                return self._fulfil(session, request, handle, actor, new=new)
        with self._database.read() as session:
            plan = self._rooms.plan(session, handle, proven, request.locale)
        with self._database.write() as session:
            self._locked(session, handle)
            request = self._confirmed(session, request, new=new)
            erased = self._rooms.erase(session, plan)
            for other in repository.of_subject(session, handle):
                status = RequestStatus.CANCELLED if other.is_open else other.status
                repository.save(session, replace(other, handle=None, details={}, status=status))
            request = replace(request, handle=None, details={})
            done = self._move(session, request, RequestStatus.COMPLETED, actor, new=new, erased=erased)
        try:
            self._database.scrub(erased.traces)
        except StorageUnavailable:  # the erasure is committed: its answer must not say otherwise
            _LOG.warning("an erasure is done; the disk could not be scrubbed now: reticent server scrub")
        return done

    def _fulfil(self, session: Transaction, request: Request, handle: str, actor: str, *, new: bool) -> Request:
        self._locked(session, handle)
        request, consent = self._confirmed(session, request, new=new), self._rooms.consent
        on = not request.details.get("lift", False)
        if request.request is RequestKind.RECTIFICATION:
            consent.rectify_age_band(session, handle, AgeBand(request.details["age_band"]), actor=actor)
        elif request.request is RequestKind.RESTRICTION:
            consent.restrict(session, handle, on=on, actor=actor)
        elif request.request is RequestKind.OBJECTION:
            consent.object(session, handle, on=on, actor=actor)
        return self._move(session, request, RequestStatus.COMPLETED, actor, new=new)

    def _move(
        self,
        session: Transaction,
        request: Request,
        status: RequestStatus,
        actor: str,
        *,
        new: bool = False,
        erased: Erased | None = None,
    ) -> Request:
        """The request in its next state."""
        now = int(self._clock())
        request = replace(
            request,
            status=status,
            completed_at=now if status is RequestStatus.COMPLETED else None,
            steps=(*request.steps, Step(now, actor, status)),
        )
        return self._store(session, request, actor, new=new, erased=erased)

    def _store(
        self,
        session: Transaction,
        request: Request,
        actor: str,
        *,
        new: bool = False,
        erased: Erased | None = None,
    ) -> Request:
        """Sign, store and log a request as it stands."""
        word = RequestAcknowledgement(
            request_id=request.request_id,
            request=request.request,
            status=request.status,
            law=request.law,
            controller=self._controller,
            received_at=request.received_at,
            due_at=request.due_at,
            completed_at=request.completed_at,
            denial=request.denial,
            destroyed=None if erased is None else erased.destroyed,
            remains=None if erased is None else erased.remains,
        )
        request = replace(request, acknowledgement=seal(word, self._signer))
        (repository.add if new else repository.save)(session, request)
        record = word.model_dump(mode="json", exclude={"kind", "schema_version", "controller", "remains"})
        self._rooms.log.append(session, LogKind.SUBJECT_REQUEST, record, actor=actor, subject=request.handle)
        return request

    def _facts(self, handle: str) -> SubjectFacts:
        with self._database.read() as session:
            return _known(subjects.subject(session, handle))

    def _locked(self, session: Transaction, handle: str) -> SubjectFacts:
        return _known(subjects.subject(session, handle, lock="change"))

    def _standing(self, session: Transaction, request: Request) -> Request | None:
        """An open request of the same subject for the same thing."""
        same = (request.request, request.details)
        found = repository.of_subject(session, str(request.handle))
        return next((one for one in found if one.is_open and (one.request, one.details) == same), None)

    def _confirmed(self, session: Transaction, request: Request, *, new: bool) -> Request:
        """The request as it stands now; one that came in meanwhile or was carried out meanwhile is not done twice."""
        return request if new else self._waiting(session, request.request_id, (RequestStatus.IN_PROGRESS,))

    def _waiting(self, session: Transaction, request_id: str, states: tuple[RequestStatus, ...]) -> Request:
        request = repository.get(session, request_id, lock=True)
        if request is None:
            raise NotFound("no such request")
        if request.status not in states:
            raise NotPending("this request is no longer waiting for that")
        return request


def _known(found: SubjectFacts | None) -> SubjectFacts:
    if found is None:
        raise NotFound("no such subject")
    return found
