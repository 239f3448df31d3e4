"""A ChaCha20 keystream: unlimited-looking secret bytes from one key. Owns nothing else; never keeps or logs a key.

Source: RFC 8439 §2.4. One key is used with one nonce only (all zeros), so a stream never meets another of its key.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

KEY_BYTES = 32
_ZEROS = memoryview(bytes(1 << 18))  # what is encrypted; new zeros for every call cost a tenth of the stream


class Keystream:
    """Successive bytes of the ChaCha20 stream of one key. Neither copied nor pickled: two readers would repeat it."""

    def __init__(self, key: bytes) -> None:
        """Start the stream of a 32-byte key that has no other use.

        Raises:
            ValueError: the key does not have 32 bytes.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a ChaCha20 key has {KEY_BYTES} bytes")
        self._encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()

    def read(self, size_bytes: int) -> bytes:
        """The next bytes of the stream.

        Raises:
            ValueError: the stream is used up (256 GiB): it stops rather than repeats.
        """
        plain = _ZEROS[:size_bytes] if size_bytes <= len(_ZEROS) else bytes(size_bytes)
        return self._encryptor.update(plain)
