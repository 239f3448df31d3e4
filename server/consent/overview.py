"""What a privacy officer sees of consent: rates, and one person by receipt or handle. Owns these queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select as sql_select
from sqlmodel import Session, case, col, func, select

from common.taxonomy import AgeBand, ConsentState, Purpose
from server.consent import notice_repository, repository
from server.consent.repository import StoredEvent, SubjectFacts
from server.consent.tables import ConsentStateRow, NoticeText, Subject


@dataclass(frozen=True, slots=True)
class Rate:
    """How the subjects of one jurisdiction stand to one purpose under one notice version.

    Attributes:
        states: subjects by state; a grant that has lapsed counts as EXPIRED or SUPERSEDED, marked so or not.
    """

    purpose: Purpose
    jurisdiction: str
    notice_version: int
    states: Counter[ConsentState]

    @property
    def asked(self) -> int:
        """Subjects in it."""
        return self.states.total()

    @property
    def given_share(self) -> float:
        """Share of them with a grant that holds; before objections, restrictions and age."""
        return self.states[ConsentState.GIVEN] / self.asked if self.asked else 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """One person, as far as the consent room knows them.

    Attributes:
        matched: the receipt that was searched for; None where the handle was.
        events: all of theirs, oldest first.
    """

    subject: SubjectFacts
    matched: StoredEvent | None
    events: Sequence[StoredEvent]


def rates(session: Session, *, now: int) -> list[Rate]:
    """Consent rates by purpose, jurisdiction and notice version, in that order."""
    accepted = notice_repository.accepted_notices(session)
    row = ConsentStateRow
    standing = case(
        (col(row.state) != ConsentState.GIVEN.value, row.state),
        (col(row.notice_digest).not_in(accepted), ConsentState.SUPERSEDED.value),
        (col(row.valid_until) <= now, ConsentState.EXPIRED.value),
        else_=row.state,
    )
    grouped = (
        sql_select(col(row.purpose), col(Subject.jurisdiction), col(NoticeText.version), standing, func.count())
        .join(Subject, col(Subject.handle) == col(row.handle))
        .join(NoticeText, col(NoticeText.digest) == col(row.notice_digest))
        .group_by(col(row.purpose), col(Subject.jurisdiction), col(NoticeText.version), standing)
    )
    found: dict[tuple[Purpose, str, int], Counter[ConsentState]] = {}
    for purpose, jurisdiction, version, state, count in session.connection().execute(grouped):
        found.setdefault((Purpose(purpose), jurisdiction, version), Counter())[ConsentState(state)] += count
    return [Rate(*key, states=states) for key, states in sorted(found.items())]


def find(session: Session, wanted: str) -> Found | None:
    """One person by receipt id or by handle."""
    matched = repository.event(session, wanted)
    subject = repository.subject(session, wanted if matched is None else matched.handle)
    if subject is None:
        return None
    return Found(subject, matched, repository.history(session, subject.handle))


def population(session: Session) -> tuple[int, int]:
    """How many subjects there are, and how many of them are protected by their declared age band."""
    everybody = session.exec(select(func.count()).select_from(Subject)).one()
    adults = select(func.count()).select_from(Subject).where(Subject.age_band == AgeBand.ADULT.value)
    return everybody, everybody - session.exec(adults).one()
