"""What the bundle reads from the tables of other rooms. Owns these queries; writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from sqlalchemy import select as sql_select
from sqlmodel import Session, col, select

from common.wire.evidence import BundleReceipt
from server.campaigns.tables import CatalogueVersion
from server.consent.tables import ConsentEvent, NoticeText
from server.registry.tables import ModelVersion


def snapshot(session: Session) -> None:
    """Make all that this transaction reads be of one moment (on SQLite it is)."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection(execution_options={"isolation_level": "REPEATABLE READ"})


def receipts(session: Session) -> Iterator[BundleReceipt]:
    """Every receipt, in the order of the log."""
    columns: list[Any] = [col(ConsentEvent.receipt_id), col(ConsentEvent.log_seq), col(ConsentEvent.receipt_jws)]
    query = sql_select(*columns).order_by(col(ConsentEvent.seq)).execution_options(yield_per=1000)
    for row in session.connection().execute(query):
        yield BundleReceipt(receipt_id=row[0], seq=row[1], jws=row[2])


def notices(session: Session) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every notice by its digest."""
    for row in session.exec(select(NoticeText).order_by(col(NoticeText.version), col(NoticeText.locale))):
        yield (
            row.digest,
            {
                "version": row.version,
                "locale": row.locale,
                "title": row.title,
                "text": row.text,
                "purposes": json.loads(row.purposes),
            },
        )


def catalogues(session: Session) -> Iterator[tuple[int, str]]:
    """Every catalogue by version, signed."""
    for version in session.exec(select(CatalogueVersion.version).order_by(col(CatalogueVersion.version))).all():
        yield version, session.exec(select(CatalogueVersion.jws).where(CatalogueVersion.version == version)).one()


def manifests(session: Session) -> Iterator[tuple[int, str]]:
    """Every model's signed manifest by version."""
    query = select(ModelVersion.version, ModelVersion.manifest_jws).order_by(col(ModelVersion.version))
    yield from session.exec(query)
