"""Reads and writes of subjects and consent. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, cast

from sqlmodel import Session, col, delete, desc, or_, select

from common.taxonomy import AgeBand, ConsentMethod, ConsentState, InvalidationReason, Purpose
from common.wire.consent import SignalEvidence
from common.wire.messages import ConsentReceipt, SubjectEnrolment
from policies.consent import UNKNOWN_SUBJECT, ConsentFact, ConsentSnapshot
from policies.notices import Locale
from server.consent.notice_repository import accepted_notices
from server.consent.tables import ConsentEvent, ConsentStateRow, Subject


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What is known about a subject."""

    handle: str
    app_id: str
    age_band: AgeBand
    jurisdiction: str
    created_day: int
    objected: bool
    restricted: bool


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One consent event.

    Attributes:
        seq: its number here.
        actor: role of whoever reported it, or ``system``.
        reason: why a grant was invalidated.
        log_seq: number of its entry in the transparency log.
    """

    seq: int
    handle: str
    receipt: str
    receipt_id: str
    purpose: Purpose
    state: ConsentState
    event_time: int
    valid_until: int
    notice_digest: str
    locale: Locale
    surface: str
    actor: str
    method: ConsentMethod
    signals: SignalEvidence
    reason: InvalidationReason | None
    log_seq: int | None


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is stored of an event beside its receipt."""

    surface: str
    actor: str
    method: ConsentMethod
    signals: SignalEvidence
    log_seq: int
    reason: InvalidationReason | None = None
    reask_not_before: int | None = None


_PORTION: Final = 500
"""How many values one query may ask for."""


def _nothing(_jurisdiction: str | None) -> frozenset[Purpose]:
    return frozenset()


def _portions(values: Sequence[str]) -> Iterator[Sequence[str]]:
    return (values[start : start + _PORTION] for start in range(0, len(values), _PORTION))


def add_subject(session: Session, handle: str, enrolment: SubjectEnrolment, *, day: int) -> None:
    """Store a new subject."""
    session.add(
        Subject(
            handle=handle,
            public_key=enrolment.public_key,
            app_id=enrolment.app_id,
            age_band=enrolment.age_band.value,
            jurisdiction=enrolment.jurisdiction,
            created_day=day,
        )
    )


def subject(
    session: Session, handle: str, *, app_id: str | None = None, lock: Literal["change", "decide"] | None = None
) -> SubjectFacts | None:
    """A subject, if known.

    Args:
        session: the transaction.
        handle: whom.
        app_id: of which app; subjects of other apps are not known then.
        lock: ``"change"`` makes other transactions over this subject wait; ``"decide"`` only makes changes wait.
            Without one a decision could be recorded after a withdrawal that it had not seen. (SQLite needs neither.)
    """
    query = select(Subject).where(Subject.handle == handle)
    if app_id is not None:
        query = query.where(Subject.app_id == app_id)
    if lock is not None:
        query = query.with_for_update(read=lock == "decide")
    row = session.exec(query).first()
    return None if row is None else _facts(row)


def subjects_of_keys(session: Session, public_keys: Sequence[str]) -> dict[str, list[SubjectFacts]]:
    """Everybody who enrolled with these keys, by key; a key may be enrolled more than once."""
    found: dict[str, list[SubjectFacts]] = {}
    for some in _portions(public_keys):
        for row in session.exec(select(Subject).where(col(Subject.public_key).in_(some))):
            found.setdefault(row.public_key, []).append(_facts(row))
    return found


@dataclass(frozen=True, slots=True)
class EnrolledKey:
    """With which key a subject's device signs, and for which app it was enrolled."""

    public_key: str
    app_id: str


def enrolled_key(session: Session, handle: str) -> EnrolledKey | None:
    """The key that a subject's device enrolled."""
    row = session.exec(select(Subject.public_key, Subject.app_id).where(Subject.handle == handle)).first()
    return None if row is None else EnrolledKey(*row)


def enrolled_keys(session: Session, handles: Iterable[str]) -> dict[str, str]:
    """The keys that these subjects' devices enrolled, by handle; who is not known has none."""
    found: dict[str, str] = {}
    for part in _portions(list(handles)):
        query = select(Subject.handle, Subject.public_key).where(col(Subject.handle).in_(part))
        found.update(session.exec(query).all())
    return found


def set_flags(session: Session, handle: str, *, objected: bool | None = None, restricted: bool | None = None) -> None:
    """Set an objection or a restriction; None leaves it as it is."""
    row = session.get_one(Subject, handle)
    row.objected = row.objected if objected is None else objected
    row.restricted = row.restricted if restricted is None else restricted
    session.add(row)
    session.flush()


def set_age_band(session: Session, handle: str, age_band: AgeBand) -> None:
    """Correct the declared age band."""
    row = session.get_one(Subject, handle)
    row.age_band = age_band.value
    session.add(row)
    session.flush()


def forget(session: Session, handle: str) -> int:
    """Delete a subject with every event; how many rows there were."""
    gone = 0
    for table in (ConsentStateRow, ConsentEvent, Subject):
        gone += int(session.exec(delete(table).where(col(table.handle) == handle)).rowcount)
    return gone


def snapshot(
    session: Session, found: SubjectFacts | None, *, stopped: Callable[[str | None], frozenset[Purpose]] = _nothing
) -> ConsentSnapshot:
    """Everything ``policies.consent.decide`` may look at, read now.

    Args:
        session: the transaction.
        found: whom; None for somebody who is not known.
        stopped: what officers have stopped for a jurisdiction; None asks what is stopped for everybody.
    """
    if found is None:
        return replace(UNKNOWN_SUBJECT, stopped=stopped(None))
    return snapshots(session, [found], stopped=stopped)[found.handle]


def snapshots(
    session: Session,
    everybody: Sequence[SubjectFacts],
    *,
    stopped: Callable[[str | None], frozenset[Purpose]] = _nothing,
) -> dict[str, ConsentSnapshot]:
    """The same for many subjects, by handle."""
    accepted = accepted_notices(session)
    facts: dict[str, dict[Purpose, ConsentFact]] = {one.handle: {} for one in everybody}
    for some in _portions(list(facts)):
        for row in session.exec(select(ConsentStateRow).where(col(ConsentStateRow.handle).in_(some))):
            facts[row.handle][Purpose(row.purpose)] = ConsentFact(
                ConsentState(row.state), float(row.event_time), float(row.valid_until), row.notice_digest, row.opposed
            )
    return {
        one.handle: ConsentSnapshot(
            one.age_band,
            facts[one.handle],
            accepted,
            objection=one.objected,
            restricted=one.restricted,
            stopped=stopped(one.jurisdiction),
        )
        for one in everybody
    }


def reasks(session: Session, handle: str) -> dict[Purpose, int]:
    """Purposes about which nobody may ask before a time, in seconds since the epoch."""
    rows = session.exec(select(ConsentStateRow).where(ConsentStateRow.handle == handle))
    return {Purpose(row.purpose): row.reask_not_before for row in rows if row.reask_not_before is not None}


def lapsed(session: Session, *, now: int, limit: int) -> list[tuple[str, Purpose]]:
    """Grants that have ended by time or by a notice and are not marked so yet."""
    accepted = accepted_notices(session)
    query = select(ConsentStateRow.handle, ConsentStateRow.purpose).where(
        ConsentStateRow.state == ConsentState.GIVEN.value,
        or_(col(ConsentStateRow.valid_until) <= now, col(ConsentStateRow.notice_digest).not_in(accepted)),
    )
    rows = session.exec(query.order_by(col(ConsentStateRow.handle), col(ConsentStateRow.purpose)).limit(limit))
    return [(handle, Purpose(purpose)) for handle, purpose in rows]


def add_event(session: Session, receipt: ConsentReceipt, jws: str, evidence: Evidence, *, projected: bool) -> None:
    """Append one event and bring the projection up to it, in this transaction.

    Args:
        session: the transaction.
        receipt: what happened.
        jws: the same, signed.
        evidence: what is stored beside it.
        projected: whether the event is now the state of its purpose; a mere question about a live grant is not.
    """
    event = ConsentEvent(
        receipt_id=receipt.receipt_id,
        handle=receipt.handle,
        purpose=receipt.purpose.value,
        state=receipt.state.value,
        event_time=receipt.event_time,
        valid_until=receipt.valid_until,
        notice_digest=receipt.notice_digest,
        locale=receipt.locale,
        surface=evidence.surface,
        actor=evidence.actor,
        receipt_jws=jws,
        method=evidence.method.value,
        signals=evidence.signals.model_dump_json(),
        reason=None if evidence.reason is None else evidence.reason.value,
        log_seq=evidence.log_seq,
    )
    session.add(event)
    session.flush()
    if event.seq is None:  # pragma: no cover - the database numbers every event
        raise RuntimeError("the database gave the event no number")
    if projected:
        session.merge(
            ConsentStateRow(
                handle=receipt.handle,
                purpose=receipt.purpose.value,
                state=receipt.state.value,
                event_time=receipt.event_time,
                valid_until=receipt.valid_until,
                notice_digest=receipt.notice_digest,
                seq=event.seq,
                opposed=receipt.purpose in evidence.signals.opposed,
                reask_not_before=evidence.reask_not_before,
            )
        )


def latest_event(session: Session, handle: str, purpose: Purpose, *, decided: bool = True) -> StoredEvent | None:
    """The newest event of one subject about one purpose; mere questions count only if not ``decided``."""
    query = select(ConsentEvent).where(ConsentEvent.handle == handle, ConsentEvent.purpose == purpose.value)
    if decided:
        query = query.where(ConsentEvent.state != ConsentState.REQUESTED.value)
    row = session.exec(query.order_by(desc(col(ConsentEvent.seq))).limit(1)).first()
    return None if row is None else _event(row)


def event(session: Session, receipt_id: str) -> StoredEvent | None:
    """The event of one receipt."""
    row = session.exec(select(ConsentEvent).where(ConsentEvent.receipt_id == receipt_id)).first()
    return None if row is None else _event(row)


def history(session: Session, handle: str) -> list[StoredEvent]:
    """Every event of one subject, oldest first."""
    query = select(ConsentEvent).where(ConsentEvent.handle == handle).order_by(col(ConsentEvent.seq))
    return [_event(row) for row in session.exec(query)]


def is_latest(session: Session, receipt_id: str) -> bool | None:
    """Whether the newest decision about its purpose is the one of this receipt; None if it was never issued here."""
    found = event(session, receipt_id)
    if found is None:
        return None
    asked = found.state is ConsentState.REQUESTED
    newest = latest_event(session, found.handle, found.purpose, decided=not asked)
    return newest is not None and newest.receipt_id == receipt_id


def _facts(row: Subject) -> SubjectFacts:
    return SubjectFacts(
        handle=row.handle,
        app_id=row.app_id,
        age_band=AgeBand(row.age_band),
        jurisdiction=row.jurisdiction,
        created_day=row.created_day,
        objected=row.objected,
        restricted=row.restricted,
    )


def _event(row: ConsentEvent) -> StoredEvent:
    return StoredEvent(
        seq=row.seq or 0,
        handle=row.handle,
        receipt=row.receipt_jws,
        receipt_id=row.receipt_id,
        purpose=Purpose(row.purpose),
        state=ConsentState(row.state),
        event_time=row.event_time,
        valid_until=row.valid_until,
        notice_digest=row.notice_digest,
        locale=cast("Locale", row.locale),
        surface=row.surface,
        actor=row.actor,
        method=ConsentMethod(row.method),
        signals=SignalEvidence.model_validate_json(row.signals),
        reason=None if row.reason is None else InvalidationReason(row.reason),
        log_seq=row.log_seq,
    )
