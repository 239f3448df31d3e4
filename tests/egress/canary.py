"""Canaries: unique strings planted in raw behaviour, and a search that knows the usual disguises."""

from __future__ import annotations

import base64
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

FLOCK = f"canary{secrets.token_hex(8)}"
"""What all canaries of this process begin with: where no disguise of it occurs, none of theirs does."""


def new(place: str) -> str:
    """A string that occurs nowhere else; ``place`` says where it was planted."""
    return f"{FLOCK}-{place}-{secrets.token_hex(6)}"


def disguises(canary: str) -> Iterator[bytes]:
    """The canary plain, in base64 at each of its three alignments (both alphabets), in hex and in UTF-16."""
    plain = canary.encode()
    yield plain
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    yield canary.encode("utf-16-le")
    yield canary.encode("utf-16-be")
    for shift in range(3):
        coded = base64.b64encode(b"\0" * shift + plain)
        # Whole groups of the canary alone: what stands before and after it does not change these.
        inner = coded[(4 if shift else 0) : len(coded) - 4]
        yield inner
        yield inner.replace(b"+", b"-").replace(b"/", b"_")


def found_in(blobs: Iterable[bytes], canaries: Iterable[str]) -> set[str]:
    """Canaries that occur in any of the blobs, in whatever disguise."""
    flock = list(disguises(FLOCK))
    suspect = [blob for blob in blobs if any(pattern in blob for pattern in flock)]
    patterns = {pattern: canary for canary in canaries for pattern in disguises(canary)}
    return {canary for blob in suspect for pattern, canary in patterns.items() if pattern in blob}


def of_array(array: np.ndarray) -> Iterator[bytes]:
    """An array's bytes, and its values as characters: text can hide as numbers."""
    yield array.tobytes()
    flat = array.reshape(-1)
    if flat.dtype.kind in "iu":
        yield (flat & 0xFF).astype(np.uint8).tobytes()
    elif flat.dtype.kind == "f":
        whole = np.nan_to_num(flat, posinf=0, neginf=0).astype(np.int64)
        yield (whole & 0xFF).astype(np.uint8).tobytes()


def of_database(path: Path) -> Iterator[bytes]:
    """The files of an SQLite database as they lie on the disk, and every value in it (no value spans pages there)."""
    for part in path.parent.glob(f"{path.name}*"):
        yield part.read_bytes()
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in connection.execute(f'SELECT * FROM "{table}"'):  # noqa: S608 - names of our own tables
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()


def inflated(blob: bytes) -> Iterator[bytes]:
    """The blob, and what it inflates to if it was compressed."""
    yield blob
    for wbits in (15, 31, -15):
        try:
            yield zlib.decompressobj(wbits).decompress(blob, 64 * 1024 * 1024)
        except zlib.error:
            continue
