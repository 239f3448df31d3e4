"""The short way to ``POST /v1/decisions``. Owns which requests may take it; plain ASGI, before everything else.

It takes a request whose key was looked up before, whose body has the strict form, and for which all that the decision
needs is in memory. Everything else goes the ordinary way through the application, with its body, and does there what
brings it into memory: so every refusal, every error and the OpenAPI document have one place, the declared route. What
was recalled from memory is checked by the transaction that records the decision.
"""

from __future__ import annotations

import asyncio
from typing import Final

from fastapi import FastAPI
from msgspec.structs import replace
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.signals import gpc
from common.taxonomy import Role
from server.access.limits import Standing
from server.access.service import Recalled
from server.api.errors import unforeseen
from server.api.frame import BODY_BYTES_MAX, HEADERS
from server.api.security import ACCESS, scope_of
from server.api.services import Services
from server.decisions.committing import Entry, Outcome
from server.decisions.draft import Draft
from server.decisions.encoding import Encoder
from server.decisions.journal import wake
from server.decisions.quick_request import read_quickly

PATH: Final = "/v1/decisions"
_SCOPE: Final = scope_of("POST", PATH)
_ROLES: Final = ACCESS["POST", PATH] - {Role.DEVICE}
_COMMON: Final = [(b"content-type", b"application/json"), *((n.encode(), v.encode()) for n, v in HEADERS.items())]
_GPC: Final = gpc.HEADER.encode()
_UNUSUAL: Final = frozenset({b"signature-input", b"content-encoding"})


class Service(FastAPI):
    """The application with its door: what takes the short way meets no layer of middleware."""

    door: Door | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self.door is not None and scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST":
            await self.door.enter(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Door:
    """Stands before an application."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services
        self._encoder: Final = Encoder(services.decisions.answers, services.follow_ups)

    async def enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the short way, or pass the request on."""
        first, body = await _received(receive)
        try:
            found = None if body is None else await self._answered(scope, body)
        except Exception as error:  # noqa: BLE001 - the ordinary way has the last word on faults, this one has none
            unforeseen(error)
            found = None
        if found is None:
            await self._app(scope, _again(first, receive), send)
        else:
            await _send(send, *found)

    async def _answered(self, scope: Scope, body: bytes) -> tuple[bytes, Standing] | None:
        """The answer, if the request could go the short way."""
        services = self._services
        known, opted_out = self._caller(scope)
        if known is None or (request := read_quickly(body)) is None:
            return None
        if opted_out:
            request = replace(request, gpc=True)
        draft = services.decisions.ready(request, known.principal)
        if draft is None:
            return None
        standing = services.limits.spend(known.principal.credential, known.principal.role.value)
        if standing.wait_s:
            return None
        decisions, loop = services.decisions, asyncio.get_running_loop()
        entry = decisions.entry(draft, known.key_hash)
        done, limit = services.dispatcher.submit(entry, loop), draft.request.tmax_ms
        alarm = None if limit is None else loop.call_later(limit / 1000, wake, [entry])
        await done
        if alarm is not None:
            alarm.cancel()
        return (self._encoder.encode(draft), standing) if self._settled(draft, entry, known) else None

    def _caller(self, scope: Scope) -> tuple[Recalled | None, bool]:
        """Who asks, if that is recalled and they may; and whether Global Privacy Control was sent."""
        authorization, opted_out = b"", False
        for name, value in scope["headers"]:
            if name == b"authorization":
                if authorization:
                    return None, False
                authorization = value
            elif name == _GPC:
                opted_out = opted_out or gpc.opted_out((value.decode("latin-1"),))
            elif name in _UNUSUAL:
                return None, False
        if not authorization.startswith(b"Bearer "):
            return None, False
        known = self._services.access.recall(authorization[7:])
        if known is None or known.principal.role not in _ROLES:
            return None, False
        scopes = known.principal.scopes
        return (None, False) if scopes and _SCOPE not in scopes else (known, opted_out)

    def _settled(self, draft: Draft, entry: Entry, known: Recalled) -> bool:
        """Whether the decision stands as it was made, and is committed (or cannot be, or is late)."""
        decisions = self._services.decisions
        if not entry.known:
            entry.abandoned = True
            decisions.late(draft)
            return True
        if entry.outcome is Outcome.KEY_ENDED:
            self._services.access.forget(known)
        if entry.outcome in {Outcome.KEY_ENDED, Outcome.OUTDATED}:
            return False
        decisions.settled(draft, entry)
        return True


async def _received(receive: Receive) -> tuple[list[Message], bytes | None]:
    """What came, and the body; None for the body if it is too long or did not come to its end."""
    message = await receive()
    messages, body = [message], message.get("body", b"")
    while message["type"] == "http.request" and message.get("more_body") and len(body) <= BODY_BYTES_MAX:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
    whole = message["type"] == "http.request" and len(body) <= BODY_BYTES_MAX
    return messages, body if whole else None


def _again(first: list[Message], receive: Receive) -> Receive:
    """Receives what was received, then whatever comes."""
    pending = first[::-1]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


async def _send(send: Send, body: bytes, standing: Standing) -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [*_COMMON, length, *standing.lines]})
    await send({"type": "http.response.body", "body": body})
