"""Checkpoints that somebody else keeps. Owns the form of that file, and how it is added to.

Two forms are read: a signed note as it is served, and JSON lines of ``reticent log push``, each with a note and the
hashes of the entries that are new since the line before. The hashes tell nothing about anybody, and name the row where
a rewritten log parts from the one that was pushed.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.crypto.signing import PublicKey
from common.errors import InvalidCheckpoint, MalformedInput
from common.transparency.checkpoint import SignedCheckpoint, open_checkpoint, read_checkpoint
from common.transparency.hashes import PackedTree
from common.transparency.tree import HASH_BYTES


@dataclass(frozen=True, slots=True)
class Kept:
    """What was kept.

    Attributes:
        signed: checkpoints, verified.
        hashes: packed leaf hashes from the first entry on, as far as they lead to the checkpoints.
    """

    signed: tuple[SignedCheckpoint, ...] = ()
    hashes: bytes = b""


def read_kept(paths: Sequence[Path], keys: Mapping[str, PublicKey]) -> Kept:
    """Every checkpoint in some files.

    Raises:
        MalformedInput: a file holds none.
        InvalidCheckpoint, UnknownSigner: one does not verify: it was never signed by a key that is trusted here.
    """
    signed, hashes = list[SignedCheckpoint](), b""
    for path in paths:
        rows = _rows(path)
        signed += [open_checkpoint(note, keys) for note, _, _ in rows]
        found = _hashes(path, rows)
        hashes = max(hashes, found, key=len)
    return Kept(tuple(signed), hashes)


def _rows(path: Path) -> list[tuple[str, int, bytes]]:
    """Note, first new entry and hashes of each line."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise MalformedInput(f"{path.name} cannot be read") from None
    if not text.startswith("{"):
        return [(text, 0, b"")]
    try:
        lines = [json.loads(line) for line in text.splitlines() if line]
        return [
            (str(line["checkpoint"]), int(line["from"]), base64.b64decode(line["leaves"], validate=True))
            for line in lines
        ]
    except (ValueError, KeyError, TypeError):
        raise MalformedInput(f"{path.name} does not hold checkpoints as reticent log push writes them") from None


def _hashes(path: Path, rows: Sequence[tuple[str, int, bytes]]) -> bytes:
    """The hashes of all lines, if they join and lead to each line's root; what leads nowhere was tampered with."""
    joined, claims = b"", []
    for note, low, leaves in rows:
        if leaves and low * HASH_BYTES == len(joined):
            joined += leaves
            claims.append(read_checkpoint(note))
    tree = PackedTree(joined[: len(joined) // HASH_BYTES * HASH_BYTES])
    for claim in claims:
        if claim.size > tree.size or tree.root(claim.size) != claim.root:
            raise InvalidCheckpoint(f"{path.name}: its hashes do not lead to its checkpoint of {claim.size} entries")
    return joined
