"""The short way to ``POST /v1/decisions``. Owns which requests may take it; plain ASGI, before everything else.

It takes a request whose key was looked up before, whose body has the strict form, and for which all that the decision
needs is in memory. Everything else goes the ordinary way through the application, with its body, and does there what
brings it into memory: so every refusal, every error and the OpenAPI document have one place, the declared route. What
was recalled from memory is checked by the transaction that records the decision.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, NamedTuple

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
DOOR: Final = "door"
"""Under which name connections find the door (``server.api.connection``) in what the application's start yields."""
PASSED: Final = "past_the_door"
"""In the state of a request that was at the door already."""
_SCOPE: Final = scope_of("POST", PATH)
_ROLES: Final = ACCESS["POST", PATH] - {Role.DEVICE}
COMMON: Final = [(b"content-type", b"application/json"), *((n.encode(), v.encode()) for n, v in HEADERS.items())]
_GPC: Final = gpc.HEADER.encode()
_UNUSUAL: Final = frozenset({b"signature-input", b"content-encoding", b"transfer-encoding"})


class Service(FastAPI):
    """The application with its door: what takes the short way meets no layer of middleware."""

    door: Door | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        asked = scope["type"] == "http" and scope["path"] == PATH and scope["method"] == "POST"
        if self.door is None or not asked or PASSED in scope.get("state", {}):
            await super().__call__(scope, receive, send)
        else:
            await self.door.enter(scope, receive, send)


class Answer(NamedTuple):
    """What is sent: the body, and where the caller's quota stands."""

    body: bytes
    standing: Standing


Told = Callable[[Answer | None], None]
"""Takes the answer, or None where the request has to go the ordinary way after all."""


class Door:
    """Stands before an application."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        """Stand before ``app``, which these services answer."""
        self._app, self._services = app, services
        self._encoder: Final = Encoder(services.decisions.answers, services.follow_ups)

    async def enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer by the short way, or pass the request on."""
        first, body = await _received(receive)
        found, loop = None, asyncio.get_running_loop()
        if body is not None:
            done: asyncio.Future[Answer | None] = loop.create_future()
            if self.ask(scope["headers"], body, loop, partial(_resolve, done)):
                found = await done
        if found is None:
            await self._app(scope, _again(first, receive), send)
        else:
            await _send(send, *found)

    def ask(
        self, headers: Iterable[tuple[bytes, bytes]], body: bytes, loop: asyncio.AbstractEventLoop, told: Told
    ) -> bool:
        """Decide, if the request can go the short way: then ``told`` is called once, later, in this event loop.

        Args:
            headers: names in lower case.
            body: the whole of it.
            loop: the running one.
            told: what happens with the answer.
        """
        try:
            return self._asked(headers, body, loop, told)
        except Exception as error:  # noqa: BLE001 - the ordinary way has the last word on faults, this one has none
            unforeseen(error)
            return False

    def _asked(
        self, headers: Iterable[tuple[bytes, bytes]], body: bytes, loop: asyncio.AbstractEventLoop, told: Told
    ) -> bool:
        services = self._services
        known, opted_out = self._caller(headers)
        if known is None or (request := read_quickly(body)) is None:
            return False
        if opted_out:
            request = replace(request, gpc=True)
        draft = services.decisions.ready(request, known.principal)
        if draft is None:
            return False
        standing = services.limits.spend(known.principal.credential, known.principal.role.value)
        if standing.wait_s:
            return False
        entry = services.decisions.entry(draft, known.key_hash)
        if (limit := request.tmax_ms) is not None:
            told = partial(_in_time, loop.call_later(limit / 1000, wake, [entry]), told)
        entry.waiting = partial(self._tell, draft, entry, known, standing, told)
        services.dispatcher.submit(entry, loop)
        return True

    def _tell(self, draft: Draft, entry: Entry, known: Recalled, standing: Standing, told: Told) -> None:
        """Pass on what became of a decision."""
        found = None
        try:
            if self._settled(draft, entry, known):
                found = Answer(self._encoder.encode(draft), standing)
        except Exception as error:  # noqa: BLE001 - as above
            unforeseen(error)
        try:
            told(found)
        except Exception as error:  # noqa: BLE001 - those who wait beside this one are told all the same
            unforeseen(error)

    def _caller(self, headers: Iterable[tuple[bytes, bytes]]) -> tuple[Recalled | None, bool]:
        """Who asks, if that is recalled and they may; and whether Global Privacy Control was sent."""
        authorization, opted_out = None, False
        for name, value in headers:
            if name == b"authorization":
                if authorization is not None:
                    return None, False
                authorization = value
            elif name == _GPC:
                opted_out = opted_out or gpc.opted_out((value.decode("latin-1"),))
            elif name in _UNUSUAL:
                return None, False
        if authorization is None or not authorization.startswith(b"Bearer "):
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


def _in_time(alarm: asyncio.TimerHandle, told: Told, found: Answer | None) -> None:
    alarm.cancel()
    told(found)


def _resolve(done: asyncio.Future[Answer | None], found: Answer | None) -> None:
    if not done.done():  # who waited may have gone
        done.set_result(found)


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
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [*COMMON, length, *standing.lines]})
    await send({"type": "http.response.body", "body": body})
