"""A line of the egress journal: what the door writes and the device's owner reads. Never the content of a message."""

from __future__ import annotations

from dataclasses import dataclass

SENT = "sent"


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One message of one device.

    Attributes:
        time: seconds since the epoch.
        kind: the message's kind, as in egress.yaml.
        purpose: what it was for; None when it carries nothing about behaviour.
        size_bytes: bytes of the message with its payload; 0 when it was kept back.
        digest: SHA-256 of those bytes, hex; empty when it was kept back.
        epsilon: privacy loss charged to the device for it; 0 when nothing was charged.
        outcome: ``sent``, or the ``RefusalReason`` why it was kept back.
    """

    time: float
    device: str
    kind: str
    purpose: str | None
    size_bytes: int
    digest: str
    epsilon: float
    outcome: str
