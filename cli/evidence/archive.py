"""The archive as it is read. Owns its bounds: names, sizes and digests; believes nothing that is in it."""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from common.errors import InputError, MalformedInput
from common.wire.evidence import LEAVES, NAME, RECORDS

BLOCK_BYTES: Final = 256 * 1024  # what is made of larger blocks falls out of the processor's cache: a fifth slower
SMALL_BYTES_MAX: Final = 64 * 1024 * 1024
LARGE_BYTES_MAX: Final = 64 * 1024 * 1024 * 1024
RATIO_MAX: Final = 200
"""How many bytes one byte of an archive may become: hashes hardly compress, even text about fifty-fold."""
_LARGE: Final = frozenset({LEAVES, RECORDS, "log/hashes.bin", "receipts/receipts.jsonl"})
_BROKEN: Final = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    OSError,
    RuntimeError,  # encrypted, or compressed in a way that zipfile does not know
    ValueError,
)


class EvidenceArchive:
    """A bundle on disk; nothing of it is ever written anywhere.

    Attributes:
        digests: SHA-256 and size of every file that was read to its end.
        broken: files whose bytes cannot be read, by name.
    """

    def __init__(self, path: Path) -> None:
        """Open a bundle.

        Raises:
            InputError: there is no such file.
            MalformedInput: it is not such an archive: another format, a name twice, a name or size out of bounds.
        """
        try:
            self._zip = zipfile.ZipFile(path)
        except FileNotFoundError:
            raise InputError(f"there is no file {path.name}") from None
        except _BROKEN:
            raise MalformedInput(f"{path.name} is not a zip archive") from None
        self.digests: dict[str, tuple[str, int]] = {}
        self.broken: set[str] = set()
        names = [info.filename for info in self._zip.infolist()]
        if len(set(names)) != len(names) or not all(re.fullmatch(NAME, name, re.ASCII) for name in names):
            raise MalformedInput(f"{path.name} holds names that no evidence bundle has")
        for info in self._zip.infolist():
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise MalformedInput(f"{path.name} is compressed in a way that no evidence bundle is")
            if info.file_size > (LARGE_BYTES_MAX if info.filename in _LARGE else SMALL_BYTES_MAX):
                raise MalformedInput(f"{path.name}: {info.filename} is larger than anything in an evidence bundle")
        if sum(info.file_size for info in self._zip.infolist()) > RATIO_MAX * path.stat().st_size:
            raise MalformedInput(f"{path.name} would become larger than any evidence bundle of its size")
        self.names: Final = frozenset(names)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def blocks(self, name: str) -> Iterator[bytes]:
        """One file in pieces, digested on the way; a file that is not there or breaks off is empty from there on."""
        if name not in self.names:
            return
        digest, size = hashlib.sha256(), 0
        try:
            with self._zip.open(name) as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                    size += len(block)
                    yield block
        except _BROKEN:
            self.broken.add(name)
            return
        self.digests[name] = (digest.hexdigest(), size)

    def read(self, name: str) -> bytes:
        """One small file whole; empty if it is not there."""
        return b"".join(self.blocks(name))

    def below(self, folder: str) -> list[str]:
        """The files of a folder, by name."""
        return sorted(name for name in self.names if name.startswith(folder))
