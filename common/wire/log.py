"""A proof that goes with a document: that the transparency log holds an entry about it. Owns its form and its check."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from pydantic import Field, field_validator

from common.crypto.signing import PublicKey
from common.errors import InvalidProof
from common.transparency.checkpoint import SIZE_BYTES_MAX, Checkpoint, open_checkpoint
from common.transparency.history import Line
from common.transparency.tree import HASH_BYTES, leaf_hash, verify_inclusion
from common.wire.base import Message

Hash = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$")]
PATH_MAX = 64


class LogProof(Message):
    """One entry of the log, the way from it to a signed checkpoint, and what opens its commitment.

    Attributes:
        leaf: the entry as it is hashed.
        index: its place, from 0.
        size: of the log at the checkpoint.
        path: hashes from the leaf upwards, base64 (RFC 9162 §2.1.3).
        checkpoint: signed note.
        record, salt: open the leaf's commitment; None once they are erased, or where they are not for the reader.
    """

    kind: Literal["log_proof"] = "log_proof"
    leaf: Annotated[str, Field(max_length=2000)]
    index: int = Field(ge=0)
    size: int = Field(ge=1)
    path: Annotated[tuple[Hash, ...], Field(max_length=PATH_MAX)]
    checkpoint: Annotated[str, Field(max_length=SIZE_BYTES_MAX)]
    record: str | None = None
    salt: Hash | None = None

    @field_validator("path")
    @classmethod
    def _whole(cls, path: tuple[str, ...]) -> tuple[str, ...]:
        if any(len(base64.b64decode(step)) != HASH_BYTES for step in path):
            raise ValueError("a hash has 32 bytes")
        return path


def check_log_proof(proof: LogProof, keys: Mapping[str, PublicKey], *, origin: str | None = None) -> Checkpoint:
    """Verify that a signed checkpoint covers the entry, and that the record is the one it commits to.

    Raises:
        InvalidCheckpoint, UnknownSigner: the checkpoint does not verify.
        InvalidProof: the entry is not proven, or its record is another.
    """
    # (1) the signed root
    checkpoint = open_checkpoint(proof.checkpoint, keys, origin=origin).checkpoint
    if checkpoint.size != proof.size:
        raise InvalidProof("the checkpoint is of another size than the proof")
    # (2) the way from the leaf to it
    path = [base64.b64decode(step) for step in proof.path]
    verify_inclusion(leaf_hash(proof.leaf.encode()), proof.index, proof.size, path, checkpoint.root)
    # (3) the leaf says where it is, and which record it commits to
    try:
        line = msgspec.json.decode(proof.leaf, type=Line)
    except (msgspec.DecodeError, ValueError):
        raise InvalidProof("the proven leaf is not an entry of a log") from None
    if line.seq != proof.index:
        raise InvalidProof("the proven leaf is of another place")
    if proof.record is not None:
        salt = base64.b64decode(proof.salt or "")
        if hashlib.sha256(salt + proof.record.encode()).digest() != line.payload_commit:
            raise InvalidProof("the record is not the one that the log commits to")
    return checkpoint


def proves_document(proof: LogProof, document: str) -> bool:
    """Whether the record of a checked proof names this signed document by its digest (``…sha256``)."""
    if proof.record is None:
        return False
    digest = hashlib.sha256(document.encode()).hexdigest()
    record = json.loads(proof.record)
    return any(record.get(name) == digest for name in ("receipt_sha256", "sha256"))
