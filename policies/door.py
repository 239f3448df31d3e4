"""What the egress door stands on. Owns what it asks of gate, ledger, journal and transport, and what waits before it.

Types only: nothing here sends, reads or decides. ``client.egress`` gets implementations handed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from common.privacy.distributed import MaskedShare
from common.privacy.summation import IntVector
from common.taxonomy import Purpose
from common.wire.base import Message
from common.wire.journal import JournalRow
from policies.consent import Permit, Refusal

Payload = IntVector | npt.NDArray[np.uint8]
"""The array beside a message: a node's integer sum, or the bytes of one device's masked share."""


class Charge(Protocol):
    """A durable entry of one device in its ledger."""

    @property
    def epsilon(self) -> float:
        """What it cost the device."""


C = TypeVar("C", bound=Charge)
K_contra = TypeVar("K_contra", bound=str, contravariant=True)
C_contra = TypeVar("C_contra", bound=Charge, contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Gate(Protocol[K_contra]):
    """Answers from live, verified consent receipts."""

    def permits(self, device: K_contra, purpose: Purpose) -> Permit | Refusal:
        """Whether this device's data may be used for this purpose now."""


class Spending(Protocol[C_contra]):
    """The ledger, as far as the door needs it."""

    def settle(self, reservations: Iterable[C_contra]) -> None:
        """Mark charges as released; raises unless every one of them stands durably in the ledger."""


class Journal(Protocol):
    """Where the door writes what it did."""

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Write all rows durably, or none."""

    def sent_since(self, kind: str, since: float) -> Mapping[str, int]:
        """Messages of a kind that each device has sent since a moment."""


@dataclass(frozen=True, slots=True)
class Letter(Generic[C]):
    """One device's own message, waiting. Only a masked share may lie beside it: there is a type for nothing else."""

    message: Message
    charge: C | None = None
    share: MaskedShare | None = None


class Sealed(NamedTuple):
    """A message that passed every step: its bytes, and the array beside it."""

    message: Message
    body: bytes
    payload: Payload | None


class Transport(Protocol[R_co]):
    """Carries what the door has let through."""

    def send(self, parcels: Sequence[Sealed]) -> R_co:
        """Transmit once, all of it together."""
