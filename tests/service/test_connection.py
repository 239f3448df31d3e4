"""Connections: the short way from the parser to the door, and all that must not go it."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from common.taxonomy import Role
from server.access.limits import Quota, Standing
from server.api.connection import Connection
from server.api.door import DOOR, PASSED, Answer, Door
from server.api.frame import BODY_BYTES_MAX
from tests.service.alive import alive
from tests.service.world import APP, World, catalogue

BODY = b'{"slots": [{"slot_id": "top"}]}'
STANDING = Standing("app_backend", Quota(10, 60), 9, 6)


def request(body: bytes = BODY, *more: str, line: str = "POST /v1/decisions HTTP/1.1", length: bool = True) -> bytes:
    lines = [line, "Host: test", *more, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Wire(asyncio.Transport):
    """The other end of a connection, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.sent, self.closed, self.reading = b"", False, True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closed
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    @property
    def statuses(self) -> list[int]:
        """Of what was answered, in order."""
        return [int(part[:3]) for part in self.sent.split(b"HTTP/1.1 ")[1:]]


class Keeper:
    """A door that keeps who came; the test says what becomes of them."""

    def __init__(self, *, takes: bool = True) -> None:
        self.takes = takes
        self.came: list[tuple[dict[bytes, bytes], bytes, Callable[[Answer | None], None]]] = []

    def ask(self, headers: Any, body: bytes, _loop: Any, told: Any) -> bool:  # noqa: ANN401 - as a door takes them
        self.came.append((dict(headers), body, told))
        return self.takes


class Made:
    """A connection in memory, before an application that says what it was asked."""

    def __init__(
        self,
        door: Keeper | None,
        kind: type[HttpToolsProtocol] = Connection,
        **options: Any,  # noqa: ANN401 - uvicorn's
    ) -> None:
        self.asked: list[tuple[dict[str, Any], bytes]] = []
        options = {"access_log": False, "lifespan": "off", "interface": "asgi3", "ws": "none", **options}
        config = uvicorn.Config(self._app, http=kind, log_config=None, **options)
        if not options["access_log"]:
            logging.getLogger("uvicorn.access").propagate = False
        config.load()
        self.state, self.wire = ServerState(), Wire()
        self.state.default_headers = [(b"date", b"today")]
        self.one = kind(config, self.state, {DOOR: door}, asyncio.get_running_loop())
        self.one.connection_made(self.wire)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.asked.append((scope, body))
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 203, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async def settled(self) -> None:
        """What can happen has happened."""
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def access_log() -> Iterator[None]:
    """Whatever a connection needs of it, it is as before afterwards."""
    logger = logging.getLogger("uvicorn.access")
    before = logger.propagate
    yield
    logger.propagate = before


def run(story: Callable[[], Any]) -> None:
    asyncio.run(story())


def test_a_decision_goes_to_the_door_and_back_in_one_write() -> None:
    async def story() -> None:
        door = Keeper()
        made = Made(door)
        for byte in request(BODY, "Authorization: Bearer x"):
            made.one.data_received(bytes([byte]))
        headers, body, told = door.came[0]
        assert body == BODY
        assert headers[b"authorization"] == b"Bearer x"
        assert not made.wire.sent
        told(Answer(b'{"a":1}', STANDING))
        head, _, sent = made.wire.sent.partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert sent == b'{"a":1}'
        assert (lines["content-length"], lines["date"], lines["ratelimit"]) == ("7", "today", '"app_backend";r=9;t=6')
        assert lines["cache-control"] == "no-store"
        assert not made.asked
        made.state.default_headers = [(b"date", b"tomorrow")]
        made.one.data_received(request())
        door.came[1][2](Answer(b"{}", STANDING))
        assert b"date: tomorrow" in made.wire.sent
        assert made.state.total_requests == 2

    run(story)


@pytest.mark.parametrize(
    "sent",
    [
        request(line="POST /v1/decisions?x=1 HTTP/1.1"),
        request(line="POST /v1/decision HTTP/1.1"),
        request(line="PUT /v1/decisions HTTP/1.1"),
        request(line="POST /v1/decisions HTTP/1.0"),
        request(BODY, "Connection: close"),
        request(BODY, "Connection: upgrade", "Upgrade: h2c"),
        request(BODY, "Expect: 100-continue"),
        request(b"x" * (BODY_BYTES_MAX + 1)),
    ],
    ids=["query", "other-path", "method", "http-1.0", "close", "upgrade", "expect", "too-long"],
)
def test_all_else_is_the_servers(sent: bytes) -> None:
    async def story() -> None:
        door = Keeper()
        made, plain = Made(door), Made(door, HttpToolsProtocol)
        for one in (made, plain):
            for start in range(0, len(sent), 1_000):
                one.one.data_received(sent[start : start + 1_000])
                await one.settled()
        assert not door.came
        assert made.asked[0][0]["path"].startswith("/v1/decision")
        scope, expected = ({**one.asked[0][0], "state": None} for one in (made, plain))
        assert scope == expected
        assert made.asked[0][1] == plain.asked[0][1]
        assert made.wire.sent == plain.wire.sent
        assert made.wire.statuses[-1] == 203
        assert made.wire.closed is plain.wire.closed is (b"close" in sent or b"HTTP/1.0" in sent)

    run(story)


@pytest.mark.parametrize("options", [{"access_log": True}, {"limit_concurrency": 100}, {"root_path": "/ads"}])
def test_what_the_server_does_by_request_is_left_to_it(options: dict[str, Any]) -> None:
    async def story() -> None:
        door = Keeper()
        logging.getLogger("uvicorn.access").propagate = True
        made = Made(door, **options)
        made.one.data_received(request())
        await made.settled()
        assert not door.came
        assert made.asked

    run(story)


def test_what_the_door_does_not_take_is_asked_of_the_application_as_it_came() -> None:
    async def story() -> None:
        door = Keeper(takes=False)
        made, plain = Made(door), Made(door, HttpToolsProtocol)
        for one in (made, plain):
            one.one.data_received(request(BODY, "X-One: 1"))
            await one.settled()
        (scope, body), (expected, as_plain) = made.asked[0], plain.asked[0]
        assert scope["state"].pop(PASSED) is True  # so that it is not asked of the door again
        assert scope == expected
        assert body == as_plain == BODY
        assert made.wire.sent == plain.wire.sent

    run(story)


def test_later_requests_of_a_connection_wait_for_earlier_ones() -> None:
    async def story() -> None:
        door = Keeper()
        made = Made(door)
        made.one.data_received(request() + request(b"second") + request(b"third"))
        await made.settled()
        assert len(door.came) == 1
        assert not made.asked
        assert not made.wire.reading
        door.came[0][2](Answer(b"{}", STANDING))
        await made.settled()
        assert made.wire.statuses == [200, 203, 203]
        assert [body for _, body in made.asked] == [b"second", b"third"]
        assert made.wire.reading
        made.one.data_received(request())
        assert len(door.came) == 2

    run(story)


def test_a_request_that_is_passed_on_late_keeps_its_place() -> None:
    async def story() -> None:
        door = Keeper()
        made = Made(door)
        begun = request(b"second")
        made.one.data_received(request() + begun[:40])
        door.came[0][2](None)
        made.one.data_received(begun[40:])
        await made.settled()
        assert [body for _, body in made.asked] == [BODY, b"second"]
        assert made.wire.statuses == [203, 203]
        assert [dict(scope["headers"])[b"content-length"] for scope, _ in made.asked] == [b"31", b"6"]

    run(story)


def test_a_slow_reader_and_one_that_has_gone() -> None:
    async def story() -> None:
        door = Keeper()
        made = Made(door)
        made.one.pause_writing()
        made.one.data_received(request())
        await made.settled()
        assert not door.came
        assert not made.wire.sent
        made.one.resume_writing()
        await made.settled()
        assert made.wire.statuses == [203]
        made.one.data_received(request())
        made.one.connection_lost(None)
        for answer in (Answer(b"{}", STANDING), None):
            door.came[0][2](answer)
        await made.settled()
        assert made.wire.statuses == [203]
        assert len(made.asked) == 1
        assert made.one not in made.state.connections

    run(story)


def test_stopping_waits_for_the_answer() -> None:
    async def story() -> None:
        door = Keeper()
        made, idle = Made(door), Made(door)
        made.one.data_received(request())
        made.one.shutdown()
        idle.one.shutdown()
        assert not made.wire.closed
        assert idle.wire.closed
        door.came[0][2](Answer(b"{}", STANDING))
        assert made.wire.closed
        assert made.wire.statuses == [200]

    run(story)


def test_an_idle_connection_is_closed_in_time() -> None:
    async def story() -> None:
        door = Keeper()
        made = Made(door, timeout_keep_alive=0.02)
        made.one.data_received(request())
        await asyncio.sleep(0.05)
        assert not made.wire.closed  # it is not idle
        door.came[0][2](Answer(b"{}", STANDING))
        await asyncio.sleep(0.05)
        assert made.wire.closed

    run(story)


@contextmanager
def caller(url: str) -> Iterator[Callable[[bytes], tuple[int, dict[str, str], Any]]]:
    """One connection to a service, asked again and again."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), 20) as wire:
        answers = wire.makefile("rb")

        def ask(sent: bytes) -> tuple[int, dict[str, str], Any]:
            wire.sendall(sent)
            status = int(answers.readline().split()[1])
            headers = dict(line.decode().strip().split(": ", 1) for line in iter(answers.readline, b"\r\n"))
            return status, headers, json.loads(answers.read(int(headers["content-length"])))

        yield ask


def test_a_living_service_answers_alike_with_and_without(furnished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    key = furnished.key(Role.APP_BACKEND, APP)["authorization"]
    went: list[bool] = []
    ask = Door.ask

    def watched(self: Door, *args: Any) -> bool:  # noqa: ANN401 - as a door takes them
        went.append(ask(self, *args))
        return went[-1]

    monkeypatch.setattr(Door, "ask", watched)
    sent = request(BODY, f"Authorization: {key}")
    with alive(furnished.services) as url, caller(url) as service:
        found = [service(sent) for _ in range(3)]
        assert went == [False, True, True]
        furnished.services.catalogues.publish(catalogue(7).creatives)
        outdated = service(sent)  # known only by the transaction that would have recorded it
        assert went[3:] == [True]
        refused = service(request(BODY, "Authorization: Bearer rtk_app_backend_no"))
        hostile = service(request(b"x" * (BODY_BYTES_MAX + 1), f"Authorization: {key}"))
    monkeypatch.setattr("tests.service.alive.Connection", HttpToolsProtocol)
    with alive(furnished.services) as url, caller(url) as service:
        plain = service(sent)
    assert all(status == 200 for status, _, _ in (*found, outdated, plain))
    assert (refused[0], hostile[0]) == (401, 413)
    headers = [{name for name in headers if name != "date"} for _, headers, _ in (*found, plain)]
    assert headers == [headers[0]] * 4
    same = ("content-type", "cache-control", "content-security-policy", "ratelimit-policy")
    assert all(headers[name] == plain[1][name] for _, headers, _ in found for name in same)
    assert len({body["decision_id"] for _, _, body in found}) == 3
    versions = [body["catalogue_version"] for _, _, body in (found[-1], outdated)]
    assert versions[1] == versions[0] + 1
