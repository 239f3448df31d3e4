"""What a device and the server agree on before a session begins. Owns its digest, which every signature covers."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from common.crypto.signing import PublicKey
from common.errors import MalformedInput
from common.privacy.parameters import CohortParameters

MODULUS_BITS: Final = (16, 24, 32)
LENGTH_MAX: Final = 1 << 24
_SESSION: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SessionTerms:
    """Public terms of one session.

    Attributes:
        session: 32 random bytes in hex; an answered session is never answered again.
        length: coordinates d of every vector.
        bits: vectors are summed modulo 2^bits; one of 16, 24, 32.
        cohort: bounds on who takes part.
        authorities: keys that may certify a device's identity; none of them certifies nothing.
        now: seconds since the epoch, for the lifetime of certificates; not part of the digest.
    """

    session: str
    length: int
    bits: int
    cohort: CohortParameters
    authorities: tuple[PublicKey, ...]
    now: float

    def __post_init__(self) -> None:
        """Refuse terms that nobody could keep.

        Raises:
            MalformedInput: a session that is no digest, a modulus without a packing, an impossible length.
        """
        if not _SESSION.fullmatch(self.session):
            raise MalformedInput("a session is named by 64 hexadecimal digits")
        if self.bits not in MODULUS_BITS or not 1 <= self.length <= LENGTH_MAX:
            raise MalformedInput(f"vectors have 1 to {LENGTH_MAX} coordinates of {MODULUS_BITS} bits")

    @property
    def payload_bytes(self) -> int:
        """Size of one masked vector."""
        return self.length * self.bits // 8

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all that both sides must agree on; authorities and time are each side's own."""
        head = f"reticent/secagg/terms/v1|{self.session}|{self.length}|{self.bits}|"
        return hashlib.sha256(head.encode() + self.cohort.model_dump_json().encode()).digest()
