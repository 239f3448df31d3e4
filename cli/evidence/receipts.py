"""The receipts of a bundle, held to the log and to their own signatures. Owns how many signatures are verified.

Every receipt is held to the digest in its entry of the signed log, which binds each of its bytes. Its own signature is
verified too: of all where there are up to ``ALL_SIGNATURES_MAX``; beyond, of a sample that nobody can foresee, unless
all are asked for. Receipts that the log does not speak of are always verified: nothing else vouches for them.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from common.crypto.signing import PublicKey
from common.errors import ReticentError
from common.taxonomy import Tampering
from common.transparency.findings import Finding
from common.wire.documents import open_document
from common.wire.evidence import RECEIPTS
from common.wire.messages import ConsentReceipt

ALL_SIGNATURES_MAX: Final = 20_000
SAMPLE: Final = 2_000


class Listed(msgspec.Struct, gc=False):
    """A receipt as the bundle has it."""

    receipt_id: str
    seq: int | None
    jws: str


_DECODER: Final = msgspec.json.Decoder(Listed)


@dataclass(slots=True)
class ReceiptReport:
    """What was found.

    Attributes:
        good: how many receipts are what the log speaks of.
        older: how many of them the log does not speak of.
        seen: the log's entries that have theirs here.
        signatures: how many signatures were verified.
        finding: the first bad row.
    """

    good: int = 0
    older: int = 0
    seen: set[int] = field(default_factory=set)
    signatures: int = 0
    finding: Finding | None = None


def check_receipts(
    lines: Iterable[bytes], promised: Mapping[int, bytes], keys: Mapping[str, PublicKey], *, began: int, every: bool
) -> ReceiptReport:
    """Hold receipts to the log and to their signatures.

    Args:
        lines: as the bundle has them.
        promised: hexadecimal digest of the receipt by the entry's number.
        keys: trusted ones.
        began: when the log began; what is of a later time must be in it.
        every: verify every signature, however many there are.
    """
    report, chosen = ReceiptReport(), _Chosen(every=every)
    for row, line in enumerate(lines):
        fault = _held(line, row, promised, report=report, chosen=chosen)
        if fault is not None:
            report.finding = Finding(fault[0], RECEIPTS, row, fault[1])
            break
        report.good += 1
    for row, receipt in chosen.rows():
        fault = _signed(receipt, keys, began)
        if fault is not None:
            report.finding, report.good = Finding(fault[0], RECEIPTS, row, fault[1]), row
            break
        report.signatures += 1
    return report


class _Chosen:
    """Whose signatures are verified: all, until there are too many; then a sample without repetition (reservoir)."""

    def __init__(self, *, every: bool) -> None:
        self._every, self._offered = every, 0
        self._always = list[tuple[int, Listed]]()
        self._kept = list[tuple[int, Listed]]()
        self._random = random.SystemRandom()

    def offer(self, row: int, receipt: Listed) -> None:
        """Take a receipt into account."""
        if self._every or receipt.seq is None:
            self._always.append((row, receipt))
            return
        self._offered += 1
        if self._offered <= ALL_SIGNATURES_MAX:
            self._kept.append((row, receipt))
            return
        if len(self._kept) > SAMPLE:
            self._kept = self._random.sample(self._kept, SAMPLE)
        place = self._random.randrange(self._offered)
        if place < SAMPLE:
            self._kept[place] = (row, receipt)

    def rows(self) -> list[tuple[int, Listed]]:
        """Them, in their order."""
        return sorted(self._always + self._kept, key=lambda one: one[0])


def _held(
    line: bytes, row: int, promised: Mapping[int, bytes], *, report: ReceiptReport, chosen: _Chosen
) -> tuple[Tampering, str] | None:
    """What is wrong with a receipt beside its signature."""
    try:
        receipt = _DECODER.decode(line)
    except (msgspec.DecodeError, ValueError):
        return Tampering.EDIT, "this is not a receipt"
    if receipt.seq is None:
        report.older += 1
    else:
        digest = promised.get(receipt.seq)
        if digest is None:
            return Tampering.FORGERY, f"the log's entry {receipt.seq} is not about a receipt"
        if hashlib.sha256(receipt.jws.encode()).hexdigest().encode() != digest:
            return Tampering.EDIT, f"it is not the receipt that the log's entry {receipt.seq} speaks of"
        if receipt.seq in report.seen:
            return Tampering.FORGERY, "a second receipt for one entry of the log"
        report.seen.add(receipt.seq)
    chosen.offer(row, receipt)
    return None


def _signed(receipt: Listed, keys: Mapping[str, PublicKey], began: int) -> tuple[Tampering, str] | None:
    try:
        opened = open_document(receipt.jws, ConsentReceipt, keys)
    except ReticentError as error:
        return Tampering.FORGERY, f"its signature does not verify ({error.name})"
    if opened.receipt_id != receipt.receipt_id:
        return Tampering.EDIT, "it is listed under another receipt's name"
    if receipt.seq is None and opened.event_time >= began:
        return Tampering.FORGERY, "it is not older than the log, and the log does not speak of it"
    return None
