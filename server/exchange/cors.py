"""Cross-origin answers for pages. Owns which endpoints a page of another origin may call: those that Prebid.js calls.

Prebid sends its requests with credentials; there are none here that a browser would add (no cookie is ever set, and
the key is in the page itself), so every origin may be let in: what it could learn, it can ask for without a browser.
"""

from __future__ import annotations

from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PATHS: Final = frozenset({"/openrtb2/auction", "/cookie_sync"})
_PREFLIGHT: Final = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "authorization, content-type",
    "access-control-max-age": "86400",
}


class CrossOrigin:
    """Wraps the application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a preflight, or let the answer say who may read it."""
        if scope["type"] != "http" or scope["path"] not in PATHS:
            await self._app(scope, receive, send)
            return
        origin = Headers(scope=scope).get("origin")

        async def allowing(message: Message) -> None:
            if message["type"] == "http.response.start":
                _allow(MutableHeaders(scope=message), origin)
            await send(message)

        if scope["method"] == "OPTIONS":
            await allowing({"type": "http.response.start", "status": 204, "headers": _lines(_PREFLIGHT)})
            await send({"type": "http.response.body", "body": b""})
        else:
            await self._app(scope, receive, allowing)


def _allow(headers: MutableHeaders, origin: str | None) -> None:
    headers.add_vary_header("Origin")
    if origin is not None:
        headers["access-control-allow-origin"] = origin
        headers["access-control-allow-credentials"] = "true"


def _lines(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
