"""The strict form of a request, read quickly. Owns no rule of its own: what it cannot read is read leniently.

Whatever comes out here is exactly what ``request.read_request`` makes of the same bytes; a test holds both together.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from common.signals.verdict import Received
from common.wire.messages import SlotRequest
from policies.notices import Locale
from server.decisions.request import BLOCKED_MAX, CONTEXT_MAX, NUMBER_MAX, POSITIONS_MAX, TMAX_MS, DecisionRequest

_Name = Annotated[str, Meta(max_length=64)]
_Text = Annotated[str, Meta(max_length=200)]
_Number = Annotated[float, Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
_Blocked = Annotated[list[Annotated[str, Meta(min_length=1, max_length=200)]], Meta(max_length=BLOCKED_MAX)]


class _Slot(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    slot_id: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
    count: Annotated[int, Meta(ge=1, le=20)] = 1


class _Signals(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    gpc: bool = False
    tcf: str | None = None
    gpp: str | None = None
    us_privacy: str | None = None


class _Body(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    slots: Annotated[list[_Slot], Meta(min_length=1, max_length=POSITIONS_MAX)]
    handle: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{16,64}\Z")] | None = None
    context: Annotated[dict[_Name, _Text | _Number], Meta(max_length=CONTEXT_MAX)] = {}
    locale: Literal["en", "zh-CN"] = "en"
    signals: _Signals = _Signals()
    tmax: Annotated[int, Meta(ge=1, le=TMAX_MS)] | None = None
    blocked_categories: _Blocked = []
    blocked_advertisers: _Blocked = []


_decode: Final = msgspec.json.Decoder(_Body).decode
_names: Final[set[str]] = set()
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_HELD: Final = 10_000
_slots: Final[dict[tuple[str, int], SlotRequest]] = {}
_NO_SIGNALS: Final = Received()
_NONE: Final[frozenset[str]] = frozenset()


def read_quickly(body: bytes) -> DecisionRequest | None:
    """A request of the strict form; None for anything else, which may still be understood in part."""
    try:
        read = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    slots = tuple([_slot(slot.slot_id, slot.count) for slot in read.slots])
    if len(slots) > 1 and not _fit(slots):
        return None
    for name in read.context:
        if name not in _names and not _known(name):
            return None
    texts, numbers = _parted(read.context)
    said, locale = read.signals, read.locale
    quiet = not said.gpc and said.tcf is said.gpp is said.us_privacy is None
    signals = _NO_SIGNALS if quiet else Received(said.gpc, said.tcf, said.gpp, said.us_privacy)
    return DecisionRequest(
        read.handle,
        slots,
        texts,
        numbers,
        _LOCALES[locale],
        said.gpc,
        signals=signals,
        tmax_ms=read.tmax,
        blocked_categories=frozenset(read.blocked_categories) if read.blocked_categories else _NONE,
        blocked_advertisers=frozenset(read.blocked_advertisers) if read.blocked_advertisers else _NONE,
    )


_LOCALES: Final[dict[str, Locale]] = {"en": "en", "zh-CN": "zh-CN"}


def _fit(slots: tuple[SlotRequest, ...]) -> bool:
    """Each slot once, and no more positions than may be asked for."""
    distinct = len({slot.slot_id for slot in slots}) == len(slots)
    return distinct and sum(slot.count for slot in slots) <= POSITIONS_MAX


def _known(name: str) -> bool:
    """Whether this can be the name of a fact; names come again and again, so each is looked at once."""
    if _NAME.fullmatch(name) is None:
        return False
    if len(_names) >= _HELD:
        _names.clear()
    _names.add(name)
    return True


def _slot(slot_id: str, count: int) -> SlotRequest:
    """One value per slot: apps ask for the same ones all the time."""
    found = _slots.get((slot_id, count))
    if found is None:
        if len(_slots) >= _HELD:
            _slots.clear()
        found = _slots[slot_id, count] = SlotRequest(slot_id=slot_id, count=count)
    return found


def _parted(context: dict[str, str | float]) -> tuple[dict[str, str], dict[str, float]]:
    texts: dict[str, str] = {}
    numbers: dict[str, float] = {}
    for name, fact in context.items():
        if isinstance(fact, str):
            texts[name] = fact
        else:
            numbers[name] = fact
    return texts, numbers
