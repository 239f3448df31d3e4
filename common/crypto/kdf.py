"""Key derivation and keyed fingerprints. Owns how one key becomes several that say nothing about each other.

HKDF-SHA-256 (RFC 5869) with a versioned, named purpose; BLAKE2b in keyed mode (RFC 7693) for fingerprints.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PREFIX = b"reticent/kdf/v1/"
FINGERPRINT_BYTES = 16
_BLOCK_BYTES = 64


def derive(key: bytes, purpose: str, *, length: int = 32) -> bytes:
    """A subkey of ``length`` bytes for one named purpose."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=_PREFIX + purpose.encode()).derive(key)


def fingerprint(key: bytes, data: bytes) -> bytes:
    """Keyed 16-byte fingerprint: equal data can be recognised by whoever holds the key, and by nobody else."""
    return hashlib.blake2b(data, digest_size=FINGERPRINT_BYTES, key=key).digest()


class KeyedHash:
    """HMAC-SHA-256 under one key, whose two schedules are computed once: a third of the time of ``hmac.digest``.

    **Source:** RFC 2104; a test holds it to the standard library's.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = (hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in block))

    def digest(self, message: bytes) -> bytes:
        """The 32 bytes of the tag."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(message)
        outer.update(inner.digest())
        return outer.digest()

    def begin(self, start: bytes) -> KeyedHash:
        """The same for messages that begin so: ``begin(a).digest(b)`` is ``digest(a + b)``."""
        begun = KeyedHash.__new__(KeyedHash)
        begun._inner, begun._outer = self._inner.copy(), self._outer  # noqa: SLF001 - of its own kind
        begun._inner.update(start)  # noqa: SLF001 - likewise
        return begun
