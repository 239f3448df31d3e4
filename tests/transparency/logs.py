"""Logs made for tests and benches: honest ones, and what an attacker makes of them."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common.crypto.signing import SigningKey, canonical, key_ring
from common.taxonomy import LogKind
from common.transparency.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, seal_checkpoint
from common.transparency.hashes import PackedTree, pack_leaves
from common.transparency.history import History
from common.transparency.judge import Evidence, Judgement, judge
from common.transparency.leaf import Leaf, Opening

START = 1_800_000_000
ORIGIN = "test-log"
KINDS = tuple(LogKind)


def leaves(count: int, seed: int = 0) -> list[Leaf]:
    """An honest log, three entries a second."""
    rng = random.Random(seed)
    return [
        Leaf(
            seq=seq,
            time=START + seq // 3,
            kind=KINDS[rng.randrange(len(KINDS))],
            actor=("device", "training", "privacy_officer:li")[rng.randrange(3)],
            subject_commit=None if rng.random() < 0.3 else rng.randbytes(32),
            payload_commit=rng.randbytes(32),
        )
        for seq in range(count)
    ]


def lines(entries: Sequence[Leaf]) -> list[bytes]:
    return [entry.encode() for entry in entries]


def text(rows: Sequence[bytes]) -> bytes:
    return b"".join(row + b"\n" for row in rows)


def signed(
    rows: Sequence[bytes], key: SigningKey, sizes: Sequence[int], times: Callable[[int], int] | None = None
) -> list[SignedCheckpoint]:
    """Checkpoints of some sizes."""
    tree, found = PackedTree(pack_leaves(rows)), []
    for size in sizes:
        moment = times(size) if times else START + max(0, size - 1) // 3
        note = seal_checkpoint(Checkpoint(ORIGIN, size, tree.root(size), moment), key)
        found.append(open_checkpoint(note, key_ring(key.public), origin=ORIGIN))
    return found


@dataclass
class Attack:
    """A log as it is shown, and what it is judged by."""

    rows: list[bytes]
    own: list[SignedCheckpoint]
    stored: bytes
    kept: Sequence[SignedCheckpoint] = ()
    witness: bytes = b""

    def judged(self) -> Judgement:
        log = History([text(self.rows)] if self.rows else [])
        return judge(log, Evidence(own=self.own, kept=self.kept, stored=self.stored, witness=self.witness))


def renumbered(entries: Sequence[Leaf]) -> list[Leaf]:
    return [replace(entry, seq=seq) for seq, entry in enumerate(entries)]


def opening(number: int, *, subject: str | None = None) -> Opening:
    return Opening(
        salt=hashlib.sha256(b"salt%d" % number).digest(),
        record=canonical({"n": number}),
        subject=subject,
        subject_salt=None if subject is None else hashlib.sha256(b"subject%d" % number).digest(),
    )
