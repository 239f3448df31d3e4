"""The archive as it is written: a zip whose every file is digested on its way in. Owns nothing of what is in them."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from typing import BinaryIO, Final

from common.wire.evidence import FileDigest

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_LEVEL: Final = 6


class Archive:
    """A zip that is being written.

    Attributes:
        files: digest and size of every file so far.
    """

    def __init__(self, target: BinaryIO) -> None:
        """Write to ``target``, which need not be able to go back."""
        self._zip = zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL)
        self.files: dict[str, FileDigest] = {}

    def add(self, name: str, chunks: Iterable[bytes], *, stored: bool = False) -> None:
        """Write one file.

        Args:
            name: in the archive.
            chunks: its bytes.
            stored: without compression: for what does not get smaller, and for what must be read fast.
        """
        info = zipfile.ZipInfo(name, _EPOCH)
        info.compress_type = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        info.external_attr = 0o644 << 16
        digest, size = hashlib.sha256(), 0
        with self._zip.open(info, "w", force_zip64=True) as file:
            for chunk in chunks:
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
        self.files[name] = FileDigest(sha256=digest.hexdigest(), size_bytes=size)

    def close(self) -> None:
        """Write the directory."""
        self._zip.close()
