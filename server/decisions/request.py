"""What a caller asks. Owns the lenient reading of a decision request: whatever cannot be understood is not used.

A request whose slots can be read is always answered. A fault anywhere else makes the answer contextual and says so
(``malformed``); the faulty part is dropped and never echoed, stored or logged.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from common.errors import MalformedInput
from common.signals.verdict import Received
from common.wire.messages import SlotRequest
from common.wire.pick import Pick
from policies.notices import LOCALES, Locale
from server.decisions.picks import read_pick
from server.signals.schemas import Signals

POSITIONS_MAX: Final = 50
CONTEXT_MAX: Final = 32
NUMBER_MAX: Final = 1e300
_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{16,64}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
"""Half of a pair: JSON can spell it, no encoding can write it."""
_FIELDS: Final = frozenset(
    {
        "handle",
        "slots",
        "context",
        "locale",
        "signals",
        "tmax",
        "blocked_categories",
        "blocked_advertisers",
        "pick",
        "kind",
    }
)
BLOCKED_MAX: Final = 200
TMAX_MS: Final = 60_000


Blocked = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]*$")]


class DecisionBody(BaseModel):
    """The strict form of a request, as it is documented."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    handle: Annotated[str | None, Field(pattern=_HANDLE.pattern, description="Omit it for contextual ads.")] = None
    slots: Annotated[tuple[SlotRequest, ...], Field(min_length=1, max_length=POSITIONS_MAX)]
    context: Annotated[
        dict[str, str | float], Field(max_length=CONTEXT_MAX, description="The page, never the person.")
    ] = {}
    locale: Locale = "en"
    signals: Signals = Signals()
    tmax: Annotated[
        int | None, Field(ge=1, le=TMAX_MS, description="Milliseconds to decide in; what comes late is contextual.")
    ] = None
    blocked_categories: Annotated[tuple[Blocked, ...], Field(max_length=BLOCKED_MAX)] = ()
    blocked_advertisers: Annotated[tuple[Blocked, ...], Field(max_length=BLOCKED_MAX)] = ()
    pick: Annotated[
        Pick | None, Field(description="A private pick of the device; without it nothing of the person is used here.")
    ] = None
    kind: Annotated[
        Literal["private_pick"] | None, Field(description="A device's message with a private pick may be posted as is.")
    ] = None

    @field_validator("slots")
    @classmethod
    def _bounded_and_distinct(cls, slots: tuple[SlotRequest, ...]) -> tuple[SlotRequest, ...]:
        if len({slot.slot_id for slot in slots}) != len(slots):
            raise ValueError("a slot_id occurs twice")
        if sum(slot.count for slot in slots) > POSITIONS_MAX:
            raise ValueError(f"more than {POSITIONS_MAX} positions")
        return slots


_NO_SIGNALS: Final = Received()


class DecisionRequest(msgspec.Struct, frozen=True):
    """What could be understood.

    Attributes:
        handle: a well-formed handle, or None.
        slots: what is to be filled.
        context, numbers: facts about the page.
        locale: language of the answer.
        gpc: whether Global Privacy Control was seen, in a header or in the body.
        signals: all signals of the body.
        malformed: something beside the slots could not be understood.
        tmax_ms: milliseconds to decide in; None: as long as it takes.
        blocked_categories, blocked_advertisers: what the surface refuses.
        floors: least score by slot id, on top of the policy's.
        least_bids: what must be offered at least, by slot id, in millionths; of an exchange, never of a body.
        pick: a private pick of the device, if there is one.
    """

    handle: str | None
    slots: tuple[SlotRequest, ...]
    context: Mapping[str, str] = {}
    numbers: Mapping[str, float] = {}
    locale: Locale = "en"
    gpc: bool = False
    malformed: bool = False
    signals: Received = _NO_SIGNALS
    tmax_ms: int | None = None
    blocked_categories: frozenset[str] = frozenset()
    blocked_advertisers: frozenset[str] = frozenset()
    floors: Mapping[str, float] = {}
    least_bids: Mapping[str, int] = {}
    pick: Pick | None = None


class UnreadableSlots(Exception):
    """The slots are not as described; carries what pydantic found."""

    def __init__(self, error: ValidationError) -> None:
        super().__init__("the slots cannot be read")
        self.error = error


def read_request(body: bytes) -> DecisionRequest:
    """Understand as much of a request as possible.

    Raises:
        MalformedInput: not a JSON object.
        UnreadableSlots: there is no slot to answer.
    """
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise MalformedInput("the body is not JSON") from None
    if not isinstance(data, dict):
        raise MalformedInput("the body is not a JSON object")
    slots = _slots(data)
    handle, handle_ok = _handle(data.get("handle"))
    context, numbers, context_ok = _context(data.get("context", {}))
    locale, locale_ok = _locale(data.get("locale", "en"))
    signals, signals_ok = _signals(data.get("signals", {}))
    tmax, tmax_ok = _tmax(data.get("tmax"))
    categories, categories_ok = _blocked(data.get("blocked_categories", []))
    advertisers, advertisers_ok = _blocked(data.get("blocked_advertisers", []))
    pick = read_pick(data["pick"]) if data.get("pick") is not None else None
    pick_ok = (pick is None) is (data.get("pick") is None) and data.get("kind") in (None, "private_pick")
    understood = handle_ok and context_ok and locale_ok and signals_ok and tmax_ok and _FIELDS.issuperset(data)
    return DecisionRequest(
        handle,
        slots,
        context,
        numbers,
        locale,
        signals.gpc,
        malformed=not (understood and categories_ok and advertisers_ok and pick_ok),
        signals=signals,
        tmax_ms=tmax,
        blocked_categories=categories,
        blocked_advertisers=advertisers,
        pick=pick,
    )


def _slots(data: Mapping[str, object]) -> tuple[SlotRequest, ...]:
    try:
        return DecisionBody.model_validate({"slots": data.get("slots")}).slots
    except ValidationError as error:
        raise UnreadableSlots(error) from None


def _handle(value: object) -> tuple[str | None, bool]:
    if value is None:
        return None, True
    if isinstance(value, str) and _HANDLE.fullmatch(value):
        return value, True
    return None, False


def _context(value: object) -> tuple[dict[str, str], dict[str, float], bool]:
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    if not isinstance(value, dict) or len(value) > CONTEXT_MAX:
        return texts, numbers, False
    for name, fact in value.items():
        if not _NAME.fullmatch(name):
            continue
        if isinstance(fact, str) and len(fact) <= 200 and not _SURROGATE.search(fact):
            texts[name] = fact
        elif isinstance(fact, int | float) and not isinstance(fact, bool) and -NUMBER_MAX <= fact <= NUMBER_MAX:
            numbers[name] = float(fact)
    return texts, numbers, len(texts) + len(numbers) == len(value)


def _locale(value: object) -> tuple[Locale, bool]:
    found = next((locale for locale in LOCALES if locale == value), None)
    return (found or "en"), found is not None


def _signals(value: object) -> tuple[Received, bool]:
    """Signals of which not even the form can be understood count as an opt-out."""
    try:
        return Signals.model_validate(value).received(), True
    except ValidationError:
        return Received(gpc=True), False


def _tmax(value: object) -> tuple[int | None, bool]:
    if value is None:
        return None, True
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= TMAX_MS:
        return value, True
    return None, False


def _blocked(value: object) -> tuple[frozenset[str], bool]:
    """What is refused. What can be understood of a list that is not as described still holds."""
    if not isinstance(value, list):
        return frozenset(), False
    found = [x for x in value[:BLOCKED_MAX] if isinstance(x, str) and 0 < len(x) <= 200 and not _SURROGATE.search(x)]
    return frozenset(found), len(found) == len(value)
