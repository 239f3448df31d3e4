"""Behaviour events. Owns the eight typed forms of raw behaviour; they exist on the device and are named nowhere else.

``time`` is seconds since the epoch, UTC. ``app`` is the app that recorded the event: several may share a device.
A field that is absent is missing; nothing is guessed in its place.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct, field

from common.taxonomy import EventKind


class _Event(
    Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False, tag_field="kind", tag=str.lower
):
    """What all events have: when, and which app recorded it. The tag is the lower-case class name: an ``EventKind``."""

    time: float
    app: str


class View(_Event, frozen=True):
    """An item was looked at, for ``dwell_s`` seconds if known."""

    item: str
    attributes: dict[str, str] = field(default_factory=dict)
    dwell_s: float | None = None


class Click(_Event, frozen=True):
    """An item, or the creative that showed it, was followed."""

    item: str
    attributes: dict[str, str] = field(default_factory=dict)
    exposure_id: str | None = None


class Favourite(_Event, frozen=True):
    """An item was marked as a favourite."""

    item: str
    attributes: dict[str, str] = field(default_factory=dict)


class Cart(_Event, frozen=True):
    """An item was put into the basket."""

    item: str
    attributes: dict[str, str] = field(default_factory=dict)
    quantity: float = 1.0


class Purchase(_Event, frozen=True):
    """An item was bought; ``exposure_id`` names the exposure that it was attributed to, if it was to one."""

    item: str
    attributes: dict[str, str] = field(default_factory=dict)
    quantity: float = 1.0
    exposure_id: str | None = None


class Search(_Event, frozen=True):
    """Something was searched for."""

    query: str


class Comment(_Event, frozen=True):
    """A text was written about an item."""

    item: str
    text: str


class Impression(_Event, frozen=True):
    """A candidate was viewable: the moment that a training example is about.

    Attributes:
        attributes: public facts of the item.
        context: categorical facts of the page or slot.
        numbers: numeric facts of item or context.
        exposure_id: the app's own id of this exposure, with which later responses can be joined.
        outcome: 1 or 0 when the source knows it, else None: attribution then joins later responses.
    """

    item: str
    attributes: dict[str, str] = field(default_factory=dict)
    context: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, float] = field(default_factory=dict)
    exposure_id: str | None = None
    outcome: int | None = None


BehaviourEvent = View | Click | Favourite | Cart | Purchase | Search | Comment | Impression

EVENT_TYPES: Final[dict[EventKind, type[Struct]]] = {
    EventKind.VIEW: View,
    EventKind.CLICK: Click,
    EventKind.FAVOURITE: Favourite,
    EventKind.CART: Cart,
    EventKind.PURCHASE: Purchase,
    EventKind.SEARCH: Search,
    EventKind.COMMENT: Comment,
    EventKind.IMPRESSION: Impression,
}
KIND_OF: Final[dict[type[Struct], EventKind]] = {event_type: kind for kind, event_type in EVENT_TYPES.items()}

_PACK: Final = msgspec.msgpack.Encoder(order="deterministic")


def identity(event: BehaviourEvent) -> bytes:
    """The bytes by which two records are the same event.

    Everything counts, except for an impression: its outcome and facts may be learnt later, so the exposure decides.
    """
    if isinstance(event, Impression):
        return _PACK.encode(("impression", event.time, event.app, event.item, event.exposure_id))
    return _PACK.encode(event)
