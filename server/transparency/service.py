"""The transparency log. Owns appending inside the caller's transaction, checkpoints, proofs, and erasure.

An entry is written by the transaction that does what it records: both are there, or neither. Writers wait for each
other from their first entry to their commit, so **append last** of all that a transaction locks. Checkpoints are signed
for batches, when somebody asks and there is something new, never for single entries.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from common.crypto.signing import SigningKey
from common.errors import ContractError, NotFound
from common.taxonomy import LogKind
from common.transparency import tree
from common.transparency.checkpoint import Checkpoint, read_checkpoint, seal_checkpoint
from common.transparency.leaf import Leaf, Opening, text_of
from common.wire.log import LogProof
from server.settings import LOG_ORIGIN
from server.storage import Database, Transaction, exclusive
from server.transparency import repository
from server.transparency.repository import StoredCheckpoint, StoredEntry

_ROOM: Final = "transparency"


@dataclass(frozen=True, slots=True)
class Inclusion:
    """Proof that an entry is in the log of a size."""

    seq: int
    size: int
    leaf_hash: bytes
    path: tuple[bytes, ...]
    root: bytes


@dataclass(frozen=True, slots=True)
class Consistency:
    """Proof that the log of ``new`` entries begins with the log of ``old`` entries."""

    old: int
    new: int
    path: tuple[bytes, ...]
    old_root: bytes
    new_root: bytes


class TransparencyLog:
    """The log of one installation.

    Args of the constructor:
        database: the server's.
        signer: signs checkpoints.
        origin: the log's name in its checkpoints.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        signer: SigningKey,
        *,
        origin: str = LOG_ORIGIN,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._signer, self._clock = database, signer, clock
        self.origin: Final = origin

    def now(self) -> int:
        """Seconds since the epoch, by the log's clock."""
        return int(self._clock())

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def append(
        self,
        session: Transaction,
        kind: LogKind,
        record: Mapping[str, Any],
        *,
        actor: str,
        subject: str | None = None,
    ) -> int:
        """Write one entry in the caller's transaction.

        Args:
            session: the transaction; whatever fails here fails all of it.
            kind: what the entry is about.
            record: what happened, JSON without NaN and infinity. It is committed to, and destroyed with its salt when
                the subject is erased.
            actor: who did it: a role's value, or ``privacy_officer:<holder>`` where a person acted.
            subject: whom it is about; an entry about nobody is never erased.

        Returns:
            The entry's place, from 0.

        Raises:
            MalformedInput: the record has no canonical form.

        **Privacy:** nothing of record and subject is in the leaf but commitments under fresh salts.
        """
        exclusive(session, _ROOM)
        end = repository.end(session)
        opening = Opening.of(record, subject)
        moment = max(self.now(), end.time)
        leaf = Leaf(end.size, moment, kind, actor, opening.subject_commit, opening.payload_commit)
        swallowed = tree.merged(end.size)
        known = repository.nodes(session, swallowed)
        hashes = tree.completed(tree.leaf_hash(leaf.encode()), [known[node] for node in swallowed])
        repository.add(session, leaf, opening, hashes)
        return leaf.seq

    def erase(self, session: Transaction, subject: str) -> int:
        """Destroy records and salts of every entry about a subject; leaves and proofs stay. Returns how many."""
        return repository.erase(session, subject)

    def checkpoint(self, *, covering: int | None = None) -> str:
        """The newest checkpoint as a signed note; a new one is signed if there are entries that none covers.

        Args:
            covering: an entry: if the newest checkpoint covers it, it will do, and nothing is signed.
        """
        with self._database.read() as session:
            newest, size = repository.newest_checkpoint(session), repository.size(session)
        if newest is not None and newest.size >= (size if covering is None else min(covering + 1, size)):
            return newest.note
        with self._database.write() as session:
            exclusive(session, _ROOM)
            newest, end = repository.newest_checkpoint(session), repository.end(session)
            if newest is not None and newest.size == end.size:
                return newest.note
            return self._sign(session, end.size, max(self.now(), end.time)).note

    def checkpoint_at(self, size: int) -> StoredCheckpoint:
        """A signed checkpoint of exactly the first ``size`` entries; one is signed if there is none.

        Raises:
            ContractError: there are not so many.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            found = repository.checkpoint(session, size)
            if found is not None:
                return found
            end = repository.end(session)
            if not 0 <= size <= end.size:
                raise ContractError(f"the log has {end.size} entries")
            # Entries after it may be older than now: its time is that of its last entry then.
            moment = max(self.now(), end.time) if size == end.size else repository.time_of(session, size - 1)
            return self._sign(session, size, moment)

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def size(self) -> int:
        """How many entries there are."""
        with self._database.read() as session:
            return repository.size(session)

    def root(self, size: int | None = None) -> bytes:
        """Root of the first ``size`` entries, of all by default.

        Raises:
            ContractError: there are not so many.
        """
        with self._database.read() as session:
            return self._root(session, self._bounded(session, size))

    def inclusion(self, seq: int, size: int | None = None) -> Inclusion:
        """Proof that an entry is among the first ``size`` entries (all, by default).

        Raises:
            ContractError: it is not.
        """
        with self._database.read() as session:
            bound = self._bounded(session, size)
            ranges = tree.inclusion_ranges(seq, bound)
            own, whole = tree.Node(0, seq), (0, bound)
            known = repository.nodes(session, [own, *tree.nodes_of([*ranges, whole])])
        path = tuple(tree.range_hash(bounds, known) for bounds in ranges)
        return Inclusion(seq, bound, known[own], path, tree.range_hash(whole, known))

    def proof(self, seq: int) -> LogProof:
        """What goes with a document that an entry is about: entry, record, salt, and the way to a signed checkpoint.

        Raises:
            NotFound: there is no such entry.
        """
        found = self.entry(seq)
        note = self.checkpoint(covering=seq)
        proven = self.inclusion(seq, read_checkpoint(note).size)
        return LogProof(
            leaf=found.leaf.encode().decode(),
            index=seq,
            size=proven.size,
            path=tuple(text_of(step) for step in proven.path),
            checkpoint=note,
            record=None if found.opening is None else found.opening.record.decode(),
            salt=None if found.opening is None else text_of(found.opening.salt),
        )

    def consistency(self, old: int, new: int | None = None) -> Consistency:
        """Proof that the log only grew from ``old`` to ``new`` entries (all, by default).

        Raises:
            ContractError: there is no such proof.
        """
        with self._database.read() as session:
            bound = self._bounded(session, new)
            ranges = tree.consistency_ranges(old, bound)
            known = repository.nodes(session, tree.nodes_of([*ranges, (0, old), (0, bound)]))
        path = tuple(tree.range_hash(bounds, known) for bounds in ranges)
        return Consistency(
            old, bound, path, old_root=tree.range_hash((0, old), known), new_root=tree.range_hash((0, bound), known)
        )

    def leaf_hashes(self, low: int, high: int) -> Iterator[bytes]:
        """Hashes of the entries ``[low, high)``, as they went into the tree."""
        with self._database.read() as session:
            yield from (entry.leaf_hash for entry in repository.entries(session, low=low, high=high))

    def entry(self, seq: int) -> StoredEntry:
        """One entry.

        Raises:
            NotFound: there is none of that number.
        """
        with self._database.read() as session:
            found = next(iter(list(repository.entries(session, low=seq, high=seq + 1))), None)
        if found is None:
            raise NotFound("no such entry in the log")
        return found

    def events(
        self,
        cursor: int | None = None,
        limit: int = 100,
        kind: LogKind | None = None,
        *,
        newest_first: bool = False,
    ) -> list[StoredEntry]:
        """A page of entries with what opens them.

        Args:
            cursor: the last entry of the page before; None: the first page.
            limit: how many at most.
            kind: entries of one kind only.
            newest_first: the other way round.
        """
        low, high = (0, cursor) if newest_first else (0 if cursor is None else cursor + 1, None)
        kinds = () if kind is None else (kind,)
        with self._database.read() as session:
            return list(
                repository.entries(session, low=low, high=high, kinds=kinds, newest_first=newest_first, limit=limit)
            )

    def about(self, session: Transaction, subject: str) -> list[StoredEntry]:
        """Every entry about a subject that was not erased, oldest first."""
        return list(repository.entries(session, subject=subject))

    def each(self, kinds: Sequence[LogKind] = ()) -> Iterator[StoredEntry]:
        """Every entry, oldest first, read as one stream."""
        with self._database.read() as session:
            yield from repository.entries(session, kinds=kinds)

    def between(self, low: int, high: int) -> list[StoredEntry]:
        """The entries ``[low, high)``."""
        with self._database.read() as session:
            return list(repository.entries(session, low=low, high=high))

    def counts(self) -> dict[LogKind, int]:
        """Entries by what they are about."""
        with self._database.read() as session:
            return repository.counts(session)

    def checkpoints(self, *, newest_first: bool = False, limit: int | None = None) -> list[StoredCheckpoint]:
        """The signed checkpoints that are kept."""
        with self._database.read() as session:
            return repository.checkpoints(session, newest_first=newest_first, limit=limit)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _sign(self, session: Transaction, size: int, moment: int) -> StoredCheckpoint:
        draft = Checkpoint(self.origin, size, self._root(session, size), moment)
        stored = StoredCheckpoint(size, moment, seal_checkpoint(draft, self._signer))
        repository.add_checkpoint(session, stored)
        return stored

    @staticmethod
    def _root(session: Transaction, size: int) -> bytes:
        return tree.range_hash((0, size), repository.nodes(session, tree.peaks(0, size)))

    @staticmethod
    def _bounded(session: Transaction, size: int | None) -> int:
        there = repository.size(session)
        if size is not None and not 0 <= size <= there:
            raise ContractError(f"the log has {there} entries")
        return there if size is None else size
