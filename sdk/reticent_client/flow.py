"""How a call becomes requests. Owns deadlines, retries and the reading of answers; touches no socket and no clock.

A flow is a generator: it yields what to send or how long to wait and is told what came of it, so that the blocking and
the asynchronous client differ in nothing else.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import httpx

from reticent_client.calls import Again, Call
from reticent_client.decode import decode
from reticent_client.errors import Problem, UnexpectedAnswer, Unreachable

T = TypeVar("T")
PASSING: Final = frozenset({429, 502, 503, 504})
IN_FLIGHT: Final = "RequestInFlight"
_FIRST_WAIT_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Send:
    """Send this, and wait so long for the answer."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: Any = field(repr=False)
    params: dict[str, str]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Wait:
    """Wait so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Came:
    """What came of a step.

    Attributes:
        now: seconds of a clock that only goes forward.
        answer: to ``Send``; None where there was none.
        unsent: whether the request never reached the service.
    """

    now: float
    answer: httpx.Response | None = None
    unsent: bool = False


Flow = Generator[Send | Wait, Came, T]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long and how often.

    Attributes:
        within_s: for a call with all its tries.
        tries: at most.
        jitter: a number from 0 to 1 that spreads waits; the caller draws it.
    """

    within_s: float = 10.0
    tries: int = 4
    jitter: float = 0.5


def flow(call: Call[T], *, api_key: str, began: float, patience: Patience) -> Flow[T]:
    """One call, to its answer.

    Raises:
        Problem: the service said no.
        Unreachable: nothing came, as often as it was tried.
        UnexpectedAnswer: something came that is no answer to this.
    """
    ends, now = began + (patience.within_s if call.within_s is None else call.within_s), began
    came = Came(began)
    for number in range(1, patience.tries + 1):
        came = yield _sending(call, api_key, ends - now)
        now = came.now
        if came.answer is not None and not _passing(came.answer):
            return _read(call, came.answer)
        wait = _wait(came.answer, number, patience.jitter)
        again = came.unsent or call.again is Again.SAFE
        if not again or number == patience.tries or now + wait >= ends:
            break
        now = (yield Wait(wait)).now
    if came.answer is not None:
        raise problem(came.answer)
    raise Unreachable("the service did not answer")


def problem(answer: httpx.Response) -> Problem | UnexpectedAnswer:
    """What a refusal says."""
    found = _json(answer)
    if not isinstance(found, dict) or not isinstance(found.get("title"), str):
        return UnexpectedAnswer(f"status {answer.status_code} without a problem")
    reason = found.get("reason")
    return Problem(
        status=answer.status_code,
        name=found["title"],
        type=str(found.get("type", "")),
        detail=str(found.get("detail", "")),
        reason=reason if isinstance(reason, str) else None,
        retry_after_s=_retry_after(answer),
    )


def _sending(call: Call[T], api_key: str, left_s: float) -> Send:
    headers = {"authorization": f"Bearer {api_key}", "accept": "application/json"}
    if call.idempotency_key is not None:
        headers["idempotency-key"] = call.idempotency_key
    body = None if call.body is None else dict(call.body)
    return Send(call.method, call.path, headers, body, dict(call.params), max(left_s, 0.001))


def _read(call: Call[T], answer: httpx.Response) -> T:
    if answer.is_success:
        return decode(call.answer, _json(answer))
    raise problem(answer)


def _passing(answer: httpx.Response) -> bool:
    """Whether the same request may fare better a little later."""
    if answer.status_code in PASSING:
        return True
    found = _json(answer) if answer.status_code == 409 else None
    return isinstance(found, dict) and found.get("title") == IN_FLIGHT


def _wait(answer: httpx.Response | None, number: int, jitter: float) -> float:
    """What the service asks for, else twice as long each time, spread by half."""
    asked = None if answer is None else _retry_after(answer)
    return asked if asked is not None else _FIRST_WAIT_S * 2 ** (number - 1) * (0.75 + jitter / 2)


def _retry_after(answer: httpx.Response) -> float | None:
    text = answer.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdecimal() and len(text) < 9 else None


def _json(answer: httpx.Response) -> object:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None
