"""Key derivation and keyed fingerprints. Owns how one key becomes several that say nothing about each other.

HKDF-SHA-256 (RFC 5869) with a versioned, named purpose; BLAKE2b in keyed mode (RFC 7693) for fingerprints.
"""

from __future__ import annotations

import hashlib

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_PREFIX = b"reticent/kdf/v1/"
FINGERPRINT_BYTES = 16


def derive(key: bytes, purpose: str, *, length: int = 32) -> bytes:
    """A subkey of ``length`` bytes for one named purpose."""
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=_PREFIX + purpose.encode()).derive(key)


def fingerprint(key: bytes, data: bytes) -> bytes:
    """Keyed 16-byte fingerprint: equal data can be recognised by whoever holds the key, and by nobody else."""
    return hashlib.blake2b(data, digest_size=FINGERPRINT_BYTES, key=key).digest()
