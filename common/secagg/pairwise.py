"""What two devices share: X25519 agreement, seeds of masks, and encrypted Shamir shares. Owns the key schedule.

Keys are fresh in every session and bound to the roster's digest (hence to session, terms and all adverts) and to the
pair. Agreement keys protect shares and are never revealed; masking keys make masks and may be: hence two keys.
A share travels under AES-256-GCM with a key for this pair and direction; the sender's nonce is random for each attempt
to share, so an attempt that was cut off and made again never repeats one.

Source: RFC 7748 §6.1 (low-order points refused), RFC 5869.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import ProtocolViolation

SECRET_BYTES: Final = 32
SHARE_BYTES: Final = 2 * SECRET_BYTES  # of both secrets, self seed first
NONCE_BYTES: Final = 12
SEALED_BYTES: Final = SHARE_BYTES + 16


def private_key(secret: bytes) -> X25519PrivateKey:
    """The X25519 key of 32 secret bytes."""
    return X25519PrivateKey.from_private_bytes(secret)


def public_bytes(secret: bytes) -> bytes:
    """Raw public half of 32 secret bytes."""
    return private_key(secret).public_key().public_bytes_raw()


def mask_seed(own: X25519PrivateKey, peer: X25519PublicKey, binding: bytes, low: int, high: int) -> bytes:
    """Seed of the mask between ``low`` and ``high``, from either one's masking key.

    Args:
        own: masking key of one of them.
        peer: masking key of the other.
        binding: the roster's digest.
        low: smaller index.
        high: larger index.

    Raises:
        ProtocolViolation: the peer's key has low order.
    """
    return _derive(own, peer, binding + b"mask" + _pair(low, high), SECRET_BYTES)


def share_keys(
    own: X25519PrivateKey, peer: X25519PublicKey, binding: bytes, index: int, other: int
) -> tuple[bytes, bytes]:
    """Keys for shares from ``index`` to ``other`` and back, from either one's agreement key.

    Raises:
        ProtocolViolation: the peer's key has low order.
    """
    both = _derive(own, peer, binding + b"share" + _pair(min(index, other), max(index, other)), 64)
    return (both[:32], both[32:]) if index < other else (both[32:], both[:32])


def seal_share(key: bytes, nonce: bytes, share: bytes, associated: bytes) -> bytes:
    """Encrypt a share; ``associated`` names roster, sender and receiver."""
    return AESGCM(key).encrypt(nonce, share, associated)


def open_share(key: bytes, nonce: bytes, sealed: bytes, associated: bytes) -> bytes | None:
    """Decrypt a share; None if it was not sealed for this receiver by this sender."""
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None


def associated_data(binding: bytes, sender: int, receiver: int) -> bytes:
    """What a share's encryption is bound to."""
    return binding + _pair(sender, receiver)


def load_public(raw: bytes) -> X25519PublicKey:
    """A public key of 32 raw bytes."""
    return X25519PublicKey.from_public_bytes(raw)


def has_low_order(raw: bytes) -> bool:
    """Whether an agreement with this key would always give zero (RFC 7748 §6.1)."""
    try:
        _PROBE.exchange(load_public(raw))
    except ValueError:
        return True
    return False


def _pair(first: int, second: int) -> bytes:
    return first.to_bytes(2, "big") + second.to_bytes(2, "big")


def _derive(own: X25519PrivateKey, peer: X25519PublicKey, info: bytes, length: int) -> bytes:
    try:
        agreed = own.exchange(peer)
    except ValueError:
        raise ProtocolViolation("a peer's key has low order") from None
    return HKDF(algorithm=hashes.SHA256(), length=length, salt=_SALT, info=info).derive(agreed)


_SALT: Final = b"reticent/secagg/pairwise/v1"
_PROBE: Final = X25519PrivateKey.from_private_bytes(b"\x40" * 32)  # any key: low order is the peer's property
