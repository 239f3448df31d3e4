"""Connections beside the server's own: whatever arrives, however it is cut, both say the same and close alike.

Each story is a stream of requests, good and bad, cut anywhere, and what else happens meanwhile. It is told to a
``Connection`` before a door and to uvicorn's own protocol before an application that answers as the door does. After
every step both must have sent the same bytes.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any, Final

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from server.access.limits import Quota, Standing
from server.api.connection import Connection
from server.api.door import COMMON, DOOR, Answer
from server.api.frame import BODY_BYTES_MAX

STANDING: Final = Standing("app_backend", Quota(10, 60), 9, 6)
STORIES: Final = 200
TURNS: Final = 16
Parts = tuple[bytes, ...]


class Socket(asyncio.Protocol):
    """What an upgraded connection speaks here."""

    def __init__(self, **_: object) -> None:
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(b"upgraded: " + hashlib.sha256(data).hexdigest().encode())

    def shutdown(self) -> None:
        assert self.transport is not None
        self.transport.close()


class Wire(asyncio.Transport):
    """The other end, in memory, as asyncio's transports behave: nothing is read or sent after closing."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, eager: bool) -> None:
        super().__init__()
        self.eager = eager  # goes on reading, which a protocol must bear: a loop may have more at hand
        self.loop, self.sent, self.closed, self.lost, self.full = loop, b"", False, False, False
        self.reading, self.coming = True, deque[bytes]()
        self.protocol: Any = None
        self.ahead = False

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self.closed:
            self.sent += bytes(data)
            self.ahead |= self.full

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._end()

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.loop.call_soon(self._read)

    def arrive(self, data: bytes) -> None:
        self.coming.append(data)
        self._read()

    def fill(self, *, full: bool) -> None:
        """The caller reads no more, or again."""
        if self.full is not full and not self.lost:
            self.full = full
            (self.protocol.pause_writing if full else self.protocol.resume_writing)()
            if self.closed and not full:
                self._end()

    def reset(self) -> None:
        """The caller has gone."""
        if not self.lost:
            self.closed = self.lost = True
            self.protocol.connection_lost(ConnectionResetError())

    def _end(self) -> None:
        if not self.full:
            self.loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self.lost:
            self.lost = True
            self.protocol.connection_lost(None)

    def _read(self) -> None:
        if self.coming and (self.reading or self.eager) and not self.closed:
            self.protocol.data_received(self.coming.popleft())
            self.loop.call_soon(self._read)


def words(parts: Parts, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """An answer that could be to no other request."""
    return hashlib.sha256(repr((parts, headers, body)).encode()).hexdigest().encode()


class World:
    """A connection, what it is asked, and when it answers."""

    def __init__(self, kind: type[HttpToolsProtocol], config: uvicorn.Config, *, eager: bool) -> None:
        loop = asyncio.get_running_loop()
        self.wire, self.state = Wire(loop, eager=eager), ServerState()
        self.state.default_headers = [(b"date", b"today")]
        self.active: Callable[[], None] | None = None
        self.asked, self.waited = Counter[str](), False
        self.one = self.wire.protocol = kind(config, self.state, {DOOR: self, "world": self}, loop)
        self.one.connection_made(self.wire)

    def ask(self, headers: list[tuple[bytes, bytes]], body: bytes, _loop: object, told: Any) -> bool:  # noqa: ANN401
        """As a door."""
        said = words((b"POST", b"/v1/decisions", b"", b"1.1"), headers, body)
        self.asked["door"] += 1
        if said[0] in b"01234":
            return False
        assert self.active is None

        def answer() -> None:
            self.active, self.waited = None, said[0] in b"56"
            told(None if said[0] in b"56" else Answer(said, STANDING))

        self.active = answer
        return True

    async def answer(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        """As an application: to decisions just as the door would, to all else in many ways."""
        self.asked["application"] += 1
        decision = scope["path"] == "/v1/decisions" and scope["method"] == "POST"
        body, more = b"", decision or b"x-early" not in dict(scope["headers"])
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        parts = (scope["method"].encode(), scope["raw_path"], scope["query_string"], scope["http_version"].encode())
        said = words(parts, scope["headers"], body)
        if not decision:
            said = words(parts, [], b"") if b"x-early" in dict(scope["headers"]) else said
            await _oddly(said, send)
            return
        waited, self.waited = self.waited, False  # at the door
        if not waited:
            assert self.active is None
            done = asyncio.get_running_loop().create_future()
            self.active = partial(_let, done)
            await done
            self.active = None
        length = (b"content-length", b"%d" % len(said))
        await send({"type": "http.response.start", "status": 200, "headers": [*COMMON, length, *STANDING.lines]})
        await send({"type": "http.response.body", "body": said})


def _let(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


async def _oddly(said: bytes, send: Any) -> None:  # noqa: ANN401 - ASGI
    way, length = said[1:2], (b"content-length", b"%d" % len(said))
    if way == b"0":
        raise ValueError("before it began")
    if way == b"1":
        return
    headers = {b"2": [], b"3": [length, (b"connection", b"close")]}.get(way, [length])
    await send({"type": "http.response.start", "status": 203, "headers": headers})
    if way == b"4":
        raise ValueError("after it began")
    await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": said[:20], "more_body": True})
    await send({"type": "http.response.body", "body": said[20:]})


async def _application(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
    await scope["state"]["world"].answer(scope, receive, send)


LINES: Final = (
    [b"POST /v1/decisions HTTP/1.1"] * 80
    + [b"POST /v1/decisions?x=1 HTTP/1.1", b"POST /v1/decisions HTTP/1.0", b"GET /v1/decisions HTTP/1.1"]
    + [b"POST /v1/%64ecisions HTTP/1.1", b"POST http://a/v1/decisions HTTP/1.1", b"POST /v1/decisions"]
    + [b"HEAD / HTTP/1.1", b"POST /v1/events HTTP/1.1", b"POST * HTTP/1.1", b"CONNECT a:1 HTTP/1.1"]
    + [b"POST /v1/decisions HTTP/2.0", b"post /v1/decisions HTTP/1.1", b"PRI * HTTP/2.0", b"POST \xff HTTP/1.1"]
)
MORE: Final = [
    b"",
    b"",
    b"",
    b"",
    b"Authorization: Bearer x",
    b"X-Early: 1",
    b"Sec-GPC: 1",
    b"X-Empty:",
    b"X: a\r\n folded",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Expect: 100-continue",
    b"Expect: 100-Continue",
    b"Host: a",
    b"Connection: upgrade\r\nUpgrade: websocket",
    b"Connection: Upgrade\r\nUpgrade: h2c",
    b"Upgrade: websocket",
    b"Content-Length: 3",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: identity",
    b"X\x00: 1",
    b"X : 1",
]


def request(dice: Random) -> bytes:
    """One request, mostly as it should be."""
    size = dice.choice([0, 1, 2, 30, 300, 3_000]) if dice.random() < 0.97 else BODY_BYTES_MAX + dice.randrange(-1, 3)
    body = b"%d" % dice.getrandbits(32) + bytes(size)
    lines = [dice.choice(LINES), b"Host: t", *(dice.choice(MORE) for _ in range(dice.choice([0, 0, 0, 0, 0, 1, 2])))]
    if dice.random() < 0.15:
        lines.append(b"Transfer-Encoding: chunked")
        at = dice.randrange(len(body))
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:at], body[at:]) if part)
        body += b"0\r\n" + dice.choice([b"", b"", b"X-Trailer: 1\r\n", b"Expect: 100-continue\r\n"]) + b"\r\n"
    elif dice.random() < 0.97:
        lines.append(b"Content-Length: %d" % (len(body) if dice.random() < 0.97 else dice.randrange(len(body) + 9)))
    return b"\r\n".join(line for line in lines if line) + b"\r\n\r\n" + body


def pieces(dice: Random) -> list[bytes]:
    """A stream, broken here and there, and cut anywhere."""
    stream = bytearray(b"".join(request(dice) for _ in range(dice.randrange(1, 7))))
    for _ in range(dice.choice([0, 0, 0, 0, 0, 0, 1, 2])):
        at = dice.randrange(min(len(stream), 600))
        stream[at : at + dice.randrange(2)] = bytes([dice.choice(b"\r\n :\x00aZ0\xff")]) * dice.randrange(3)
    cuts = sorted(dice.randrange(len(stream) + 1) for _ in range(dice.choice([0, 1, 3, 9])))
    return [bytes(stream[a:b]) for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) if a < b]


def happenings(dice: Random) -> Iterator[tuple[str, bytes]]:
    """What happens, in order; at the end everything is answered and the caller goes."""
    left = deque(pieces(dice))
    calm = dice.random() < 0.3
    while left:
        draw = dice.random()
        if draw < 0.5:
            yield "arrive", left.popleft()
        elif draw < 0.9 or calm:
            yield "answer", b""
        else:
            yield (
                dice.choice(
                    [
                        "fill",
                        "drain",
                        "drain",
                        "idle",
                        "date",
                        *(["stop"] if dice.random() < 0.4 else []),
                        *(["reset", "close"] if dice.random() < 0.2 else []),
                    ]
                ),
                b"",
            )
    yield "drain", b""
    for _ in range(12):
        yield "answer", b""
    yield dice.choice(["idle", "stop", "reset", "close"]), b""
    yield "answer", b""
    yield "reset", b""


def happen(world: World, what: str, data: bytes) -> None:
    one, wire = world.one, world.wire
    if what == "arrive":
        wire.arrive(data)
    elif what == "answer" and world.active is not None:
        world.active()
    elif what in {"fill", "drain"}:
        wire.fill(full=what == "fill")
    elif what == "stop" and one in world.state.connections:
        one.shutdown()
    elif what == "idle" and one.timeout_keep_alive_task is not None:
        one.timeout_keep_alive_handler()
    elif what == "date":
        world.state.default_headers = [(b"date", b"tomorrow"), (b"x-default", b"1")]
    elif what == "close":
        wire.close()
    elif what == "reset":
        wire.reset()


def undated(world: World) -> bytes:
    """The server's own headers are of the moment of the answer, or of the request."""
    return re.sub(rb"date: \w+\r\n(x-default: 1\r\n)?", b"", world.wire.sent)


async def story(seed: int, configs: dict[type[HttpToolsProtocol], uvicorn.Config], seen: Counter[str]) -> None:
    """Tell it to both."""
    dice, wrong, eager = Random(seed), list[object](), seed % 3 > 0
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: None if "destroyed" in context["message"] else wrong.append(context)
    )
    ours, plain = (World(kind, configs[kind], eager=eager) for kind in (Connection, HttpToolsProtocol))
    ahead = False
    try:
        for step, (what, data) in enumerate(happenings(dice)):
            for world in (ours, plain):
                happen(world, what, data)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            ahead = ahead or ours.wire.ahead != plain.wire.ahead
            if eager and not ahead:
                where = f"story {seed}, step {step}: {what} {data[:300]!r}"
                assert undated(ours) == undated(plain), where
                assert ours.wire.closed is plain.wire.closed, where
                armed = [world.one.timeout_keep_alive_task is not None for world in (ours, plain)]
                assert armed[0] is armed[1], where
                assert (ours.active is None) is (plain.active is None), where
                assert ours.wire.closed or ours.state.total_requests == plain.state.total_requests, where
    finally:
        for world in (ours, plain):
            world.wire.fill(full=False)
            world.wire.reset()
    assert not wrong, f"story {seed}: {wrong}"
    assert ours.one not in ours.state.connections, seed
    assert len(ours.state.tasks) <= len(plain.state.tasks), seed  # the server itself leaves some that wait for ever
    calm = eager and not ahead
    seen["strict"] += calm
    for status in (b"100", b"200", b"203", b"400", b"500"):
        seen[status.decode()] += ours.wire.sent.count(b"HTTP/1.1 " + status)
    seen["upgraded"] += ours.wire.sent.count(b"upgraded")
    seen.update(ours.asked)


def configured(kind: type[HttpToolsProtocol]) -> uvicorn.Config:
    config = uvicorn.Config(
        _application, http=kind, ws=Socket, log_config=None, access_log=False, lifespan="off", interface="asgi3"
    )
    config.load()
    return config


def test_both_say_the_same_whatever_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("uvicorn.access"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("uvicorn.error"), "disabled", True)
    configs = {kind: configured(kind) for kind in (Connection, HttpToolsProtocol)}
    seen = Counter[str]()

    async def stories() -> None:
        for seed in range(STORIES):
            await story(seed, configs, seen)

    asyncio.run(stories())
    assert seen["strict"] > STORIES // 3
    assert all(seen[kind] for kind in ("200", "203", "400", "door", "application")), seen
