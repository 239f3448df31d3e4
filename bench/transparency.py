"""Tampering with a transparency log of a million entries: each kind at random rows, found, named, and how fast.

    python -m bench.transparency [--entries 1000000] [--rows 3] [--receipts 2000 20000] [--out FILE]

The log is made as the server makes it: canonical leaves, salted commitments, a signed checkpoint every 1,000 entries.
``verify`` is what ``reticent verify`` does with the log part of a bundle: read and hash every entry, rebuild the tree,
hold every checkpoint and every record to it. The whole command is measured on bundles that the service itself writes
(``bench.installation``), by how many consent receipts are in them; the first of these is held to the limit.
Exit status 1 if anything is missed or misnamed, or 5 s are exceeded.
Times are of the process's own CPU, beside the wall clock: other work on the machine moves the second only.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench.installation import make_bundle, verified
from common.crypto.signing import SigningKey, key_ring
from common.taxonomy import LogKind, Tampering
from common.transparency.checkpoint import Checkpoint, SignedCheckpoint, open_checkpoint, seal_checkpoint
from common.transparency.findings import Finding
from common.transparency.hashes import PackedTree, pack_leaves
from common.transparency.history import History
from common.transparency.judge import Evidence, judge
from common.transparency.leaf import Leaf, Opening
from common.transparency.records import check_records, encode_record

START: Final = 1_800_000_000
BATCH: Final = 1_000
BLOCK: Final = 1_200
LIMIT_S: Final = 5.0
_KINDS: Final = tuple(LogKind)
_PURPOSES: Final = ("train.local", "train.contribute", "place.personalised", "measure.aggregate")


@dataclass(frozen=True)
class Made:
    """An honest log and what belongs to it."""

    rows: list[bytes]
    records: list[bytes]
    key: SigningKey

    @property
    def hashes(self) -> bytes:
        """Leaf hashes as stored."""
        return pack_leaves(self.rows)


def entry(seq: int, rng: random.Random) -> tuple[Leaf, Opening]:
    """One entry as a consent event or a charge leaves it."""
    consent = rng.random() < 0.8
    digest = rng.randbytes(32).hex()
    record = (
        f'{{"event":"consent","event_time":{START + seq},"purpose":"{_PURPOSES[seq % 4]}",'
        f'"receipt_id":"rcp_{digest[:22]}","receipt_sha256":"{digest}","state":"given"}}'
        if consent
        else f'{{"charge":{seq},"devices":1000,"members":"{digest}"}}'
    )
    opening = Opening(
        salt=rng.randbytes(32),
        record=record.encode(),
        subject=digest[:22] if consent else None,
        subject_salt=rng.randbytes(32) if consent else None,
    )
    leaf = Leaf(
        seq=seq,
        time=START + seq // 20,
        kind=LogKind.CONSENT if consent else LogKind.CHARGE,
        actor="device" if consent else "training",
        subject_commit=opening.subject_commit,
        payload_commit=opening.payload_commit,
    )
    return leaf, opening


def make(count: int, seed: int) -> Made:
    """An honest log of ``count`` entries."""
    rng, rows, records = random.Random(seed), list[bytes](), list[bytes]()  # noqa: S311 - repeatable test data
    for seq in range(count):
        leaf, opening = entry(seq, rng)
        rows.append(leaf.encode())
        records.append(
            encode_record(
                seq=seq,
                salt=opening.salt,
                record=opening.record,
                subject=opening.subject,
                subject_salt=opening.subject_salt,
            )
        )
    return Made(rows, records, SigningKey(hashlib.sha256(b"bench").digest()))


def signed(rows: Sequence[bytes], key: SigningKey) -> list[SignedCheckpoint]:
    """A checkpoint for every batch and for the end."""
    tree, found = PackedTree(pack_leaves(rows)), list[SignedCheckpoint]()
    for size in sorted({*range(BATCH, len(rows) + 1, BATCH), len(rows)}):
        moment = json.loads(rows[size - 1])["time"]
        note = seal_checkpoint(Checkpoint("bench-log", size, tree.root(size), moment), key)
        found.append(open_checkpoint(note, key_ring(key.public)))
    return found


def blocks(rows: Sequence[bytes], end: bytes) -> Iterator[bytes]:
    """Rows as a file gives them."""
    for at in range(0, len(rows), BLOCK):
        yield end.join(rows[at : at + BLOCK]) + end


@dataclass(frozen=True)
class Timed:
    """One verification."""

    finding: Finding | None
    cpu_s: float
    wall_s: float


def verify(rows: list[bytes], evidence: Evidence, records: list[bytes] | None = None) -> Timed:
    """Verify a log as it is shown."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    log = History(blocks(rows, b"\n"))
    found = judge(log, evidence).findings
    if records is not None and not found:
        report = check_records(blocks(records, b""), log)
        found = () if report.finding is None else (report.finding,)
    return Timed(found[0] if found else None, time.process_time() - cpu, time.perf_counter() - wall)


# ── what attackers do ────────────────────────────────────────────────────────────────────────────────────────────────


def decoded(row: bytes) -> Leaf:
    """A row as an entry."""
    found = History([row + b"\n"]).leaf(0)
    if found is None:
        raise ValueError("not an entry")
    return found


def edit(rows: list[bytes], row: int, rng: random.Random) -> list[bytes]:
    """Another record in the place of one."""
    changed = replace(decoded(rows[row]), payload_commit=rng.randbytes(32))
    return [*rows[:row], changed.encode(), *rows[row + 1 :]]


def delete(rows: list[bytes], row: int, _rng: random.Random) -> list[bytes]:
    """One entry less."""
    return [*rows[:row], *rows[row + 1 :]]


def delete_renumbered(rows: list[bytes], row: int, _rng: random.Random) -> list[bytes]:
    """One entry less, and every later one renumbered."""
    tail = (line.replace(b'"seq":%d,' % seq, b'"seq":%d,' % (seq - 1), 1) for seq, line in enumerate(rows))
    later = [line for seq, line in enumerate(tail) if seq > row]
    return [*rows[:row], *later]


def reorder(rows: list[bytes], row: int, rng: random.Random) -> list[bytes]:
    """Two entries in each other's place."""
    other = rng.randrange(row + 1, len(rows))
    changed = list(rows)
    changed[row], changed[other] = changed[other], changed[row]
    return changed


def truncate(rows: list[bytes], row: int, _rng: random.Random) -> list[bytes]:
    """The end cut off."""
    return rows[:row]


def date_back(rows: list[bytes], row: int, rng: random.Random) -> list[bytes]:
    """An entry that claims an earlier time."""
    changed = decoded(rows[row])
    return [*rows[:row], replace(changed, time=changed.time - rng.randrange(1, 10_000)).encode(), *rows[row + 1 :]]


def put_in(rows: list[bytes], row: int, rng: random.Random) -> list[bytes]:
    """An entry that was not there, among older ones."""
    extra = replace(decoded(rows[row]), payload_commit=rng.randbytes(32))
    return [*rows[:row], extra.encode(), *rows[row:]]


Attack = Callable[[list[bytes], int, random.Random], list[bytes]]
ATTACKS: Final[dict[str, tuple[Attack, Tampering]]] = {
    "edit": (edit, Tampering.EDIT),
    "deletion": (delete, Tampering.DELETION),
    "deletion, renumbered": (delete_renumbered, Tampering.DELETION),
    "reordering": (reorder, Tampering.REORDERING),
    "truncation": (truncate, Tampering.TRUNCATION),
    "back-dating": (date_back, Tampering.BACK_DATING),
    "back-dating, put in": (put_in, Tampering.BACK_DATING),
}


@dataclass(frozen=True)
class Line:
    """One attack and what became of it."""

    attack: str
    row: int
    named: str
    at: str
    right: bool
    cpu_s: float
    wall_s: float


def told(attack: str, row: int, due: Tampering, timed: Timed, *, exact: bool = True) -> Line:
    """Whether an attack was found where and as what it is."""
    found = timed.finding
    if found is None:
        return Line(attack, row, "nothing", "-", right=False, cpu_s=timed.cpu_s, wall_s=timed.wall_s)
    last = found.row if found.last is None else found.last
    right = found.kind is due and found.row <= row <= last and (not exact or last == found.row)
    at = str(found.row) if last == found.row else f"{found.row}-{last}"
    return Line(attack, row, found.kind.value, at, right=right, cpu_s=timed.cpu_s, wall_s=timed.wall_s)


def tampered(made: Made, rows_each: int, seed: int) -> Iterator[Line]:
    """Every attack at random rows."""
    rng, own, hashes = random.Random(seed), signed(made.rows, made.key), made.hashes  # noqa: S311 - likewise
    for name, (attack, due) in ATTACKS.items():
        for _ in range(rows_each):
            row = rng.randrange(1, len(made.rows) - 2)
            shown = attack(made.rows, row, rng)
            yield told(name, row, due, verify(shown, Evidence(own=own, stored=hashes)))
    for _ in range(rows_each):
        row = rng.randrange(1, len(made.rows) - 2)
        shown = edit(made.rows, row, rng)
        resigned, theirs = signed(shown, made.key), pack_leaves(shown)
        witness = Evidence(own=resigned, kept=own, stored=theirs, witness=hashes)
        yield told("fork, witness with hashes", row, Tampering.FORK, verify(shown, witness))
        bare = Evidence(own=resigned, kept=own, stored=theirs)
        yield told("fork, kept checkpoints only", row, Tampering.FORK, verify(shown, bare), exact=False)
        covered = Evidence(own=own, stored=theirs)
        yield told("edit, every hash changed too", row, Tampering.EDIT, verify(shown, covered), exact=False)
    for _ in range(rows_each):
        row = rng.randrange(1, len(made.rows) - 2)
        changed = list(made.records)
        changed[row] = changed[row].replace(b'"event"', b'"Event"').replace(b'"devices":1000', b'"devices":10')
        yield told("edit of a record", row, Tampering.EDIT, verify(made.rows, Evidence(own, (), hashes), changed))


@dataclass(frozen=True)
class Whole:
    """One verification of a whole bundle by the command's own function."""

    entries: int
    receipts: int
    signatures: int
    bundle_mb: float
    cpu_s: float
    wall_s: float
    good: bool


def whole(entries: int, receipts: int, seed: int) -> Whole:
    """The best of three verifications of a bundle that the service has written."""
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder), entries=entries, receipts=receipts, seed=seed)
        report, cpu = min((verified(bundle) for _ in range(3)), key=lambda found: found[1])
        return Whole(
            entries=report.entries,
            receipts=report.counts["receipts"],
            signatures=report.signatures,
            bundle_mb=round(bundle.path.stat().st_size / 1e6, 1),
            cpu_s=cpu,
            wall_s=report.seconds,
            good=report.genuine and report.complete,
        )


def wholes(entries: int, receipts: Sequence[int], seed: int) -> list[Whole]:
    """By how many receipts are in the bundle."""
    found = []
    for count in receipts:
        one = whole(entries, count, seed)
        found.append(one)
        print(
            f"  reticent verify, {one.receipts:>9,} receipts         {one.cpu_s:6.2f} s CPU {one.wall_s:7.2f} s wall   "
            f"{one.signatures:,} signatures, {one.bundle_mb:,.0f} MB{'' if one.good else ': NOT GOOD'}",
            flush=True,
        )
    return found


def main() -> int:
    """Measure and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    options.add_argument("--entries", type=int, default=1_000_000)
    options.add_argument("--rows", type=int, default=3, help="random rows per attack")
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--receipts", type=int, nargs="*", default=[2_000, 20_000], help="of whole bundles")
    options.add_argument("--out", type=Path)
    asked = options.parse_args()
    bundles = wholes(asked.entries, asked.receipts, asked.seed)
    made = make(asked.entries, asked.seed)
    gc.freeze()
    honest = Evidence(own=signed(made.rows, made.key), stored=made.hashes)
    best = min((verify(made.rows, honest, made.records) for _ in range(3)), key=lambda timed: timed.cpu_s)
    tree_only = min((verify(made.rows, honest) for _ in range(2)), key=lambda timed: timed.cpu_s)
    print(f"{asked.entries:,} honest entries, {len(honest.own):,} checkpoints: {best.finding or 'genuine'}")
    print(f"  entries, tree, checkpoints            {tree_only.cpu_s:6.2f} s CPU {tree_only.wall_s:7.2f} s wall")
    print(
        f"  and every record to its commitment    {best.cpu_s:6.2f} s CPU {best.wall_s:7.2f} s wall   limit {LIMIT_S} s"
    )
    lines = []
    print(f"{'attack':<30} {'row':>9}  {'named':<12} {'at':>17}  CPU s")
    for line in tampered(made, asked.rows, asked.seed):
        lines.append(line)
        mark = "" if line.right else "   MISSED"
        print(f"{line.attack:<30} {line.row:>9}  {line.named:<12} {line.at:>17}  {line.cpu_s:5.2f}{mark}", flush=True)
    good = best.finding is None and all(line.right for line in lines) and all(one.good for one in bundles)
    limit = LIMIT_S * asked.entries / 1_000_000
    fast = best.cpu_s <= limit and all(one.cpu_s <= limit for one in bundles[:1])
    if asked.out:
        figures = {
            "entries": asked.entries,
            "honest": {"tree_cpu_s": tree_only.cpu_s, "all_cpu_s": best.cpu_s, "all_wall_s": best.wall_s},
            "whole_command": [vars(one) for one in bundles],
            "attacks": [vars(line) for line in lines],
        }
        asked.out.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    print(f"{sum(line.right for line in lines)} of {len(lines)} attacks found and named{'' if fast else '; too slow'}")
    return 0 if good and fast else 1


if __name__ == "__main__":
    sys.exit(main())
