"""Reads and writes of the server's ledger. Owns its queries; hands out plain values, never rows. Decides nothing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import bindparam, delete, insert, update
from sqlalchemy import select as sql_select
from sqlmodel import Session, col, func, select

from common.privacy.parameters import MechanismUse
from common.taxonomy import ReleaseKind
from server.ledger.packing import Spend, pack_members, pack_spend, unpack_members, unpack_spend
from server.ledger.tables import LedgerCharge, LedgerEpoch, LedgerRelease, LedgerSubject, LedgerUse

_BATCH: Final = 5_000
PSEUDONYM_BYTES: Final = 16
T = TypeVar("T")


_SUBJECTS: Final[Any] = sql_select(
    col(LedgerSubject.pseudonym), col(LedgerSubject.number), col(LedgerSubject.period), col(LedgerSubject.spend)
).where(col(LedgerSubject.pseudonym).in_(bindparam("names", expanding=True)))
_SUBJECT: Final[Any] = sql_select(
    col(LedgerSubject.number),
    col(LedgerSubject.period),
    col(LedgerSubject.spend),
    sql_select(func.max(LedgerCharge.period)).scalar_subquery(),
).where(col(LedgerSubject.pseudonym) == bindparam("name"))


_EVERYBODY: Final[Any] = sql_select(
    col(LedgerSubject.number), col(LedgerSubject.period), col(LedgerSubject.spend)
).order_by(col(LedgerSubject.number))


@dataclass(frozen=True, slots=True)
class SubjectSpend:
    """One subject: its number and what it has spent in ``period``."""

    number: int
    period: int
    spend: bytes


@dataclass(frozen=True, slots=True)
class NamedSubject:
    """One subject with its name: a pseudonym, or a tombstone of the period ``erased_in``."""

    name: bytes
    erased_in: int | None
    spend: SubjectSpend


@dataclass(frozen=True, slots=True)
class StoredRelease:
    """One release of a charge."""

    use: int
    epsilon: float
    rho: float | None
    delta: float


@dataclass(frozen=True, slots=True)
class StoredCharge:
    """One charge; ``members`` and ``settled`` stay packed until somebody asks."""

    id: int
    cause: str
    run_id: str
    period: int
    day: int
    members: bytes
    settled: bytes | None
    devices: int
    unnamed: int
    barred: int
    releases: tuple[StoredRelease, ...]
    log_seq: int | None = None

    @property
    def numbers(self) -> list[int]:
        """Numbers of the subjects in it.

        Raises:
            StoreError: the row is damaged.
        """
        return [int(number) for number in unpack_members(self.members)]


def pseudonym(identity: bytes) -> bytes:
    """What stands for a device: 16 bytes of the hash of its identity key."""
    return hashlib.sha256(b"reticent ledger subject\0" + identity).digest()[:PSEUDONYM_BYTES]


# ── uses ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def use_number(session: Session, kind: ReleaseKind, use: MechanismUse) -> int:
    """The number of a use; a new one is written."""
    text = use.model_dump_json(exclude_none=True)
    digest = hashlib.sha256(f"{kind.value} {text}".encode()).hexdigest()
    found = session.exec(select(LedgerUse.id).where(LedgerUse.digest == digest)).first()
    if found is None:
        row = LedgerUse(digest=digest, kind=kind.value, description=text)
        session.add(row)
        session.flush()
        found = row.id
    return int(found or 0)


def uses(session: Session) -> dict[int, tuple[ReleaseKind, MechanismUse]]:
    """Every use by number."""
    return {
        row.id or 0: (ReleaseKind(row.kind), MechanismUse.model_validate_json(row.description))
        for row in session.exec(select(LedgerUse))
    }


# ── subjects ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def subjects(session: Session, pseudonyms: Iterable[bytes]) -> dict[bytes, SubjectSpend]:
    """Those of the pseudonyms that are known, with what they have spent."""
    found = {}
    connection = session.connection()  # plain rows: there may be many
    for part in _parts(list(pseudonyms)):
        for row in connection.execute(_SUBJECTS, {"names": part}).all():
            found[bytes(row[0])] = SubjectSpend(row[1], row[2], row[3])
    return found


def subject(session: Session, name: bytes) -> tuple[SubjectSpend | None, int | None]:
    """What one pseudonym has spent, and the newest period that was charged: one indexed read."""
    row = session.connection().execute(_SUBJECT, {"name": name}).first()
    if row is None:
        return None, latest_period(session)
    return SubjectSpend(row[0], row[1], row[2]), row[3]


def add_subjects(session: Session, pseudonyms: Sequence[bytes], period: int, spend: Spend) -> list[int]:
    """Write new subjects that have spent this much; their numbers. The caller holds the ledger exclusively."""
    first = (session.exec(select(func.max(LedgerSubject.number))).one() or 0) + 1
    packed = pack_spend(spend)
    rows = [
        {"number": first + index, "pseudonym": name, "period": period, "spend": packed}
        for index, name in enumerate(pseudonyms)
    ]
    if rows:
        session.execute(insert(LedgerSubject), rows)
    return list(range(first, first + len(rows)))


def set_spend(session: Session, numbers: Sequence[int], period: int, spend: Spend) -> None:
    """Store what these subjects have spent by now."""
    values = {"period": period, "spend": pack_spend(spend)}
    for part in _parts(numbers):
        query = update(LedgerSubject).where(col(LedgerSubject.number).in_(part)).values(**values)
        session.execute(query.execution_options(synchronize_session=False))


def rename(session: Session, number: int, name: bytes, *, erased_in: int) -> None:
    """Put another name in the place of a subject's pseudonym, for good."""
    values = {"pseudonym": name, "erased_in": erased_in}
    query = update(LedgerSubject).where(col(LedgerSubject.number) == number).values(**values)
    session.execute(query.execution_options(synchronize_session=False))


def epoch_key(session: Session, period: int) -> bytes | None:
    """The key of a period's tombstones, if anybody was erased in it."""
    return session.exec(select(LedgerEpoch.key).where(LedgerEpoch.period == period)).first()


def add_epoch_key(session: Session, period: int, key: bytes) -> None:
    """Store the key of a period's tombstones."""
    session.add(LedgerEpoch(period=period, key=key))
    session.flush()


def drop_epoch_keys(session: Session, *, before: int) -> int:
    """Destroy the keys of earlier periods; how many there were."""
    old = list(session.exec(select(LedgerEpoch.period).where(LedgerEpoch.period < before)))
    if old:
        session.execute(delete(LedgerEpoch).where(col(LedgerEpoch.period).in_(old)))
    return len(old)


def spends(session: Session, period: int) -> list[tuple[Spend, int]]:
    """Every different spend of a period and how many subjects have it."""
    query = select(LedgerSubject.spend, func.count()).where(LedgerSubject.period == period)
    return [(unpack_spend(spend), count) for spend, count in session.exec(query.group_by(col(LedgerSubject.spend)))]


def each_subject(session: Session) -> Iterator[SubjectSpend]:
    """Every subject by number."""
    for row in session.connection().execute(_EVERYBODY).all():
        yield SubjectSpend(row[0], row[1], row[2])


def subjects_after(session: Session, *, after: int | None, limit: int) -> list[NamedSubject]:
    """A page of subjects by number."""
    query = select(LedgerSubject).order_by(col(LedgerSubject.number)).limit(limit)
    if after is not None:
        query = query.where(col(LedgerSubject.number) > after)
    rows = session.exec(query)
    return [NamedSubject(r.pseudonym, r.erased_in, SubjectSpend(r.number, r.period, r.spend)) for r in rows]


def count_erased(session: Session) -> int:
    """How many identities stand under a tombstone or under nothing that leads to them."""
    query = select(func.count()).select_from(LedgerSubject).where(col(LedgerSubject.erased_in).is_not(None))
    return session.exec(query).one()


def count_subjects(session: Session) -> int:
    """How many identities have ever been charged."""
    return session.exec(select(func.count()).select_from(LedgerSubject)).one()


# ── charges ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def latest_period(session: Session) -> int | None:
    """The newest period that was charged."""
    return session.exec(select(func.max(LedgerCharge.period))).one()


def latest_charge(session: Session) -> int:
    """The newest charge; 0 before the first."""
    return session.exec(select(func.max(LedgerCharge.id))).one() or 0


def charge(session: Session, cause: str) -> StoredCharge | None:
    """The charge of a cause."""
    row = session.exec(select(LedgerCharge).where(LedgerCharge.cause == cause)).first()
    return None if row is None else _charge(row, _releases(session, row.id or 0))


def charges(session: Session, run_id: str | None = None) -> Iterator[StoredCharge]:
    """All charges, or those of one training, oldest first."""
    query = select(LedgerCharge).order_by(col(LedgerCharge.id))
    if run_id is not None:
        query = query.where(LedgerCharge.run_id == run_id)
    for row in session.exec(query):
        yield _charge(row, _releases(session, row.id or 0))


def charges_after(session: Session, *, after: int | None, limit: int, run_id: str | None) -> list[StoredCharge]:
    """A page of charges, oldest first."""
    query = select(LedgerCharge).order_by(col(LedgerCharge.id)).limit(limit)
    if after is not None:
        query = query.where(col(LedgerCharge.id) > after)
    if run_id is not None:
        query = query.where(LedgerCharge.run_id == run_id)
    return [_charge(row, _releases(session, row.id or 0)) for row in session.exec(query).all()]


def count_charges(session: Session, period: int) -> int:
    """How many charges a period has."""
    query = select(func.count()).select_from(LedgerCharge).where(LedgerCharge.period == period)
    return session.exec(query).one()


def add_charge(session: Session, draft: StoredCharge) -> int:
    """Write a new charge; ``draft.id`` is ignored. Its number."""
    row = LedgerCharge(
        cause=draft.cause,
        run_id=draft.run_id,
        period=draft.period,
        day=draft.day,
        members=draft.members,
        settled=draft.settled,
        devices=draft.devices,
        unnamed=draft.unnamed,
        barred=draft.barred,
    )
    session.add(row)
    session.flush()
    for position, release in enumerate(draft.releases):
        session.add(
            LedgerRelease(
                charge_id=row.id or 0,
                position=position,
                use_id=release.use,
                epsilon=release.epsilon,
                rho=release.rho,
                delta=release.delta,
            )
        )
    return row.id or 0


def set_log_seq(session: Session, number: int, seq: int) -> None:
    """Store where the transparency log speaks of a charge."""
    session.execute(update(LedgerCharge).where(col(LedgerCharge.id) == number).values(log_seq=seq))


def extend_charge(session: Session, number: int, members: Iterable[int], barred: int) -> None:
    """Store who is in a charge by now."""
    everybody = set(members)
    values = {"members": pack_members(everybody), "devices": len(everybody), "barred": barred}
    session.execute(update(LedgerCharge).where(col(LedgerCharge.id) == number).values(**values))


def set_unnamed(session: Session, charge: StoredCharge, unnamed: int) -> None:
    """Store how many devices of a charge are not known by identity."""
    values = {"unnamed": unnamed, "devices": charge.devices - charge.unnamed + unnamed}
    session.execute(update(LedgerCharge).where(col(LedgerCharge.id) == charge.id).values(**values))


def set_settled(session: Session, number: int, members: Iterable[int]) -> None:
    """Store who is in the released sum."""
    values = {"settled": pack_members(members)}
    session.execute(update(LedgerCharge).where(col(LedgerCharge.id) == number).values(**values))


def added(spend: Spend, more: Mapping[int, int]) -> Spend:
    """A spend with more uses counted into it."""
    total = dict(spend)
    for use, times in more.items():
        total[use] = total.get(use, 0) + times
    return tuple(sorted(total.items()))


def _parts(items: Sequence[T]) -> Iterator[Sequence[T]]:
    """Slices that fit into one statement."""
    return (items[start : start + _BATCH] for start in range(0, len(items), _BATCH))


def _releases(session: Session, charge_id: int) -> tuple[StoredRelease, ...]:
    query = select(LedgerRelease).where(LedgerRelease.charge_id == charge_id).order_by(col(LedgerRelease.position))
    return tuple(StoredRelease(row.use_id, row.epsilon, row.rho, row.delta) for row in session.exec(query))


def _charge(row: LedgerCharge, releases: tuple[StoredRelease, ...]) -> StoredCharge:
    return StoredCharge(
        id=row.id or 0,
        cause=row.cause,
        run_id=row.run_id,
        period=row.period,
        day=row.day,
        members=row.members,
        settled=row.settled,
        devices=row.devices,
        unnamed=row.unnamed,
        barred=row.barred,
        releases=releases,
        log_seq=row.log_seq,
    )
