"""Reads and writes of subjects, notices and consent. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

from sqlmodel import Session, col, desc, func, select

from common.taxonomy import AgeBand, ConsentState, Purpose
from common.wire.messages import ConsentReceipt, SubjectEnrolment
from policies.consent import UNKNOWN_SUBJECT, ConsentFact, ConsentSnapshot
from policies.notices import Locale, Notice
from server.consent.tables import ConsentEvent, ConsentStateRow, NoticeText, Subject


@dataclass(frozen=True, slots=True)
class SubjectFacts:
    """What is known about a subject."""

    handle: str
    app_id: str
    age_band: AgeBand
    jurisdiction: str


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """A published notice."""

    notice: Notice
    digest: str
    material: bool
    published_at: int
    retired_at: int | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One consent event."""

    receipt: str
    receipt_id: str
    purpose: Purpose
    state: ConsentState
    event_time: int
    valid_until: int
    notice_digest: str
    locale: Locale
    surface: str


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
    return None if row is None else SubjectFacts(row.handle, row.app_id, AgeBand(row.age_band), row.jurisdiction)


def snapshot(session: Session, found: SubjectFacts | None, *, signal_opt_out: bool = False) -> ConsentSnapshot:
    """Everything ``policies.consent.decide`` may look at, read now."""
    if found is None:
        return UNKNOWN_SUBJECT
    rows = session.exec(select(ConsentStateRow).where(ConsentStateRow.handle == found.handle)).all()
    facts = {
        Purpose(row.purpose): ConsentFact(
            ConsentState(row.state), float(row.event_time), float(row.valid_until), row.notice_digest
        )
        for row in rows
    }
    return ConsentSnapshot(found.age_band, facts, accepted_notices(session), signal_opt_out=signal_opt_out)


def accepted_notices(session: Session) -> frozenset[str]:
    """Digests of the notices whose grants still hold: from the newest material change on."""
    newest_material = select(func.max(NoticeText.version)).where(col(NoticeText.material).is_(True)).scalar_subquery()
    query = select(NoticeText.digest).where(NoticeText.version >= func.coalesce(newest_material, 0))
    return frozenset(session.exec(query))


def current_notice(session: Session, locale: str) -> StoredNotice | None:
    """The notice in force in one language."""
    query = select(NoticeText).where(NoticeText.locale == locale, col(NoticeText.retired_at).is_(None))
    return _notice(session.exec(query).first())


def notice(session: Session, digest: str) -> StoredNotice | None:
    """A published notice, retired or not."""
    return _notice(session.get(NoticeText, digest))


def newest_notice_version(session: Session) -> int:
    """The newest published version, 0 before the first."""
    return session.exec(select(func.max(NoticeText.version))).one() or 0


def version_digests(session: Session, version: int) -> frozenset[str]:
    """Digests of one version in every language."""
    return frozenset(session.exec(select(NoticeText.digest).where(NoticeText.version == version)))


def publish(session: Session, texts: Sequence[Notice], *, material: bool, now: int) -> None:
    """Store a new version and retire what was in force."""
    for row in session.exec(select(NoticeText).where(col(NoticeText.retired_at).is_(None))):
        row.retired_at = now
        session.add(row)
    for text in texts:
        session.add(
            NoticeText(
                digest=text.digest,
                version=text.version,
                locale=text.locale,
                title=text.title,
                text=text.text,
                purposes=json.dumps([purpose.model_dump(mode="json") for purpose in text.purposes], ensure_ascii=False),
                material=material,
                published_at=now,
            )
        )


def add_event(session: Session, receipt: ConsentReceipt, jws: str, *, surface: str, actor: str) -> None:
    """Append one event and bring the projection up to it, in this transaction."""
    event = ConsentEvent(
        receipt_id=receipt.receipt_id,
        handle=receipt.handle,
        purpose=receipt.purpose.value,
        state=receipt.state.value,
        event_time=receipt.event_time,
        valid_until=receipt.valid_until,
        notice_digest=receipt.notice_digest,
        locale=receipt.locale,
        surface=surface,
        actor=actor,
        receipt_jws=jws,
    )
    session.add(event)
    session.flush()
    if event.seq is None:  # pragma: no cover - the database numbers every event
        raise RuntimeError("the database gave the event no number")
    session.merge(
        ConsentStateRow(
            handle=receipt.handle,
            purpose=receipt.purpose.value,
            state=receipt.state.value,
            event_time=receipt.event_time,
            valid_until=receipt.valid_until,
            notice_digest=receipt.notice_digest,
            seq=event.seq,
        )
    )


def latest_event(session: Session, handle: str, purpose: Purpose) -> StoredEvent | None:
    """The newest event of one subject about one purpose."""
    query = select(ConsentEvent).where(ConsentEvent.handle == handle, ConsentEvent.purpose == purpose.value)
    row = session.exec(query.order_by(desc(col(ConsentEvent.seq))).limit(1)).first()
    return None if row is None else _event(row)


def history(session: Session, handle: str) -> list[StoredEvent]:
    """Every event of one subject, oldest first."""
    query = select(ConsentEvent).where(ConsentEvent.handle == handle).order_by(col(ConsentEvent.seq))
    return [_event(row) for row in session.exec(query)]


def is_latest(session: Session, receipt_id: str) -> bool | None:
    """Whether the newest decision about its purpose is the one of this receipt; None if it was never issued here."""
    row = session.exec(select(ConsentEvent).where(ConsentEvent.receipt_id == receipt_id)).first()
    if row is None:
        return None
    newest = latest_event(session, row.handle, Purpose(row.purpose))
    return newest is not None and newest.receipt_id == receipt_id


def _notice(row: NoticeText | None) -> StoredNotice | None:
    if row is None:
        return None
    fields = {"version": row.version, "locale": row.locale, "title": row.title, "text": row.text}
    text = Notice.model_validate(fields | {"purposes": json.loads(row.purposes)})
    return StoredNotice(text, row.digest, row.material, row.published_at, row.retired_at)


def _event(row: ConsentEvent) -> StoredEvent:
    return StoredEvent(
        receipt=row.receipt_jws,
        receipt_id=row.receipt_id,
        purpose=Purpose(row.purpose),
        state=ConsentState(row.state),
        event_time=row.event_time,
        valid_until=row.valid_until,
        notice_digest=row.notice_digest,
        locale=cast("Locale", row.locale),
        surface=row.surface,
    )
