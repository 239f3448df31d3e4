"""What can be asked. Owns paths, bodies and what each answer is; sends nothing."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final, Generic, TypeVar, Unpack

from reticent_client.answers import (
    Accepted,
    Changed,
    Choice,
    Consent,
    Decision,
    FollowUp,
    Locale,
    Notice,
    Purpose,
    Withdrawn,
)
from reticent_client.asked import Asked, Signals, Slot

T = TypeVar("T")
TMAX_MS: Final = 200
_FOR_DECIDING: Final = 0.8
"""The share of the caller's time that the service gets; the rest is for the way there and back."""


class Again(Enum):
    """When a call may be made a second time."""

    UNSENT = auto()
    """Only if the first never reached the service: for what the service must not do twice, or what must be quick."""
    SAFE = auto()
    """Whenever it failed for a reason that passes: it only reads, or carries an ``Idempotency-Key``."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, however often it takes.

    Attributes:
        answer: the type of what is answered.
        idempotency_key: the same for every try, so that what was done is not done again.
        again: when it may be tried again.
        within_s: how long the caller waits in all; None: as the client is set.
    """

    method: str
    path: str
    answer: type[T]
    body: Mapping[str, Any] | None = field(default=None, repr=False)
    params: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str | None = field(default=None, repr=False)
    again: Again = Again.SAFE
    within_s: float | None = None


def decide(slots: Sequence[Slot], **asked: Unpack[Asked]) -> Call[Decision]:
    """``POST /v1/decisions``.

    Raises:
        TypeError: something is said that has no meaning: a signal under a wrong name must not go unheard.
    """
    if unknown := asked.keys() - Asked.__optional_keys__:
        raise TypeError(f"decide() takes no {', '.join(sorted(unknown))}")
    tmax_ms, handle, pick = asked.get("tmax_ms", TMAX_MS), asked.get("handle"), asked.get("pick")
    body: dict[str, Any] = {
        "slots": [{"slot_id": slot.slot_id, "count": slot.count} for slot in slots],
        "context": dict(asked.get("context", {})),
        "locale": asked.get("locale", "en"),
        "signals": asked.get("signals", Signals()).told(),
        "tmax": max(1, int(tmax_ms * _FOR_DECIDING)),
    }
    if handle is not None:
        body["handle"] = handle
    if pick is not None:
        body["pick"] = pick.told()
    if categories := asked.get("blocked_categories"):
        body["blocked_categories"] = list(categories)
    if advertisers := asked.get("blocked_advertisers"):
        body["blocked_advertisers"] = list(advertisers)
    return Call("POST", "/v1/decisions", Decision, body, again=Again.UNSENT, within_s=tmax_ms / 1000)


def confirm(token: str, follow_up: FollowUp) -> Call[Accepted]:
    """``POST /v1/events``."""
    return _once("/v1/events", Accepted, {"token": token, "follow_up": follow_up})


def check(handle: str, purposes: Sequence[Purpose], signals: Signals) -> Call[Consent]:
    """``POST /v1/consents/check``."""
    body = {"handle": handle, "purposes": list(purposes), "signals": signals.told()}
    return Call("POST", "/v1/consents/check", Consent, body)


def record(
    handle: str, notice: str, decisions: Mapping[Purpose, Choice], *, locale: Locale, surface: str, signals: Signals
) -> Call[Changed]:
    """``POST /v1/consents``."""
    body = {
        "handle": handle,
        "notice_digest": notice,
        "decisions": dict(decisions),
        "locale": locale,
        "surface": surface,
        "signals": signals.told(),
    }
    return _once("/v1/consents", Changed, body)


def withdraw(handle: str, purposes: Sequence[Purpose] | None) -> Call[Withdrawn]:
    """``POST /v1/consents/withdraw``: to do it twice is harmless, so it takes no key."""
    body = {"handle": handle, "purposes": "all" if purposes is None else list(purposes)}
    return Call("POST", "/v1/consents/withdraw", Withdrawn, body)


def notice(locale: Locale, jurisdiction: str | None) -> Call[Notice]:
    """``GET /v1/notices/current``."""
    params = {"locale": locale} | ({} if jurisdiction is None else {"jurisdiction": jurisdiction})
    return Call("GET", "/v1/notices/current", Notice, params=params)


def _once(path: str, answer: type[T], body: Mapping[str, Any]) -> Call[T]:
    return Call("POST", path, answer, body, idempotency_key=str(uuid.uuid4()))
