"""Reads and writes of the transparency log. Owns their queries; hands out plain values, never rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import bindparam, delete, insert
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, desc, func, select

from common.errors import InvalidProof
from common.taxonomy import LogKind
from common.transparency.leaf import Leaf, Opening
from common.transparency.tree import HASH_BYTES, Node
from server.transparency.tables import LogCheckpoint, LogEntry, LogRecord

_BATCH: Final = 5_000
_SIGNED: Final[Any] = (
    sql_select(col(LogCheckpoint.time)).order_by(desc(col(LogCheckpoint.size))).limit(1).scalar_subquery()
)
_LAST: Final[Any] = (
    sql_select(col(LogEntry.seq), col(LogEntry.time), _SIGNED).order_by(desc(col(LogEntry.seq))).limit(1)
)
_NODES: Final[Any] = sql_select(col(LogEntry.seq), col(LogEntry.nodes)).where(
    col(LogEntry.seq).in_(bindparam("seqs", expanding=True))
)
_COLUMNS: Final[Any] = (
    col(LogEntry.seq),
    col(LogEntry.time),
    col(LogEntry.kind),
    col(LogEntry.actor),
    col(LogEntry.subject_commit),
    col(LogEntry.payload_commit),
    col(LogEntry.nodes),
    col(LogRecord.salt),
    col(LogRecord.record),
    col(LogRecord.subject),
    col(LogRecord.subject_salt),
)


@dataclass(frozen=True, slots=True)
class End:
    """Where the log ends: its size, and the earliest time that its next entry may have."""

    size: int
    time: int


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One entry with what opens it, if that is still there.

    Attributes:
        leaf_hash: as it went into the tree.
        opening: None once it was erased.
    """

    leaf: Leaf
    leaf_hash: bytes
    opening: Opening | None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """One signed checkpoint."""

    size: int
    time: int
    note: str


# ── entries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def end(session: Session) -> End:
    """Where the log ends."""
    row = session.connection().execute(_LAST).first()
    return End(0, 0) if row is None else End(row[0] + 1, max(row[1], row[2] or 0))


def size(session: Session) -> int:
    """How many entries there are."""
    return int(session.exec(select(func.coalesce(func.max(LogEntry.seq), -1))).one()) + 1


def time_of(session: Session, seq: int) -> int:
    """When an entry was written; 0 where there is none."""
    return session.exec(select(LogEntry.time).where(LogEntry.seq == seq)).first() or 0


def nodes(session: Session, wanted: Iterable[Node]) -> dict[Node, bytes]:
    """Hashes of complete subtrees, each read from the entry that completed it.

    Raises:
        InvalidProof: an entry is missing or lacks its hashes: the log was tampered with.
    """
    asked = list(wanted)
    if not asked:
        return {}
    seqs = sorted({node.last for node in asked})
    rows = {row[0]: bytes(row[1]) for row in session.connection().execute(_NODES, {"seqs": seqs})}
    found = {node: rows.get(node.last, b"")[node.level * HASH_BYTES :][:HASH_BYTES] for node in asked}
    for node, value in found.items():
        if len(value) != HASH_BYTES:
            raise InvalidProof(f"the log lacks entry {node.last}, or its hashes: nothing can be proven with it")
    return found


def add(session: Session, leaf: Leaf, opening: Opening, hashes: bytes) -> None:
    """Append one entry."""
    entry = {
        "seq": leaf.seq,
        "time": leaf.time,
        "kind": leaf.kind.value,
        "actor": leaf.actor,
        "subject_commit": leaf.subject_commit,
        "payload_commit": leaf.payload_commit,
        "nodes": hashes,
    }
    record = {
        "seq": leaf.seq,
        "salt": opening.salt,
        "record": opening.record.decode(),
        "subject": opening.subject,
        "subject_salt": opening.subject_salt,
    }
    connection = session.connection()
    connection.execute(insert(LogEntry), entry)
    connection.execute(insert(LogRecord), record)


def erase(session: Session, subject: str) -> int:
    """Destroy what opens the entries about a subject; how many there were."""
    query = delete(LogRecord).where(col(LogRecord.subject) == subject)
    return int(session.connection().execute(query).rowcount)


def entries(
    session: Session,
    *,
    low: int = 0,
    high: int | None = None,
    kinds: Sequence[LogKind] = (),
    subject: str | None = None,
    newest_first: bool = False,
    limit: int | None = None,
) -> Iterator[StoredEntry]:
    """Entries ``[low, high)``, those of some kinds or about one subject only, oldest first unless said."""
    query = sql_select(*_COLUMNS).join(LogRecord, col(LogRecord.seq) == col(LogEntry.seq), isouter=True)
    query = query.where(col(LogEntry.seq) >= low)
    if high is not None:
        query = query.where(col(LogEntry.seq) < high)
    if kinds:
        query = query.where(col(LogEntry.kind).in_([kind.value for kind in kinds]))
    if subject is not None:
        query = query.where(col(LogRecord.subject) == subject)
    query = query.order_by(desc(col(LogEntry.seq)) if newest_first else col(LogEntry.seq))
    if limit is not None:
        query = query.limit(limit)
    for row in session.connection().execute(query.execution_options(yield_per=_BATCH)):
        yield _entry(row)


def counts(session: Session) -> dict[LogKind, int]:
    """Entries by kind, counted by the database."""
    query = sql_select(col(LogEntry.kind), func.count()).group_by(col(LogEntry.kind))
    return {LogKind(row[0]): int(row[1]) for row in session.connection().execute(query)}


# ── checkpoints ──────────────────────────────────────────────────────────────────────────────────────────────────────


def add_checkpoint(session: Session, checkpoint: StoredCheckpoint) -> None:
    """Keep a signed checkpoint."""
    session.add(LogCheckpoint(size=checkpoint.size, time=checkpoint.time, note=checkpoint.note))
    session.flush()


def newest_checkpoint(session: Session) -> StoredCheckpoint | None:
    """The newest signed checkpoint."""
    row = session.exec(select(LogCheckpoint).order_by(desc(col(LogCheckpoint.size))).limit(1)).first()
    return None if row is None else StoredCheckpoint(row.size, row.time, row.note)


def checkpoint(session: Session, size: int) -> StoredCheckpoint | None:
    """The signed checkpoint of a size."""
    row = session.get(LogCheckpoint, size)
    return None if row is None else StoredCheckpoint(row.size, row.time, row.note)


def checkpoints(session: Session, *, newest_first: bool = False, limit: int | None = None) -> list[StoredCheckpoint]:
    """Signed checkpoints, oldest first unless said."""
    order: Any = desc(col(LogCheckpoint.size)) if newest_first else col(LogCheckpoint.size)
    rows = session.exec(select(LogCheckpoint).order_by(order).limit(limit))
    return [StoredCheckpoint(row.size, row.time, row.note) for row in rows]


def _entry(row: Any) -> StoredEntry:  # noqa: ANN401 - a row of the columns above
    leaf = Leaf(
        seq=row[0],
        time=row[1],
        kind=LogKind(row[2]),
        actor=row[3],
        subject_commit=None if row[4] is None else bytes(row[4]),
        payload_commit=bytes(row[5]),
    )
    opening = None
    if row[7] is not None:
        subject_salt = None if row[10] is None else bytes(row[10])
        opening = Opening(bytes(row[7]), row[8].encode(), row[9], subject_salt)
    return StoredEntry(leaf, bytes(row[6])[:HASH_BYTES], opening)
