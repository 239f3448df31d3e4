"""Whether the server's ledger tells one story: spends are the sum of the charges, and nobody is past a bound."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import StoreError
from policies import budget
from server.ledger.packing import unpack_members, unpack_spend
from server.ledger.repository import SubjectSpend
from server.ledger.service import ServerLedger

Counts = dict[int, npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ServerVerdict:
    """What a check has found: how much was read, and the first bad row of each kind."""

    charges: int
    entries: int
    devices: int
    problems: tuple[str, ...]


def verify(ledger: ServerLedger) -> ServerVerdict:
    """Check every row."""
    charges, subjects = ledger.charges(), ledger.subjects()
    period = max((charge.period for charge in charges), default=0)
    size = max((subject.number for subject in subjects), default=0) + 1
    expected: Counts = {}
    problems: list[str] = []
    entries = 0
    for charge in charges:
        try:
            members = unpack_members(charge.members)
            settled = members if charge.settled is None else unpack_members(charge.settled)
        except StoreError:
            members = settled = np.empty(0, np.int64)
        entries += len(members)
        bad = len(members) + charge.unnamed != charge.devices or (len(members) and members[-1] >= size)
        if bad or not np.isin(settled, members).all():
            problems.append(f"charges: row {charge.id} does not hold the devices that it counts")
            break
        if charge.period == period:
            for release in charge.releases:
                expected.setdefault(release.use, np.zeros(size, np.int64))[members] += 1
    problems += _totals(subjects, expected, period, size) + _caps(ledger)
    return ServerVerdict(len(charges), entries, len(subjects), tuple(problems))


def _totals(subjects: Sequence[SubjectSpend], expected: Counts, period: int, size: int) -> list[str]:
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for subject in subjects:
        if subject.period >= period:
            groups[subject.spend].append(subject.number)
    counted: Counts = {use: np.zeros(size, np.int64) for use in expected}
    for packed, numbers in groups.items():
        try:
            spend = unpack_spend(packed)
        except StoreError:
            return [f"subjects: the spend of row {numbers[0]} is damaged"]
        for use, times in spend:
            counted.setdefault(use, np.zeros(size, np.int64))[numbers] += times
    for use, found in counted.items():
        wrong = np.flatnonzero(found != expected.get(use, np.zeros(size, np.int64)))
        if wrong.size:
            return [f"subjects: the spend of row {int(wrong[0])} is not the sum of its charges (use {use})"]
    return []


def _caps(ledger: ServerLedger) -> list[str]:
    try:
        spends, counts = ledger.spends(), ledger.made()
    except StoreError as error:
        return [f"subjects: {error}"]
    for (spent, count), made in zip(spends, counts, strict=True):
        passed = [budget.passed(line, spent) for line in ledger.policy.lines]
        for over in (*passed, budget.too_many(ledger.policy, spent, made)):
            if over is not None:
                return [f"caps: {over.said_of(count)}"]
    return []
