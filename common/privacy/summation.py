"""Exact sums of masked updates. Owns integer addition that never wraps around, and sums that can leave a group out."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from common.errors import DtypeMismatch, OutOfRange, ShapeMismatch
from common.privacy.updates import MaskedUpdate

IntVector = npt.NDArray[np.int64]
GROUP_DEVICES = 32

K = TypeVar("K", bound=str)
C = TypeVar("C")


def add_exactly(a: IntVector, b: IntVector) -> IntVector:
    """``a + b``, int64 ``[d]``.

    Raises:
        OutOfRange: somewhere the sum does not fit 64 bits: two equal signs gave the other one.
    """
    total = a + b
    if (((a ^ total) & (b ^ total)) < 0).any():
        raise OutOfRange("the sum of updates does not fit 64 bits")
    return total


@dataclass(slots=True)
class _Group(Generic[K, C]):
    total: IntVector
    charges: dict[K, C] = field(default_factory=dict)


@dataclass(slots=True)
class Outgoing(Generic[K, C]):
    """Masked updates of a node's devices on their way out, added up in small groups.

    A consent withdrawn while other devices still train takes its group out of the sum; single updates are not kept,
    so memory grows by one vector per ``GROUP_DEVICES`` devices.

    Args of the constructor:
        length: number of weights d.
    """

    length: int
    _groups: list[_Group[K, C]] = field(default_factory=list)

    def add(self, device: K, update: MaskedUpdate, charge: C) -> None:
        """Add one device's update, int64 ``[d]``, with the ledger charge that stands for it.

        Raises:
            TypeError: not a masked update: nothing earlier in the chain of types may come here.
            ShapeMismatch, DtypeMismatch: not int64 ``[d]``.
            OutOfRange: the sum does not fit 64 bits.
        """
        if not isinstance(update, MaskedUpdate):
            raise TypeError("only masked updates leave a device")
        if update.vector.dtype != np.int64:
            raise DtypeMismatch("a masked update is int64")
        if update.vector.shape != (self.length,):
            raise ShapeMismatch(f"expected {self.length} weights, got shape {update.vector.shape}")
        if not self._groups or len(self._groups[-1].charges) >= GROUP_DEVICES:
            self._groups.append(_Group(np.zeros(self.length, np.int64)))
        group = self._groups[-1]
        group.total = add_exactly(group.total, update.vector)
        group.charges[device] = charge

    def charges(self) -> dict[K, C]:
        """Every device in it, with its charge."""
        return {device: charge for group in self._groups for device, charge in group.charges.items()}

    def without(self, barred: AbstractSet[K]) -> tuple[IntVector, dict[K, C]]:
        """Sum, int64 ``[d]``, and charges of the groups that hold none of the barred devices."""
        total = np.zeros(self.length, np.int64)
        charges: dict[K, C] = {}
        for group in self._groups:
            if not barred & group.charges.keys():
                total = add_exactly(total, group.total)
                charges |= group.charges
        return total, charges
