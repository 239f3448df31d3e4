"""The clients. Own a connection pool each, and the way from a flow's steps to requests; decide nothing."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack

import httpx

from reticent_client import calls
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
from reticent_client.calls import Call
from reticent_client.errors import Problem, Unreachable
from reticent_client.flow import Came, Flow, Patience, Send, Wait, flow

T = TypeVar("T")
_NO_SIGNALS: Final = Signals()
_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_REPLAYED: Final = "TokenReplayed"
_ANSWER_BYTES_MAX: Final = 4 * 1024 * 1024
_LIMITS: Final = httpx.Limits(max_connections=64, max_keepalive_connections=64)


class _Settings:
    """What both clients are made with."""

    def __init__(self, base_url: str, *, api_key: str, patience: Patience) -> None:
        if not api_key or not base_url.startswith(("https://", "http://")):
            raise ValueError("a client needs the service's address and a key")
        self.base_url, self.api_key, self.patience = base_url.rstrip("/"), api_key, patience

    def flow(self, call: Call[T], began: float) -> Flow[T]:
        """A call's flow from now on."""
        jitter = random.random()  # noqa: S311 - spreads retries, protects nothing
        patience = Patience(self.patience.within_s, self.patience.tries, jitter)
        return flow(call, api_key=self.api_key, began=began, patience=patience)


class Client:
    """Blocking client; safe to share between threads. Close it, or use it as a context manager.

    Args of the constructor:
        base_url: of the service.
        api_key: of role ``app_backend``.
        patience: for everything but decisions, which have their own ``tmax_ms``.
        transport: how requests are sent; httpx's own by default.
        sleep, clock: replaced in tests.
    """

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = _Settings(base_url, api_key=api_key, patience=patience)
        self._http = httpx.Client(transport=transport, limits=_LIMITS, follow_redirects=False)
        self._sleep, self._clock = sleep, clock

    def __repr__(self) -> str:
        """Without the key."""
        return f"Client({self._settings.base_url!r})"

    def decide(self, slots: Sequence[Slot], **asked: Unpack[Asked]) -> Decision:
        """Fill slots within ``tmax_ms``. A page must not fail for an ad: no answer is a decision without positions.

        Args:
            slots: what is to be filled.
            **asked: see ``Asked``: ``handle``, ``context``, ``locale``, ``signals``, ``tmax_ms``, ``pick``, blocks.

        Raises:
            Problem: the request is not one that could be answered: a wrong key, slots that cannot be read.
        """
        try:
            return self._run(calls.decide(slots, **asked))
        except (Problem, Unreachable) as error:
            return _unanswered(error)

    def confirm(self, token: str, follow_up: FollowUp) -> Accepted:
        """Confirm a follow-up by its token. What was counted before is no error: ``fresh`` says so.

        Raises:
            Problem: the token is not the service's (403), its window is over (410), or what comes before it is missing.
        """
        try:
            return self._run(calls.confirm(token, follow_up))
        except Problem as error:
            return _counted_before(error, follow_up)

    def check(self, handle: str, purposes: Sequence[Purpose], *, signals: Signals = _NO_SIGNALS) -> Consent:
        """Whether purposes are permitted now."""
        return self._run(calls.check(handle, purposes, signals))

    def notice(self, locale: Locale = "en", *, jurisdiction: str | None = None) -> Notice:
        """The privacy notice to show before anybody is asked."""
        return self._run(calls.notice(locale, jurisdiction))

    def record(
        self,
        handle: str,
        decisions: Mapping[Purpose, Choice],
        *,
        notice: Notice,
        surface: str,
        signals: Signals = _NO_SIGNALS,
    ) -> Changed:
        """Record what a person decided under a notice that they have seen; ``surface`` says where."""
        locale: Locale = "zh-CN" if notice.locale == "zh-CN" else "en"
        return self._run(
            calls.record(handle, notice.digest, decisions, locale=locale, surface=surface, signals=signals)
        )

    def withdraw(self, handle: str, purposes: Sequence[Purpose] | None = None) -> Withdrawn:
        """Withdraw consent to some purposes, or to all. It holds for the next decision."""
        return self._run(calls.withdraw(handle, purposes))

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close."""
        self.close()

    def _run(self, call: Call[T]) -> T:
        steps = self._settings.flow(call, self._clock())
        step = next(steps)
        while True:
            try:
                step = steps.send(self._do(step))
            except StopIteration as done:
                found: T = done.value
                return found

    def _do(self, step: Send | Wait) -> Came:
        if isinstance(step, Wait):
            self._sleep(step.seconds)
            return Came(self._clock())
        ends = self._clock() + step.timeout_s
        try:
            with self._http.stream(**_request(self._settings.base_url, step)) as answer:
                body = b""
                for piece in answer.iter_bytes():
                    body += piece
                    if len(body) > _ANSWER_BYTES_MAX or self._clock() > ends:  # one that drips is as late as none
                        return Came(self._clock())
                return Came(self._clock(), _whole(answer, body))
        except httpx.TransportError as error:
            return Came(self._clock(), unsent=isinstance(error, _UNSENT))


class AsyncClient:
    """The same for ``async`` code; every method is that of ``Client``, awaited."""

    def __init__(
        self,
        base_url: str,
        *,
        api_key: str,
        patience: Patience = Patience(),  # noqa: B008 - frozen
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = _Settings(base_url, api_key=api_key, patience=patience)
        self._http = httpx.AsyncClient(transport=transport, limits=_LIMITS, follow_redirects=False)
        self._sleep, self._clock = sleep, clock

    def __repr__(self) -> str:
        """Without the key."""
        return f"AsyncClient({self._settings.base_url!r})"

    async def decide(self, slots: Sequence[Slot], **asked: Unpack[Asked]) -> Decision:
        """As ``Client.decide``."""
        try:
            return await self._run(calls.decide(slots, **asked))
        except (Problem, Unreachable) as error:
            return _unanswered(error)

    async def confirm(self, token: str, follow_up: FollowUp) -> Accepted:
        """As ``Client.confirm``."""
        try:
            return await self._run(calls.confirm(token, follow_up))
        except Problem as error:
            return _counted_before(error, follow_up)

    async def check(self, handle: str, purposes: Sequence[Purpose], *, signals: Signals = _NO_SIGNALS) -> Consent:
        """As ``Client.check``."""
        return await self._run(calls.check(handle, purposes, signals))

    async def notice(self, locale: Locale = "en", *, jurisdiction: str | None = None) -> Notice:
        """As ``Client.notice``."""
        return await self._run(calls.notice(locale, jurisdiction))

    async def record(
        self,
        handle: str,
        decisions: Mapping[Purpose, Choice],
        *,
        notice: Notice,
        surface: str,
        signals: Signals = _NO_SIGNALS,
    ) -> Changed:
        """As ``Client.record``."""
        locale: Locale = "zh-CN" if notice.locale == "zh-CN" else "en"
        return await self._run(
            calls.record(handle, notice.digest, decisions, locale=locale, surface=surface, signals=signals)
        )

    async def withdraw(self, handle: str, purposes: Sequence[Purpose] | None = None) -> Withdrawn:
        """As ``Client.withdraw``."""
        return await self._run(calls.withdraw(handle, purposes))

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close."""
        await self.aclose()

    async def _run(self, call: Call[T]) -> T:
        steps = self._settings.flow(call, self._clock())
        step = next(steps)
        while True:
            try:
                step = steps.send(await self._do(step))
            except StopIteration as done:
                found: T = done.value
                return found

    async def _do(self, step: Send | Wait) -> Came:
        if isinstance(step, Wait):
            await self._sleep(step.seconds)
            return Came(self._clock())
        try:
            async with (
                asyncio.timeout(step.timeout_s),
                self._http.stream(**_request(self._settings.base_url, step)) as answer,
            ):
                body = b""
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > _ANSWER_BYTES_MAX:
                        return Came(self._clock())
                return Came(self._clock(), _whole(answer, body))
        except (httpx.TransportError, TimeoutError) as error:
            return Came(self._clock(), unsent=isinstance(error, _UNSENT))


def _whole(answer: httpx.Response, body: bytes) -> httpx.Response:
    """An answer that has been read; of its headers what a flow looks at."""
    told = {name: answer.headers[name] for name in ("content-type", "retry-after") if name in answer.headers}
    return httpx.Response(answer.status_code, headers=told, content=body)


def _request(base_url: str, step: Send) -> dict[str, Any]:
    return {
        "method": step.method,
        "url": base_url + step.path,
        "headers": step.headers,
        "json": step.body,
        "params": step.params or None,
        "timeout": step.timeout_s,
    }


def _unanswered(error: Problem | Unreachable) -> Decision:
    """A decision without positions for what passes; what is the caller's own mistake stays an error."""
    if isinstance(error, Unreachable):
        return Decision.missing("unreachable")
    if error.status < 500 and error.status != 429:
        raise error
    return Decision.missing("unavailable")


def _counted_before(error: Problem, follow_up: FollowUp) -> Accepted:
    if error.name != _REPLAYED:
        raise error
    return Accepted(follow_up, fresh=False)
