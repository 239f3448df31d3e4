"""Answers about the log. Owns their form; hashes are base64, as in checkpoints."""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import LogKind
from common.transparency.leaf import text_of
from server.transparency.repository import StoredEntry
from server.transparency.service import Consistency, Inclusion


class InclusionAnswer(BaseModel):
    """RFC 9162 §2.1.3: the way from an entry's hash to a root."""

    model_config = ConfigDict(frozen=True)
    seq: int
    size: int
    leaf_hash: str
    path: tuple[str, ...] = Field(description="From the leaf upwards.")
    root: str = Field(description="To be compared with that of a signed checkpoint of this size.")

    @classmethod
    def of(cls, found: Inclusion) -> InclusionAnswer:
        """For the answer."""
        path = tuple(text_of(step) for step in found.path)
        return cls(
            seq=found.seq, size=found.size, leaf_hash=text_of(found.leaf_hash), path=path, root=text_of(found.root)
        )


class ConsistencyAnswer(BaseModel):
    """RFC 9162 §2.1.4: that the log only grew."""

    model_config = ConfigDict(frozen=True)
    old: int
    new: int
    path: tuple[str, ...]
    old_root: str
    new_root: str

    @classmethod
    def of(cls, found: Consistency) -> ConsistencyAnswer:
        """For the answer."""
        path = tuple(text_of(step) for step in found.path)
        roots = {"old_root": text_of(found.old_root), "new_root": text_of(found.new_root)}
        return cls(old=found.old, new=found.new, path=path, **roots)


class AuditEvent(BaseModel):
    """One entry with what opens it. ``record``, ``salt`` and ``subject`` are null once they were erased."""

    model_config = ConfigDict(frozen=True)
    seq: int
    time: int
    kind: LogKind
    actor: str
    leaf_hash: str
    erased: bool
    record: dict[str, Any] | None
    salt: str | None
    subject: str | None

    @classmethod
    def of(cls, entry: StoredEntry) -> AuditEvent:
        """For the answer."""
        opening = entry.opening
        return cls(
            seq=entry.leaf.seq,
            time=entry.leaf.time,
            kind=entry.leaf.kind,
            actor=entry.leaf.actor,
            leaf_hash=text_of(entry.leaf_hash),
            erased=opening is None,
            record=None if opening is None else json.loads(opening.record),
            salt=None if opening is None else text_of(opening.salt),
            subject=None if opening is None else opening.subject,
        )


class AuditEvents(BaseModel):
    """One page of the log, oldest first."""

    model_config = ConfigDict(frozen=True)
    events: tuple[AuditEvent, ...]
    next_cursor: str | None
