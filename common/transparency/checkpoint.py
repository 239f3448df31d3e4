"""Checkpoints: signed statements of how long a log is and what its root is. Owns their text and its verification.

The text is a C2SP checkpoint (origin, size, root) with one extension line, ``time <seconds>``, without which an entry
could be dated back unnoticed; the signature lines are a C2SP signed note with Ed25519. A signed text ends its first
line after the origin, which no JWS signing input does, so neither passes for the other.

**Source:** C2SP tlog-checkpoint and signed-note.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.crypto.signing import PublicKey, SigningKey
from common.errors import InvalidCheckpoint, UnknownSigner
from common.transparency.tree import HASH_BYTES

SIZE_BYTES_MAX: Final = 16 * 1024
_ED25519: Final = b"\x01"
_BODY: Final = re.compile(
    r"(?P<origin>[^\s+\x00-\x1f]{1,200})\n(?P<size>0|[1-9][0-9]{0,15})\n(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"time (?P<time>0|[1-9][0-9]{0,15})\n",
    re.ASCII,
)
_SIGNATURE: Final = re.compile(r"— (?P<name>[^\s+]{1,200}) (?P<blob>[A-Za-z0-9+/]{4,400}={0,2})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed.

    Attributes:
        origin: which log.
        size: how many entries it has.
        root: its root hash.
        time: seconds since the epoch when it was signed; not earlier than its last entry.
    """

    origin: str
    size: int
    root: bytes
    time: int

    def text(self) -> str:
        """The signed text, its last newline included."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\ntime {self.time}\n"


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose signature was verified, and by whom it was signed."""

    checkpoint: Checkpoint
    kid: str
    note: str


def key_hash(name: str, key: PublicKey) -> bytes:
    """The four bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + key.raw).digest()[:4]


def verifier_key(name: str, key: PublicKey) -> str:
    """The key in the form that other tools for signed notes take."""
    return f"{name}+{key_hash(name, key).hex()}+{base64.b64encode(_ED25519 + key.raw).decode()}"


def seal_checkpoint(checkpoint: Checkpoint, key: SigningKey) -> str:
    """The checkpoint as a signed note."""
    text = checkpoint.text()
    if not _BODY.fullmatch(text):
        raise ValueError("a checkpoint needs an origin without spaces, a size and a time")
    blob = key_hash(checkpoint.origin, key.public) + key.sign_bytes(text.encode())
    return f"{text}\n— {checkpoint.origin} {base64.b64encode(blob).decode()}\n"


def read_checkpoint(note: str) -> Checkpoint:
    """The checkpoint of a note, **not verified**: to name what a bad note claims.

    Raises:
        InvalidCheckpoint: this is no checkpoint.
    """
    found = _BODY.match(note) if len(note) <= SIZE_BYTES_MAX else None
    if found is None or note[found.end() : found.end() + 1] != "\n":
        raise InvalidCheckpoint("this is no checkpoint")
    root = base64.b64decode(found["root"])
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != found["root"]:
        raise InvalidCheckpoint("this is no checkpoint")
    return Checkpoint(found["origin"], int(found["size"]), root, int(found["time"]))


def open_checkpoint(note: str, keys: Mapping[str, PublicKey], *, origin: str | None = None) -> SignedCheckpoint:
    """Verify a signed note with the pinned keys. Lines of others (witnesses) are passed over, as C2SP demands.

    Args:
        note: the signed note.
        keys: pinned public keys by ``kid``.
        origin: the log it must be of; None: any.

    Raises:
        InvalidCheckpoint: not a checkpoint, of another log, or a signature of a pinned key does not verify.
        UnknownSigner: no pinned key has signed it.
    """
    # (1) the text
    checkpoint = read_checkpoint(note)
    if origin is not None and checkpoint.origin != origin:
        raise InvalidCheckpoint("the checkpoint is of another log")
    # (2) the signature lines: everything after the empty line, each well-formed
    text = checkpoint.text()
    lines = note[len(text) + 1 :].split("\n")
    if lines.pop() or not lines:
        raise InvalidCheckpoint("the checkpoint has no signature")
    named = {key_hash(checkpoint.origin, key): key for key in keys.values()}
    signatures = [_signature(line, checkpoint.origin, named) for line in lines]
    # (3) the first line of a pinned key counts
    for key, signature in signatures:
        if key is not None:
            if not key.verify_bytes(text.encode(), signature):
                raise InvalidCheckpoint("the checkpoint's signature does not verify")
            return SignedCheckpoint(checkpoint, key.kid, note)
    raise UnknownSigner("no pinned key has signed this checkpoint")


def _signature(line: str, origin: str, named: Mapping[bytes, PublicKey]) -> tuple[PublicKey | None, bytes]:
    found = _SIGNATURE.fullmatch(line)
    if found is None:
        raise InvalidCheckpoint("a signature line of the checkpoint is malformed")
    try:
        blob = base64.b64decode(found["blob"], validate=True)
    except binascii.Error:
        raise InvalidCheckpoint("a signature line of the checkpoint is malformed") from None
    if base64.b64encode(blob).decode() != found["blob"]:
        raise InvalidCheckpoint("a signature line of the checkpoint is malformed")
    return (named.get(blob[:4]) if found["name"] == origin else None), blob[4:]
