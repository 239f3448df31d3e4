"""``Idempotency-Key`` over HTTP. Owns how a request that came before gets its answer without being worked on again.

Plain ASGI, and nothing at all for a request without the header. It holds for every POST that writes, except decisions:
an answer from before a withdrawal must not be given again. A POST that only reads ignores the header as well.
"""

from __future__ import annotations

import json
import re
from typing import Final

from fastapi import HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from common.errors import MalformedInput, ReticentError
from server.access.repeats import Answer, Ticket
from server.api import errors
from server.api.identity import identify
from server.api.security import DECIDED_ANEW, NO_CREDENTIAL, READING_POSTS
from server.api.services import Services

HEADER: Final = b"idempotency-key"
REPLAYED: Final = "idempotent-replayed"
_FORM: Final = re.compile(r"[!-~]{16,255}", re.ASCII)
_ANONYMOUS: Final = "public"
_AS_IT_IS: Final = READING_POSTS | DECIDED_ANEW


class Repeated:
    """Wraps the application."""

    def __init__(self, app: ASGIApp, services: Services) -> None:
        self._app, self._services = app, services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it as before."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"] in _AS_IT_IS:
            await self._app(scope, receive, send)
            return
        found = [value for name, value in scope["headers"] if name == HEADER]
        if not found:
            await self._app(scope, receive, send)
            return
        try:
            await self._once(scope, receive, send, found)
        except ReticentError as error:
            await errors.answer(error)(scope, receive, send)
        except HTTPException as error:  # from the frame: the body is too long
            await errors.answer_http(error)(scope, receive, send)

    async def _once(self, scope: Scope, receive: Receive, send: Send, found: list[bytes]) -> None:
        key = _key(found)
        request = Request(scope, receive)
        body = await request.body()
        credential, subject = await self._caller(request)
        what = b"\0".join((scope["path"].encode(), scope["query_string"], body))
        begun = await run_in_threadpool(self._services.repeats.begin, credential, key, what)
        if isinstance(begun, Answer):
            await _send(begun, send)
            return
        held = _Held()
        try:
            await self._app(scope, _again(body, receive), held)
        except Exception:
            await run_in_threadpool(self._services.repeats.abandon, begun)
            raise
        await self._settle(begun, held.answer, subject or _handle(body) or _handle(held.answer.body))
        await _send(held.answer, send, fresh=True)

    async def _caller(self, request: Request) -> tuple[str, str | None]:
        if request.scope["path"] in NO_CREDENTIAL:
            return _ANONYMOUS, None
        caller = await identify(request, self._services)
        return caller.credential, caller.subject

    async def _settle(self, ticket: Ticket, answer: Answer, subject: str | None) -> None:
        """Keep the answer durably before it leaves."""
        if answer.status >= 400:
            await run_in_threadpool(self._services.repeats.abandon, ticket)
        else:
            await run_in_threadpool(lambda: self._services.repeats.finish(ticket, answer, subject=subject))


class _Held:
    """Takes an answer instead of sending it."""

    def __init__(self) -> None:
        self._status, self._body = 500, b""
        self._headers: tuple[tuple[str, str], ...] = ()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = tuple((n.decode("latin-1"), v.decode("latin-1")) for n, v in message.get("headers", ()))
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")

    @property
    def answer(self) -> Answer:
        return Answer(self._status, self._headers, self._body)


def _key(found: list[bytes]) -> str:
    """The header's value; quotes, as the draft writes them, do not count."""
    text = found[0].decode("latin-1").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1]
    if len(found) != 1 or not _FORM.fullmatch(text):
        raise MalformedInput("Idempotency-Key takes 16 to 255 visible characters, best a random UUID")
    return text


def _handle(body: bytes) -> str | None:
    """The subject handle in a JSON object, if it has one."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    handle = found.get("handle") if isinstance(found, dict) else None
    return handle if isinstance(handle, str) and handle.isascii() and handle.isprintable() else None


def _again(body: bytes, receive: Receive) -> Receive:
    """Receives the body that was read, then whatever comes."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


async def _send(answer: Answer, send: Send, *, fresh: bool = False) -> None:
    headers = answer.headers if fresh else (*answer.headers, (REPLAYED, "true"))
    raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": raw})
    await send({"type": "http.response.body", "body": answer.body})
