"""What makes an event acceptable. Owns normalisation and the closed list of reasons for which an event is rejected.

Missing values stay missing: an empty or missing-like optional value is dropped, never replaced by a guess. A required
value that is missing, or any value that cannot be meant, rejects the event by name. No reason ever holds a value.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from client.behavior.events import KIND_OF, BehaviourEvent, Cart, Comment, Impression, Purchase, Search, View
from common.errors import MalformedInput
from common.taxonomy import EventKind

NAME_CHARS_MAX: Final = 200
TEXT_CHARS_MAX: Final = 4_000
ENTRIES_MAX: Final = 64
MISSING_WORDS: Final = frozenset({"", "na", "n/a", "nan", "null", "none", "-"})
MILLISECONDS_FROM: Final = 1e11
"""A time past this is no time in seconds (it would be in the year 5138): milliseconds, most likely."""


class RejectReason(StrEnum):
    """Why an event is not stored. Shown to owners and apps; never holds a value."""

    UNDECODABLE = "not-decodable"
    UNKNOWN_KIND = "unknown-kind"
    UNKNOWN_FIELD = "unknown-field"
    MISSING_FIELD = "missing-field"
    WRONG_TYPE = "wrong-type"
    TRUNCATED = "truncated"
    WRONG_COLUMNS = "wrong-number-of-columns"
    BAD_TIME = "time-not-in-seconds"
    FUTURE = "time-in-the-future"
    PAST_RETENTION = "past-retention"
    EMPTY_NAME = "required-text-empty"
    TOO_LONG = "text-too-long"
    TOO_MANY = "too-many-entries"
    BAD_NUMBER = "number-out-of-range"
    BAD_OUTCOME = "outcome-not-0-or-1"


class EventRejected(MalformedInput):
    """An event that is not acceptable; ``reason`` says why, ``field`` where."""

    def __init__(self, reason: RejectReason, field: str) -> None:
        """Take the reason and the field's name as the schema spells it."""
        super().__init__(f"{reason.value} ({field})")
        self.reason = reason
        self.field = field


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Which times are acceptable: up to ``latest``, and per kind from ``earliest``; seconds since the epoch."""

    latest: float
    earliest: Mapping[EventKind, float]


def normalise(event: BehaviourEvent, limits: TimeLimits) -> BehaviourEvent:
    """The event as it is stored: Unicode NFC, trimmed, missing values absent, numbers finite.

    Idempotent: what was normalised comes back unchanged, so a re-import is recognised as a duplicate.

    Raises:
        EventRejected: the event cannot be accepted.
    """
    _check_time(event, limits)
    changes: dict[str, object] = {"app": _name(event.app, "app")}
    match event:
        case Search():
            changes["query"] = _text(event.query, "query")
        case Comment():
            changes |= {"item": _name(event.item, "item"), "text": _text(event.text, "text")}
        case _:
            changes |= {"item": _name(event.item, "item"), "attributes": _entries(event.attributes, "attributes")}
    match event:
        case View():
            changes["dwell_s"] = _dwell(event.dwell_s)
        case Cart() | Purchase():
            _check_quantity(event.quantity)
        case Impression():
            changes |= _impression(event)
    if hasattr(event, "exposure_id"):
        changes["exposure_id"] = _optional(event.exposure_id, "exposure_id")
    return msgspec.structs.replace(event, **changes)


def is_missing(text: str) -> bool:
    """Whether a text only says that there is no value."""
    return text.strip().lower() in MISSING_WORDS


def _check_time(event: BehaviourEvent, limits: TimeLimits) -> None:
    if not math.isfinite(event.time) or event.time <= 0 or event.time >= MILLISECONDS_FROM:
        raise EventRejected(RejectReason.BAD_TIME, "time")
    if event.time > limits.latest:
        raise EventRejected(RejectReason.FUTURE, "time")
    if event.time < limits.earliest[KIND_OF[type(event)]]:
        raise EventRejected(RejectReason.PAST_RETENTION, "time")


def _impression(event: Impression) -> dict[str, object]:
    if event.outcome not in (None, 0, 1):
        raise EventRejected(RejectReason.BAD_OUTCOME, "outcome")
    if len(event.numbers) > ENTRIES_MAX:
        raise EventRejected(RejectReason.TOO_MANY, "numbers")
    numbers = {_name(key, "numbers"): value for key, value in event.numbers.items() if math.isfinite(value)}
    return {"context": _entries(event.context, "context"), "numbers": numbers}


def _dwell(dwell_s: float | None) -> float | None:
    if dwell_s is None or math.isnan(dwell_s):
        return None
    if not 0 <= dwell_s < math.inf:
        raise EventRejected(RejectReason.BAD_NUMBER, "dwell_s")
    return dwell_s


def _check_quantity(quantity: float) -> None:
    if not 0 < quantity < math.inf:
        raise EventRejected(RejectReason.BAD_NUMBER, "quantity")


def _clean(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate: no text
        raise EventRejected(RejectReason.UNDECODABLE, "text") from None
    return text.strip() if text.isascii() else unicodedata.normalize("NFC", text).strip()


def _name(text: str, field: str) -> str:
    text = _clean(text)
    if not text:
        raise EventRejected(RejectReason.EMPTY_NAME, field)
    if len(text) > NAME_CHARS_MAX:
        raise EventRejected(RejectReason.TOO_LONG, field)
    return text


def _text(text: str, field: str) -> str:
    text = _clean(text)
    if not text:
        raise EventRejected(RejectReason.EMPTY_NAME, field)
    if len(text) > TEXT_CHARS_MAX:
        raise EventRejected(RejectReason.TOO_LONG, field)
    return text


def _optional(text: str | None, field: str) -> str | None:
    return None if text is None or is_missing(text) else _name(text, field)


def _entries(entries: dict[str, str], field: str) -> dict[str, str]:
    if len(entries) > ENTRIES_MAX:
        raise EventRejected(RejectReason.TOO_MANY, field)
    return {_name(key, field): _name(value, field) for key, value in entries.items() if not is_missing(value)}
