"""Checkpoints for somebody else to keep. Owns what is pushed and how a file of them grows.

A line holds a checkpoint and the hashes of the entries that are new since the line before. Hashes of salted commitments
tell nothing about anybody; with them a rewritten history is named at its first row, without them only between two
checkpoints. A file only grows: a line that is there is never written again.
"""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Final

import httpx

from common.errors import InputError, InvalidCheckpoint, MalformedInput
from common.transparency import tree
from common.transparency.checkpoint import open_checkpoint
from server.transparency.keys import KeyRing
from server.transparency.service import TransparencyLog

TIMEOUT_S: Final = 20.0


def push_to_file(log: TransparencyLog, keys: KeyRing, path: Path) -> int:
    """Append the newest checkpoint to a file; returns how many entries are new. One that has it already stays as it is.

    Raises:
        InvalidCheckpoint: what the file holds last was not signed here, or is not of this log's history: the log was
            rewritten, or this is another's file. Nothing is written.
        MalformedInput: the file holds something else.
        InputError: it cannot be written.
    """
    size, root = _held(log, keys, path)
    checkpoint = log.checkpoint_at(log.size())
    if checkpoint.size < size or log.root(size) != root:
        raise InvalidCheckpoint(f"{path.name} holds a checkpoint of {size} entries that this log does not lead to")
    if checkpoint.size == size and path.exists():
        return 0
    hashes = b"".join(log.leaf_hashes(size, checkpoint.size))
    line = {"checkpoint": checkpoint.note, "from": size, "leaves": base64.b64encode(hashes).decode()}
    try:
        with path.open("ab") as file:
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{path.name} cannot be written: {error.strerror}") from None
    return checkpoint.size - size


def push_to_url(log: TransparencyLog, url: str, *, client: httpx.Client | None = None) -> int:
    """POST the newest checkpoint as it is served (``text/plain``); returns its size.

    Raises:
        InputError: nobody took it.
    """
    checkpoint = log.checkpoint_at(log.size())
    with client or httpx.Client(timeout=TIMEOUT_S) as http:
        try:
            answer = http.post(
                url, content=checkpoint.note.encode(), headers={"content-type": "text/plain; charset=utf-8"}
            )
        except httpx.HTTPError as error:
            raise InputError(f"the checkpoint was not taken: {type(error).__name__}") from None
    if not answer.is_success:
        raise InputError(f"the checkpoint was not taken: status {answer.status_code}")
    return checkpoint.size


def _held(log: TransparencyLog, keys: KeyRing, path: Path) -> tuple[int, bytes]:
    """Size and root of the last line; those of an empty log where there is no file."""
    if not path.exists():
        return 0, tree.EMPTY_ROOT
    try:
        lines = path.read_text("utf-8").splitlines()
        note = str(json.loads(lines[-1])["checkpoint"])
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        raise MalformedInput(f"{path.name} does not hold pushed checkpoints") from None
    held = open_checkpoint(note, keys, origin=log.origin).checkpoint
    if held.size > log.size():
        raise InvalidCheckpoint(f"{path.name} holds a checkpoint of {held.size} entries; this log has {log.size()}")
    return held.size, held.root
