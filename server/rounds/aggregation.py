"""Adding masked updates. Owns what a reply must look like and the exact integer sum. Pure: no file, socket or clock.

A reply that is not exactly what its round asked for is refused by name and counted; the others stand. Every
contribution weighs the same: the mean is ``sum · GRID / contributions``, whatever a device holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from common.errors import MalformedInput, OutOfRange, TooFewSurvivors
from common.privacy.parameters import MechanismUse
from common.privacy.summation import add_exactly
from common.privacy.updates import GRID, GRID_LIMIT, Vector
from common.taxonomy import Masking
from common.wire.codec import decode
from common.wire.messages import TrainingContribution

IntVector = npt.NDArray[np.int64]

UPDATE = "update"
_INT64_MAX = int(np.iinfo(np.int64).max)


class ReplyFault(StrEnum):
    """Why a reply was refused."""

    MALFORMED = "MalformedInput"
    DUPLICATE = "DuplicateReply"
    FOREIGN_RUN = "ForeignRun"
    WRONG_ROUND = "WrongRound"
    SPEC = "SpecMismatch"
    DIGEST = "DigestMismatch"
    SHAPE = "ShapeMismatch"
    DTYPE = "DtypeMismatch"
    MECHANISM = "MechanismMismatch"
    MASKING = "MaskingMismatch"
    CONTRIBUTIONS = "ContributionsOutOfRange"
    RANGE = "ValueOutOfRange"
    OVERFLOW = "SumOverflow"


@dataclass(frozen=True, slots=True)
class Expected:
    """What every reply of one round must declare.

    Attributes:
        length: number of weights d.
        release: the policy's mechanism; a reply that declares another is refused.
        contributions_max: devices one node may speak for.
    """

    run_id: str
    round_number: int
    spec_digest: str
    base_digest: str
    length: int
    release: MechanismUse
    masking: Masking
    contributions_max: int


@dataclass(slots=True)
class Tally:
    """The running sum of one round.

    Attributes:
        total: int64 ``[d]`` on ``GRID``.
        contributions: devices in the sum.
        nodes: nodes whose reply is in the sum.
        refused: replies refused, by fault.
        declined: nodes that answered with a closed error name instead of an update.
    """

    total: IntVector
    contributions: int = 0
    nodes: set[int] = field(default_factory=set)
    refused: Counter[ReplyFault] = field(default_factory=Counter)
    declined: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def start(length: int) -> Tally:
        """An empty sum of ``length`` weights."""
        return Tally(np.zeros(length, np.int64))


def fault_of_header(header: TrainingContribution, expected: Expected) -> ReplyFault | None:
    """The first thing in a reply's header that is not as its round declared."""
    checks: tuple[tuple[bool, ReplyFault], ...] = (
        (header.run_id == expected.run_id, ReplyFault.FOREIGN_RUN),
        (header.round_number == expected.round_number, ReplyFault.WRONG_ROUND),
        (header.spec_digest == expected.spec_digest, ReplyFault.SPEC),
        (header.base_digest == expected.base_digest, ReplyFault.DIGEST),
        (header.length == expected.length, ReplyFault.SHAPE),
        (header.release == expected.release, ReplyFault.MECHANISM),
        (header.masking is expected.masking, ReplyFault.MASKING),
        (1 <= header.contributions <= expected.contributions_max, ReplyFault.CONTRIBUTIONS),
    )
    return next((fault for holds, fault in checks if not holds), None)


def fault_of_vector(vector: npt.NDArray[np.generic], header: TrainingContribution) -> ReplyFault | None:
    """The first thing in a reply's vector that its header does not allow."""
    if vector.dtype != np.int64:
        return ReplyFault.DTYPE
    if vector.shape != (header.length,):
        return ReplyFault.SHAPE
    bound = min(header.contributions * GRID_LIMIT, _INT64_MAX)
    if vector.size and (int(vector.max()) > bound or int(vector.min()) < -bound):
        return ReplyFault.RANGE
    return None


def add_reply(
    tally: Tally, expected: Expected, *, node_id: int, body: bytes, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> ReplyFault | None:
    """Check one node's reply and add it to the tally, or count why not.

    Args:
        tally: the round's running sum, changed in place.
        expected: what the round asked for.
        node_id: the node that was asked, by the server's own bookkeeping and not by the reply's word.
        body: wire bytes of the ``TrainingContribution``.
        arrays: exactly one, ``update``, int64 ``[d]``.

    Returns:
        The fault, already counted, or None when the reply is in the sum.
    """
    fault = _add(tally, expected, node_id, body, arrays)
    if fault is not None:
        tally.refused[fault] += 1
    return fault


def _add(
    tally: Tally, expected: Expected, node_id: int, body: bytes, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> ReplyFault | None:
    if node_id in tally.nodes:
        return ReplyFault.DUPLICATE
    try:
        header = decode(body, TrainingContribution)
    except MalformedInput:
        return ReplyFault.MALFORMED
    if set(arrays) != {UPDATE}:
        return ReplyFault.MALFORMED
    vector = arrays[UPDATE]
    fault = fault_of_header(header, expected) or fault_of_vector(vector, header)
    if fault is not None:
        return fault
    try:
        tally.total = add_exactly(tally.total, vector.astype(np.int64, copy=False))
    except OutOfRange:
        return ReplyFault.OVERFLOW
    tally.contributions += header.contributions
    tally.nodes.add(node_id)
    return None


def mean_update(tally: Tally, contributions_min: int) -> Vector:
    """Uniform mean of all contributions, float64 ``[d]``, in model-weight units.

    Raises:
        TooFewSurvivors: fewer contributions than the round needs.
    """
    if tally.contributions < max(1, contributions_min):
        raise TooFewSurvivors(
            f"{tally.contributions} contributions arrived, at least {max(1, contributions_min)} are needed"
        )
    return tally.total.astype(np.float64) * (GRID / tally.contributions)
