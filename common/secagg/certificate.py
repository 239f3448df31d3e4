"""Certificates of device identities. Owns their form; never issues one by itself.

An enrolment authority, pinned on devices, says "this Ed25519 key belongs to an enrolled device". That is what keeps a
server in the middle from inventing peers or swapping their keys. Form, version 1, 105 bytes:
``0x01 | identity (32) | not_after u64, seconds, big-endian | Ed25519 signature (64)``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from common.crypto.signing import PublicKey, SigningKey
from common.errors import MalformedInput, TrustError, UnknownSigner

CERTIFICATE_BYTES: Final = 105
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_VERSION: Final = b"\x01"
_CONTEXT: Final = b"reticent/secagg/certificate/v1\x00"


def issue_certificate(authority: SigningKey, identity: bytes, not_after: float) -> bytes:
    """Certify a device's identity.

    Args:
        authority: the enrolment authority's private key.
        identity: raw Ed25519 public key of the device, 32 bytes.
        not_after: last second of validity, since the epoch.

    Returns:
        ``CERTIFICATE_BYTES`` bytes.

    Raises:
        MalformedInput: the identity does not have 32 bytes, or the time is not one.
    """
    if len(identity) != KEY_BYTES or not 0 <= not_after < 2**63:
        raise MalformedInput("a certificate needs an identity of 32 bytes and a time")
    body = _VERSION + identity + math.floor(not_after).to_bytes(8, "big")
    return body + authority.sign_bytes(_CONTEXT + body)


def open_certificate(certificate: bytes, authorities: Iterable[PublicKey], now: float) -> bytes:
    """The identity in a certificate, raw Ed25519 public key of 32 bytes.

    Raises:
        MalformedInput: not a certificate of version 1.
        UnknownSigner: signed by none of the authorities.
        TrustError: expired.
    """
    if len(certificate) != CERTIFICATE_BYTES or certificate[:1] != _VERSION:
        raise MalformedInput(f"a certificate has version 1 and {CERTIFICATE_BYTES} bytes")
    if not any(_issued(certificate, authority.raw) for authority in authorities):
        raise UnknownSigner("the device's certificate is not from a pinned enrolment authority")
    if now > int.from_bytes(certificate[33:41], "big"):
        raise TrustError("the device's certificate has expired")
    return certificate[1:33]


@lru_cache(maxsize=1 << 15)
def _issued(certificate: bytes, authority: bytes) -> bool:
    """Whether the authority signed it: a pure fact, hence remembered. The same devices come every round."""
    return verified(authority, certificate[41:], _CONTEXT + certificate[:41])


def verified(identity: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a raw Ed25519 signature verifies."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
