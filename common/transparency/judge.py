"""Is a log what was signed, and if not: where does it begin to differ, and what was done there? Pure.

A root says that *something* below it changed. To name the row, the hashes of the leaves are kept a second time
(``stored``: as they were when the entries were written; ``witness``: a copy that somebody else keeps). Whichever copy
still leads to the signed root is authentic, and the first row that differs from it is the first bad row. Where every
copy was changed along with the log, the checkpoints before and after still say between which rows it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from common.taxonomy import Tampering
from common.transparency.checkpoint import SignedCheckpoint
from common.transparency.difference import LEAVES, classify, first_difference, put_back
from common.transparency.findings import Finding, Gap
from common.transparency.hashes import PackedTree
from common.transparency.history import History
from common.transparency.tree import HASH_BYTES

CHECKPOINTS: Final = "log/checkpoints.jsonl"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a log is judged by.

    Attributes:
        own: checkpoints that came with it, verified, in any order.
        kept: checkpoints that were kept elsewhere, verified.
        stored: packed leaf hashes as they came with the log; empty if none did.
        witness: packed leaf hashes that were kept elsewhere; empty if none were.
    """

    own: Sequence[SignedCheckpoint] = ()
    kept: Sequence[SignedCheckpoint] = ()
    stored: bytes = b""
    witness: bytes = b""

    @property
    def every(self) -> list[SignedCheckpoint]:
        """All checkpoints, by size."""
        return sorted((*self.own, *self.kept), key=lambda signed: signed.checkpoint.size)


@dataclass(frozen=True, slots=True)
class Judgement:
    """What was found.

    Attributes:
        findings: the first bad row, and what was done; none where the log is what was signed.
        gaps: what is missing, or covered by no signature.
        covered: how many entries the newest fitting checkpoint covers.
    """

    findings: tuple[Finding, ...]
    gaps: tuple[Gap, ...]
    covered: int


def judge(log: History, evidence: Evidence) -> Judgement:
    """Compare a log with everything that was signed about it."""
    fitting, failing = _fit(log, evidence.every)
    covered = max((signed.checkpoint.size for signed in fitting), default=0)
    found: Finding | None
    if failing:
        found = _first_bad(log, evidence, fitting, failing[0])
    else:
        found = _order(log) or _times(log, evidence.every) or _uncovered(log, evidence.stored, covered)
    gaps = []
    if len(log) > covered:
        gaps.append(Gap("log", len(log) - covered, "entries are covered by no fitting checkpoint: keep the next one"))
    return Judgement(() if found is None else (found,), tuple(gaps), covered)


def _fit(log: History, signed: Sequence[SignedCheckpoint]) -> tuple[list[SignedCheckpoint], list[SignedCheckpoint]]:
    """Checkpoints that the log leads to, and those that it does not, by size."""
    fitting, failing = list[SignedCheckpoint](), list[SignedCheckpoint]()
    for one in signed:
        size = one.checkpoint.size
        genuine = size <= len(log) and log.tree.root(size) == one.checkpoint.root
        (fitting if genuine else failing).append(one)
    return fitting, failing


def _first_bad(
    log: History, evidence: Evidence, fitting: Sequence[SignedCheckpoint], failing: SignedCheckpoint
) -> Finding:
    """The first row that is not what the smallest failing checkpoint was signed over."""
    target = failing.checkpoint
    good = max((one.checkpoint.size for one in fitting if one.checkpoint.size < target.size), default=0)
    if _forked(fitting, failing, evidence):
        return _fork(log, evidence, good, target.size)
    for copy in (evidence.witness, evidence.stored, put_back(log, evidence.stored)):
        if len(copy) >= target.size * HASH_BYTES and _root(copy, target.size) == target.root:
            found = classify(log, copy)
            if found is not None:
                return found
    if len(log) < target.size and log.tree.size == good:
        return _short(log, target.size)
    return _between(log, good, min(target.size, len(log)), target.size)


def _forked(fitting: Sequence[SignedCheckpoint], failing: SignedCheckpoint, evidence: Evidence) -> bool:
    """Whether two things were signed that cannot both be true: the log fits one, and a kept one says otherwise."""
    kept = failing in evidence.kept
    signed_over = max((one.checkpoint.size for one in fitting if one in evidence.own), default=0)
    twins = {one.checkpoint.root for one in evidence.every if one.checkpoint.size == failing.checkpoint.size}
    return len(twins) > 1 or (kept and signed_over >= failing.checkpoint.size)


def _fork(log: History, evidence: Evidence, good: int, size: int) -> Finding:
    detail = "two histories were signed: a checkpoint kept elsewhere covers other entries than this log has"
    if evidence.witness:
        row = first_difference(log.tree.leaves, evidence.witness)
        if row is not None and row < size:
            return Finding(Tampering.FORK, LEAVES, row, detail)
    return Finding(Tampering.FORK, LEAVES, good, detail, last=size - 1)


def _short(log: History, size: int) -> Finding:
    detail = f"the log ends here, {size - len(log)} entries before its newest checkpoint"
    return Finding(Tampering.TRUNCATION, LEAVES, len(log), detail)


def _between(log: History, good: int, end: int, size: int) -> Finding:
    """No copy of the hashes is authentic: the checkpoints bound the first bad row, and what entries say narrows it."""
    told = _order(log, good, end) or _decreasing(log, max(0, good - 1), end)
    if told is not None:
        return told
    if len(log) < size:
        return Finding(
            Tampering.TRUNCATION,
            LEAVES,
            good,
            f"{size - len(log)} entries are missing before the end of a checkpoint, from here on at the earliest",
            last=len(log),
        )
    detail = "every copy of the hashes was changed too; the checkpoint before these rows still fits"
    return Finding(Tampering.EDIT, LEAVES, good, detail, last=size - 1)


def _order(log: History, low: int = 0, high: int | None = None) -> Finding | None:
    """Whether the entries are numbered as they stand."""
    high = len(log) if high is None else high
    seqs = np.frombuffer(log.seqs, np.int64)[low:high] if len(log) else np.empty(0, np.int64)
    wrong = np.flatnonzero(seqs != np.arange(low, low + len(seqs)))
    if not wrong.size:
        return None
    row, said = low + int(wrong[0]), int(seqs[wrong[0]])
    if said < 0:
        return Finding(Tampering.EDIT, LEAVES, row, "this is not an entry of a log")
    if said > row and not np.isin(row, seqs[wrong[0] :]).item():
        return Finding(Tampering.DELETION, LEAVES, row, f"{said - row} entries are missing before entry {said}")
    if said < row and not np.isin(row, seqs[wrong[0] :]).item():
        return Finding(Tampering.BACK_DATING, LEAVES, row, f"an entry was put in that calls itself number {said}")
    return Finding(Tampering.REORDERING, LEAVES, row, f"entry {said} stands in the place of entry {row}")


def _decreasing(log: History, low: int, high: int) -> Finding | None:
    times = np.frombuffer(log.times, np.int64)[low:high] if len(log) else np.empty(0, np.int64)
    earlier = np.flatnonzero(times[1:] < times[:-1])
    if not earlier.size:
        return None
    row = low + int(earlier[0]) + 1
    # The row before may be the one that was dated forward; that it is this one is likelier, and this is the place.
    return Finding(Tampering.BACK_DATING, LEAVES, row, "it claims to be older than the entry before it")


def _times(log: History, signed: Sequence[SignedCheckpoint]) -> Finding | None:
    """Whether no entry claims to be older than the one before it, or than a checkpoint that does not cover it."""
    found = _decreasing(log, 0, len(log))
    if found is not None:
        return found
    for one in signed:
        size, moment = one.checkpoint.size, one.checkpoint.time
        if size < len(log) and log.times[size] < moment:
            detail = f"it claims to be older than the checkpoint of {size} entries, which does not cover it"
            return Finding(Tampering.BACK_DATING, LEAVES, size, detail)
        if size and log.times[size - 1] > moment:
            detail = "it claims to be younger than the checkpoint that covers it"
            return Finding(Tampering.BACK_DATING, CHECKPOINTS, size - 1, detail)
    return None


def _uncovered(log: History, stored: bytes, covered: int) -> Finding | None:
    """Entries after the newest checkpoint against the copy of their hashes: all there is to hold them to."""
    if not stored:
        return None
    row = first_difference(log.tree.leaves, stored)
    if row is None or row < covered:
        if len(stored) > len(log.tree.leaves):
            return Finding(Tampering.TRUNCATION, LEAVES, len(log), "hashes of more entries were kept than are here")
        return None
    return classify(log, stored)


def _root(copy: bytes, size: int) -> bytes:
    return PackedTree(copy[: size * HASH_BYTES]).root(size)
