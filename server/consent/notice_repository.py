"""Reads and writes of privacy notices. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, func, select

from policies.notices import Notice
from server.consent.tables import NoticeText


@dataclass(frozen=True, slots=True)
class StoredNotice:
    """A published notice."""

    notice: Notice
    digest: str
    material: bool
    published_at: int
    retired_at: int | None


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


def _notice(row: NoticeText | None) -> StoredNotice | None:
    if row is None:
        return None
    fields = {"version": row.version, "locale": row.locale, "title": row.title, "text": row.text}
    text = Notice.model_validate(fields | {"purposes": json.loads(row.purposes)})
    return StoredNotice(text, row.digest, row.material, row.published_at, row.retired_at)
