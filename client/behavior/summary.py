"""What a device holds, for its owner. Owns the figures of `reticent device show` and the portable form of an export."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from client.behavior.events import KIND_OF, BehaviourEvent
from client.store.retention import days_left
from common.taxonomy import EventKind
from policies.schema import RetentionPolicy

_JSON: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class KindSummary:
    """One kind of event: how many, from when to when (seconds since the epoch), from which apps, and the countdown.

    Attributes:
        days_to_first_deletion: until the oldest one is deleted.
        days_kept: how long the kind is kept at most.
    """

    kind: EventKind
    count: int
    first: float
    last: float
    apps: tuple[str, ...]
    days_to_first_deletion: float
    days_kept: int


def summarise(events: Iterable[BehaviourEvent], policy: RetentionPolicy, now: float) -> list[KindSummary]:
    """Figures per kind, in the order of ``EventKind``; kinds without events are left out."""
    by_kind: dict[EventKind, list[BehaviourEvent]] = {}
    for event in events:
        by_kind.setdefault(KIND_OF[type(event)], []).append(event)
    return [_summary(kind, by_kind[kind], policy, now) for kind in EventKind if kind in by_kind]


def _summary(kind: EventKind, events: Sequence[BehaviourEvent], policy: RetentionPolicy, now: float) -> KindSummary:
    first, last = min(event.time for event in events), max(event.time for event in events)
    return KindSummary(
        kind=kind,
        count=len(events),
        first=first,
        last=last,
        apps=tuple(sorted({event.app for event in events})),
        days_to_first_deletion=days_left(policy, kind, first, now),
        days_kept=policy.retention_days[kind],
    )


def json_lines(events: Iterable[BehaviourEvent]) -> Iterator[bytes]:
    """Each event as one line of JSON: the form that ``import`` reads."""
    for event in events:
        yield _JSON.encode(event) + b"\n"
