"""From outside forms to events. Owns how JSON objects and table cells become typed events, and how failure is named.

Decoders are strict about names (an unknown field is an error) and lenient about spelling: numbers may be text, a time
may be seconds since the epoch or ISO 8601 (without an offset it is UTC). What is wrong is named by field and reason;
the value itself is never repeated.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from client.behavior.events import EVENT_TYPES, BehaviourEvent
from client.behavior.validation import EventRejected, RejectReason, is_missing
from common.taxonomy import EventKind

GROUPS: Final = ("attributes", "context", "numbers")
_FIELDS: Final = frozenset({"kind"}.union(*(event_type.__struct_fields__ for event_type in EVENT_TYPES.values())))
COLUMNS: Final = _FIELDS - frozenset(GROUPS)
_REQUIRED_TEXT: Final = frozenset({"kind", "app", "item", "query", "text"})
_STRICT: Final = msgspec.json.Decoder(BehaviourEvent)
_ANY: Final = msgspec.json.Decoder(dict[str, Any])
_PLACE: Final = re.compile(r"`\$\.(\w+)")
_MISSING: Final = re.compile(r"missing required field `(\w+)`")


def event_from_json(line: bytes | msgspec.Raw) -> BehaviourEvent:
    """One event from a JSON object.

    Raises:
        EventRejected: not JSON, or not an event.
    """
    try:
        event: BehaviourEvent = _STRICT.decode(line)
    except msgspec.ValidationError:
        return _lenient(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EventRejected(RejectReason.UNDECODABLE, "row") from None
    return event


def _lenient(line: bytes | msgspec.Raw) -> BehaviourEvent:
    try:
        fields = _ANY.decode(line)
    except msgspec.ValidationError:
        raise EventRejected(RejectReason.WRONG_TYPE, "row") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise EventRejected(RejectReason.UNDECODABLE, "row") from None
    return event_from_fields(fields)


def event_from_fields(fields: Mapping[str, Any]) -> BehaviourEvent:
    """One event from named values; numbers and times may be text.

    Raises:
        EventRejected: not an event.
    """
    if "kind" not in fields:
        raise EventRejected(RejectReason.MISSING_FIELD, "kind")
    if fields["kind"] not in list(EventKind):  # a list: what came in may not even be hashable
        raise EventRejected(RejectReason.UNKNOWN_KIND, "kind")
    if isinstance(fields.get("time"), str):
        fields = {**fields, "time": parse_time(fields["time"])}
    try:
        event: BehaviourEvent = msgspec.convert(fields, BehaviourEvent, strict=False)
    except msgspec.ValidationError as error:
        raise _named(str(error)) from None
    return event


def event_from_cells(columns: list[str], cells: list[str], default_app: str) -> BehaviourEvent:
    """One event from a table row whose columns were checked before; empty and missing-like cells are missing.

    Raises:
        EventRejected: not an event.
    """
    fields: dict[str, Any] = {"app": default_app}
    for column, cell in zip(columns, cells, strict=True):
        group, _, key = column.partition(".")
        if not cell.strip() if column in _REQUIRED_TEXT else is_missing(cell):
            continue
        if key:
            fields.setdefault(group, {})[key] = cell
        else:
            fields[column] = cell.strip()
    return event_from_fields(fields)


def is_column(name: str) -> bool:
    """Whether a table may have this column: a field, or ``attributes.x``, ``context.x``, ``numbers.x``."""
    group, _, key = name.partition(".")
    return name in COLUMNS or (group in GROUPS and bool(key))


def parse_time(text: str) -> float:
    """Seconds since the epoch from a number or an ISO 8601 date and time.

    Raises:
        EventRejected: neither.
    """
    try:
        return float(text)
    except ValueError:
        pass
    try:
        moment = dt.datetime.fromisoformat(text.strip())
    except ValueError:
        raise EventRejected(RejectReason.BAD_TIME, "time") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()


def _named(text: str) -> EventRejected:
    """The reason behind a decoder's message. Only names of our own schema are taken from it."""
    missing = _MISSING.search(text)
    if missing:
        return EventRejected(RejectReason.MISSING_FIELD, missing.group(1))
    if "unknown field" in text:
        return EventRejected(RejectReason.UNKNOWN_FIELD, "row")
    place = _PLACE.search(text)
    return EventRejected(RejectReason.WRONG_TYPE, place.group(1) if place and place.group(1) in _FIELDS else "row")
