"""The owner's page as a site for one person. Owns who may see it and what its forms do; knows no socket.

The link that the command prints works once: it becomes a cookie of this one browser. Every form carries the session's
proof; a request that names another host (DNS rebinding) or comes from another page is refused. Forms do the same as
the commands: what is withdrawn holds on this device even if the service cannot be told.
"""

from __future__ import annotations

import hmac
import secrets
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from cli.owner.page import ASKABLE, Live, content_policy, render
from cli.owner.texts import LOCALES, Locale, Words
from client.agent import Agent, Connect
from client.choosing import switch
from client.device import Node
from client.overview import overview
from client.rights import Rights
from client.store.keys import DeviceId
from common.errors import ReticentError
from common.taxonomy import Purpose, RequestKind

IDLE_S_MAX: Final = 1800.0
BODY_BYTES_MAX: Final = 4096
COOKIE: Final = "reticent_page"
OpenNode = Callable[[], AbstractContextManager[Node]]


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a browser. Header names are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """What it gets."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class Forbidden(Exception):
    """The request is not the owner's."""


class Site:
    """The page of one device, for one browser.

    Args of the constructor:
        open_node: opens the owner's node, afresh for every request.
        device: whose page.
        origin: ``http://127.0.0.1:port``, as the browser must name it.
        connect: makes transports to the service; None without one.
        clock: a monotonic clock.
    """

    def __init__(
        self,
        open_node: OpenNode,
        device: DeviceId,
        *,
        origin: str,
        connect: Connect | None,
        clock: Callable[[], float],
    ) -> None:
        self._open, self._device, self._connect, self._clock = open_node, device, connect, clock
        self._origin: Final = origin
        self._key: str | None = secrets.token_urlsafe(32)
        self._session: Final = secrets.token_urlsafe(32)
        self._proof: Final = secrets.token_urlsafe(32)
        self._seen = clock()
        self._said = ""

    @property
    def link(self) -> str:
        """Opens the page, once."""
        return f"{self._origin}/?key={self._key or ''}"

    def answer(self, request: Request) -> Response:
        """The answer to one request; whatever is not the owner's gets nothing."""
        try:
            self._check_host(request)
            path, _, query = request.target.partition("?")
            asked = dict(urllib.parse.parse_qsl(query))
            if request.method == "GET" and path == "/" and "key" in asked:
                return self._admit(asked["key"], _locale(asked.get("lang")))
            self._check_session(request)
            if request.method == "GET" and path == "/":
                return self._page(_locale(asked.get("lang")))
            if request.method == "POST":
                return self._form(path, request)
        except Forbidden:
            return Response(403, f"{Words('en')('forbidden')}\n{Words('zh-CN')('forbidden')}\n".encode(), _PLAIN)
        return Response(404, b"", _PLAIN)

    # ── who may ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _check_host(self, request: Request) -> None:
        if f"http://{request.headers.get('host', '')}" != self._origin:
            raise Forbidden

    def _admit(self, key: str, locale: Locale) -> Response:
        """The link becomes a cookie, and is worth nothing from now on."""
        if self._key is None or not hmac.compare_digest(key.encode(), self._key.encode()):
            raise Forbidden
        self._key, self._seen = None, self._clock()
        cookie = f"{COOKIE}={self._session}; HttpOnly; SameSite=Strict; Path=/"
        return Response(303, b"", {**_PLAIN, "location": f"/?lang={locale}", "set-cookie": cookie})

    def _check_session(self, request: Request) -> None:
        crumbs = dict(part.strip().partition("=")[::2] for part in request.headers.get("cookie", "").split(";"))
        now = self._clock()
        if not hmac.compare_digest(crumbs.get(COOKIE, "").encode(), self._session.encode()):
            raise Forbidden
        if now - self._seen > IDLE_S_MAX:
            raise Forbidden
        self._seen = now

    def _check_form(self, request: Request, fields: Mapping[str, str]) -> None:
        foreign = request.headers.get("origin", self._origin) != self._origin
        if foreign or not hmac.compare_digest(fields.get("proof", "").encode(), self._proof.encode()):
            raise Forbidden

    # ── what they get ────────────────────────────────────────────────────────────────────────────────────────────────

    def _page(self, locale: Locale) -> Response:
        said, self._said = self._said, ""
        with self._open() as node:
            view = overview(node, self._device)
        html = render(view, locale, Live(self._proof, connected=self._connect is not None, said=said))
        policy = f"{content_policy()}; frame-ancestors 'none'"
        return Response(200, html.encode(), {**_HTML, "content-security-policy": policy})

    def _form(self, path: str, request: Request) -> Response:
        if len(request.body) > BODY_BYTES_MAX:
            raise Forbidden
        fields = dict(urllib.parse.parse_qsl(request.body.decode("utf-8", "replace")))
        self._check_form(request, fields)
        locale = _locale(fields.get("lang"))
        words = Words(locale)
        if path == "/withdraw":
            self._said = self._withdraw(fields.get("purpose", ""), words)
        elif path == "/tags":
            self._said = self._switch(fields, words)
        elif path == "/request":
            self._said = self._ask(fields, words)
        else:
            return Response(404, b"", _PLAIN)
        return Response(303, b"", {**_PLAIN, "location": f"/?lang={locale}"})

    def _withdraw(self, purpose: str, words: Words) -> str:
        """Here first; then the service is told, if it can be."""
        wanted = list(Purpose) if purpose == "all" else [one for one in Purpose if one.value == purpose]
        with self._open() as node:
            node.gate.stop(self._device, wanted)
            try:
                if self._connect is None or node.gate.handle(self._device) is None:
                    return words("said_withdrawn_here")
                Agent(node, self._device, self._connect).withdraw(None if purpose == "all" else wanted)
            except ReticentError:
                return words("said_withdrawn_here")
        return words("said_withdrawn")

    def _switch(self, fields: Mapping[str, str], words: Words) -> str:
        """A topic off, or on again; of this device, told to nobody."""
        try:
            with self._open() as node:
                switch(node, self._device, fields.get("tag", ""), off=fields.get("switch") != "on")
        except ReticentError as error:
            return words("said_failed", error=f"{error.name}: {error}")
        return words("said_topic")

    def _ask(self, fields: Mapping[str, str], words: Words) -> str:
        kind = next((one for one in ASKABLE if one.value == fields.get("request")), None)
        if kind is None or self._connect is None:
            raise Forbidden
        if kind is RequestKind.ERASURE and fields.get("sure") != "yes":
            return words("said_confirm")
        try:
            with self._open() as node:
                Rights(Agent(node, self._device, self._connect)).ask(kind, locale=words.locale)
        except ReticentError as error:
            return words("said_failed", error=f"{error.name}: {error}")
        return words("said_erased" if kind is RequestKind.ERASURE else "said_asked")


def _locale(name: str | None) -> Locale:
    return next((locale for locale in LOCALES if locale == name), "en")


_COMMON: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}
_HTML: Final = {**_COMMON, "content-type": "text/html; charset=utf-8"}
_PLAIN: Final = {**_COMMON, "content-type": "text/plain; charset=utf-8"}
