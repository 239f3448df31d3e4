"""Leaves of the log. Owns their canonical form and the salted commitments in them.

A leaf names when, what kind and in which role somebody acted; whom it was about and what it says are commitments under
salts of 32 random bytes. Destroying salt and record leaves every proof valid and nothing personal in the log.

**Privacy:** without its salt a commitment tells nothing: a guess cannot be tried. Two leaves about one person carry two
salts, so that leaves cannot be joined.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.crypto.signing import canonical
from common.errors import MalformedInput
from common.taxonomy import LogKind

SALT_BYTES: Final = 32
_quoted: Final = json.encoder.encode_basestring
"""A text as RFC 8785 has it: JSON's short escapes, the other control characters by number, all else as it is."""


@dataclass(frozen=True, slots=True)
class Leaf:
    """One entry as it is hashed.

    Attributes:
        seq: its place, from 0.
        time: seconds since the epoch; never earlier than that of the entry before.
        actor: a role, or a role and the person who held it: ``privacy_officer:<holder>``.
        subject_commit: 32 bytes; None where the entry is about nobody.
        payload_commit: 32 bytes.
    """

    seq: int
    time: int
    kind: LogKind
    actor: str
    subject_commit: bytes | None
    payload_commit: bytes

    def encode(self) -> bytes:
        """The RFC 8785 bytes that are hashed, written out by hand: a bundle holds millions of them.

        Raises:
            MalformedInput: the actor is not text.
        """
        subject = "null" if self.subject_commit is None else f'"{text_of(self.subject_commit)}"'
        line = (
            f'{{"actor":{_quoted(self.actor)},"kind":"{self.kind.value}",'
            f'"payload_commit":"{text_of(self.payload_commit)}","seq":{self.seq},'
            f'"subject_commit":{subject},"time":{self.time}}}'
        )
        try:
            return line.encode()
        except UnicodeEncodeError:
            raise MalformedInput("the actor of a log entry is not text") from None


@dataclass(frozen=True, slots=True)
class Opening:
    """What opens the commitments of a leaf: kept apart from it, so that it can be destroyed.

    Attributes:
        record: the record's RFC 8785 bytes.
        subject: whom it is about.
    """

    salt: bytes
    record: bytes
    subject: str | None = None
    subject_salt: bytes | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any], subject: str | None = None) -> Opening:
        """Fresh salts for a record.

        Raises:
            MalformedInput: the record has no canonical form (NaN, infinity, integers past 2⁵³, anything but JSON).
        """
        try:
            body = canonical(record)
        except (ValueError, TypeError):
            raise MalformedInput("the record of a log entry is not canonical JSON") from None
        salt = secrets.token_bytes(SALT_BYTES)
        return cls(salt, body, subject, None if subject is None else secrets.token_bytes(SALT_BYTES))

    def opens(self, leaf: Leaf) -> bool:
        """Whether this is what the leaf commits to."""
        return self.payload_commit == leaf.payload_commit and self.subject_commit == leaf.subject_commit

    @property
    def payload_commit(self) -> bytes:
        """SHA-256 of salt and record."""
        return hashlib.sha256(self.salt + self.record).digest()

    @property
    def subject_commit(self) -> bytes | None:
        """SHA-256 of salt and ``{"subject": …}``; None where the entry is about nobody."""
        if self.subject is None or self.subject_salt is None:
            return None
        return hashlib.sha256(self.subject_salt + subject_text(self.subject)).digest()


def subject_text(subject: str) -> bytes:
    """The RFC 8785 bytes of ``{"subject": …}``.

    Raises:
        UnicodeEncodeError: it is not text.
    """
    return f'{{"subject":{_quoted(subject)}}}'.encode()


def text_of(data: bytes) -> str:
    """Base64 (RFC 4648 §4), as in signed notes."""
    return base64.b64encode(data).decode()
