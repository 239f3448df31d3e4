"""Authenticated encryption of one record. Owns the sealed form; never returns unauthenticated bytes.

Sealed form, version 1: ``0x01 | nonce (12) | AES-256-GCM ciphertext and tag (16)``. The version byte is authenticated:
it is prefixed to the caller's associated data. Nonces are random: one key may seal 2³² records (NIST SP 800-38D §8.3).
"""

from __future__ import annotations

import os
from typing import final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
VERSION = 1
_NONCE_BYTES = 12
_TAG_BYTES = 16
_PREFIX = bytes([VERSION])
OVERHEAD_BYTES = 1 + _NONCE_BYTES + _TAG_BYTES


class NotAuthentic(ValueError):
    """The bytes were not sealed by this key for this associated data, or have another version.

    Callers translate it into the named error of their room.
    """


@final
class Aead:
    """Seals and opens records under one 32-byte key."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """Take a key of ``KEY_BYTES`` bytes."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, not {len(key)}")
        self._cipher = AESGCM(key)

    def seal(self, plaintext: bytes, associated: bytes) -> bytes:
        """Encrypt ``plaintext`` and bind it to ``associated``, which is authenticated but not stored."""
        nonce = os.urandom(_NONCE_BYTES)
        return _PREFIX + nonce + self._cipher.encrypt(nonce, plaintext, _PREFIX + associated)

    def open(self, sealed: bytes, associated: bytes) -> bytes:
        """Decrypt what ``seal`` made for the same ``associated``.

        Raises:
            NotAuthentic: wrong key, wrong associated data, another version, or changed bytes.
        """
        if len(sealed) < OVERHEAD_BYTES or sealed[0] != VERSION:
            raise NotAuthentic("not a sealed record of version 1")
        try:
            return self._cipher.decrypt(sealed[1:13], sealed[13:], _PREFIX + associated)
        except InvalidTag:
            raise NotAuthentic("the record does not authenticate") from None


def generate_key() -> bytes:
    """A fresh key from the operating system's generator."""
    return os.urandom(KEY_BYTES)
