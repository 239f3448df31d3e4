"""The frame around every request. Owns body size caps, common headers and the last word on faults. Plain ASGI.

Headers are those of every answer, and the standing of the caller's quota where the request was counted.

A cap holds whether or not the caller declares a length: bytes are counted as they arrive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import unforeseen
from server.api.identity import STANDING

BODY_BYTES_MAX: Final = 64 * 1024
BODY_BYTES_MAX_OF: Final = {
    "/v1/catalog": 4 * 1024 * 1024,
    "/v1/notices": 256 * 1024,
    "/openrtb2/auction": 256 * 1024,
}
HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


class BrokenAnswer(Exception):
    """An answer that failed after it had begun; carries the class of the fault only."""


class Frame:
    """Wraps the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on inside the frame."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = BODY_BYTES_MAX_OF.get(scope["path"], BODY_BYTES_MAX)
        state = scope.setdefault("state", {})
        counted, framed = _Counted(receive, limit, Headers(scope=scope).get("content-length")), _Framed(send, state)
        try:
            await self._app(scope, counted, framed)
        except Exception as error:  # noqa: BLE001 - the last line: otherwise the server would log the error's text
            answer = unforeseen(error)
            if framed.started:
                raise BrokenAnswer(type(error).__name__) from None
            await answer(scope, receive, framed)


class _Counted:
    """Receives a body up to a limit."""

    def __init__(self, receive: Receive, limit: int, declared: str | None) -> None:
        self._receive, self._limit, self._seen = receive, limit, 0
        self._too_long = declared is not None and (not declared.isdecimal() or int(declared[:20]) > limit)

    async def __call__(self) -> Message:
        message = await self._receive() if not self._too_long else {"type": "http.request"}
        self._seen += len(message.get("body", b""))
        if self._too_long or self._seen > self._limit:
            raise HTTPException(413, headers={"connection": "close"})
        return message


class _Framed:
    """Sends an answer, with the headers that it does not set itself."""

    def __init__(self, send: Send, state: Mapping[str, Any]) -> None:
        self._send, self._state, self.started = send, state, False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            for name, value in HEADERS.items():
                headers.setdefault(name, value)
            if (standing := self._state.get(STANDING)) is not None:
                headers.update(standing.headers)
        await self._send(message)
