"""Device keys. Owns where the 32-byte keys live, apart from the data they open, and how one is destroyed.

One file per device in a directory of its own (0700, files 0600), which may lie on another medium than the vault.
Destroying a key is what erasure means here: first a mark is left that it was meant, then the bytes are overwritten,
then the file goes. An interrupted destruction is completed by whoever looks next.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final, NewType

from common.crypto.aead import KEY_BYTES, generate_key
from common.crypto.keyfile import write_private
from common.errors import DeviceErased, WrongKey

DeviceId = NewType("DeviceId", str)

_MARK: Final = ".erased"


class KeyStore:
    """The keys of one node's devices."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, which is made with mode 0700 if it is missing."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.directory = directory

    def create(self, device: DeviceId) -> bytes:
        """A fresh key for a device that has none.

        Raises:
            FileExistsError: it has one; a key is never replaced.
        """
        key = generate_key()
        write_private(self._path(device), key)
        self._mark(device).unlink(missing_ok=True)
        return key

    def load(self, device: DeviceId) -> bytes:
        """The device's key.

        Raises:
            DeviceErased: it was destroyed on purpose.
            WrongKey: it is not here, or this file is no key.
        """
        if self.destroyed(device):
            raise DeviceErased("the key of this device was destroyed; nobody can read its records any more")
        try:
            key = self._path(device).read_bytes()
        except FileNotFoundError:
            raise WrongKey("the key of this device is not in the key directory; name the directory it is in") from None
        except OSError as error:
            raise WrongKey(f"the key of this device cannot be read ({error.strerror})") from None
        if len(key) != KEY_BYTES:
            raise WrongKey("the key file of this device is damaged; restore it from a copy")
        return key

    def destroyed(self, device: DeviceId) -> bool:
        """Whether the device's key was destroyed; completes a destruction that was interrupted."""
        if not self._mark(device).exists():
            return False
        if self._path(device).exists():
            self.destroy(device)
        return True

    def destroy(self, device: DeviceId) -> None:
        """Destroy the device's key for good. Doing so twice, or without there being one, does no harm."""
        path, mark = self._path(device), self._mark(device)
        mark.touch(mode=0o600)
        self._sync()
        if path.exists():
            descriptor = os.open(path, os.O_WRONLY)
            try:
                os.write(descriptor, os.urandom(KEY_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            path.unlink()
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self.directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _path(self, device: DeviceId) -> Path:
        """File names do not spell device names: those may hold any character."""
        return self.directory / f"{hashlib.sha256(device.encode()).hexdigest()[:40]}.key"

    def _mark(self, device: DeviceId) -> Path:
        return self._path(device).with_suffix(_MARK)
