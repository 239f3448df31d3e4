"""A connection, for uvicorn's ``--http``. Owns the shortest way to ``POST /v1/decisions``: from the parser to the door.

A decision of the strict form needs nothing of what a server makes for an application: no scope, no task, no messages.
It goes from the parsed request to the door and from there back onto the wire, in one write. The parser is the
server's own (llhttp), and so is everything that happens to any other request: what the door does not take, a request
that is anything but plain HTTP/1.1 with a length, one that waits for another of its connection or for a slow reader.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from server.api.door import COMMON, DOOR, PASSED, PATH, Answer, Door
from server.api.frame import BODY_BYTES_MAX

CLASS: Final = f"{__name__}:Connection"
"""As uvicorn is told of it."""
_PATH: Final = PATH.encode()
_OK: Final = STATUS_LINE[200]


def _lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join([b"%b: %b\r\n" % line for line in headers])


_COMMON: Final = _lines(COMMON)


class _Short(RequestResponseCycle):
    """A request on the short way, as far as the server looks at it."""

    def __init__(self, loose: asyncio.Event) -> None:
        # Nothing of a cycle's own: it sends nothing by itself.
        self.message_event = loose
        self.body = bytearray()
        self.headers: list[tuple[bytes, bytes]] = []
        self.keep_alive, self.disconnected, self.response_complete = True, False, False


class Connection(HttpToolsProtocol):
    """One connection of a caller."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """As uvicorn makes it."""
        super().__init__(config, server_state, app_state, _loop)
        counted = self.access_log or self.limit_concurrency is not None  # by the server, per cycle of its own
        self._door: Final = None if counted or self.root_path else cast("Door | None", app_state.get(DOOR))
        self._short: _Short | None = None  # while its body arrives
        self._loose: Final = asyncio.Event()
        self._default: tuple[list[tuple[bytes, bytes]], bytes] = ([], _OK + _COMMON)

    def on_message_begin(self) -> None:
        """A request begins; the server's scope is made once it is known to be needed."""
        self.url, self.headers, self.expect_100_continue = b"", [], False

    def on_headers_complete(self) -> None:
        """Whether it may go the short way."""
        if self._door is not None and self.url == _PATH and self._plain():
            self._short = self.cycle = _Short(self._loose)
            self._short.headers = self.headers
        else:
            url, headers, expect = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expect
            self.headers.extend(headers)  # the scope's own list
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body."""
        short = self._short
        if short is None:
            super().on_body(body)
            return
        short.body += body
        if len(short.body) > BODY_BYTES_MAX:
            self._short = None
            self._pass_on(short, more=True)

    def on_message_complete(self) -> None:
        """The request is there: to the door with it."""
        short, door, self._short = self._short, self._door, None
        if short is None or door is None:
            super().on_message_complete()
        elif self.flow.write_paused or not door.ask(
            short.headers, bytes(short.body), self.loop, lambda found: self._told(short, found)
        ):
            self._pass_on(short)

    def _plain(self) -> bool:
        """Whether it is a request that the short way knows, and its turn."""
        parser, before = self.parser, cast("RequestResponseCycle | None", self.cycle)
        return (
            (before is None or before.response_complete)
            and parser.get_method() == b"POST"
            and not self.expect_100_continue
            and parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
        )

    def _told(self, short: _Short, found: Answer | None) -> None:
        """Send the answer."""
        if short.disconnected or self.transport.is_closing():
            return
        if found is None:
            self._pass_on(short)
            return
        body, standing = found
        (left, left_now), (policy, policy_line) = standing.lines
        self.transport.write(
            b"%bcontent-length: %d\r\n%b: %b\r\n%b: %b\r\n\r\n%b"
            % (self._head(), len(body), left, left_now, policy, policy_line, body)
        )
        short.response_complete = True
        if not short.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _head(self) -> bytes:
        """What every answer begins with; the server's own headers change once a second."""
        default = self.server_state.default_headers
        if self._default[0] is not default:
            self._default = (default, _OK + _lines(default) + _COMMON)
        return self._default[1]

    def _pass_on(self, short: _Short, *, more: bool = False) -> None:
        """Send a request the ordinary way, with as much of its body as there is."""
        scope = {
            "type": "http",
            "asgi": {"version": self.config.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": "",
            "method": "POST",
            "path": PATH,
            "raw_path": _PATH,
            "query_string": b"",
            "headers": short.headers,
            "state": {**self.app_state, PASSED: True},
        }
        cycle = RequestResponseCycle(
            scope=cast("Any", scope),
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=short.keep_alive,
            on_response=self.on_response_complete,
        )
        cycle.body, cycle.more_body = short.body, more
        cycle.message_event.set()
        if self.cycle is short:
            self.cycle = cycle
        self._start_asgi_task(cycle, self.app)
