"""Nothing of raw behaviour leaves: canaries in every field of every event, and an ear at every way out.

Listened to: the protobuf of every Flower message with its arrays decoded, bodies and headers of every HTTP request,
the server's database on disk, every log record at DEBUG, and the text of every exception. Some rounds are made to
fail with exceptions that quote the canaries. For each way out a leak is built on purpose, which must be caught.
"""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import sqlite3
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

import client.app
import client.rounds
import client.stages
from client.behavior.events import BehaviourEvent, Cart, Click, Comment, Favourite, Impression, Purchase, Search, View
from client.device import Node
from client.egress import Door, HttpTransport, Signer
from client.journal import Journal
from client.store.keys import DeviceId
from client.store.sessions import Sessions
from client.training.local import LocalTrainer
from common.crypto.signing import SigningKey
from common.errors import EgressRefused, ProtocolViolation, TooFewSurvivors
from common.taxonomy import AgeBand, FollowUp, Profile, Purpose, Stage
from common.wire.base import Message as WireMessage
from common.wire.messages import (
    ConsentChange,
    ConsentWithdrawal,
    DocumentRequest,
    FollowUpReport,
    SubjectEnrolment,
)
from common.wire.subject import SubjectRead
from server.api.app import create_app
from server.api.services import initialise
from server.app import train
from server.rounds.training import watch_nothing
from tests.egress import canary
from tests.flower.inline import InlineGrid
from tests.flower.nodes import DAY_S, RELEASE, RELEASES, World, make_world
from tests.service.http import Http


@dataclass
class Planted:
    """Every canary, by device."""

    by_device: dict[str, list[str]] = field(default_factory=dict)

    def events(self, device: str, number: int) -> list[BehaviourEvent]:
        mine = self.by_device.setdefault(device, [])

        def plant(place: str) -> str:
            mine.append(canary.new(place))
            return mine[-1]

        start = time.time() - 20 * DAY_S
        attributes = {plant("attribute-name"): plant("attribute"), "brand": plant("brand")}
        app, item = plant("app"), plant("item")
        events: list[BehaviourEvent] = [
            Search(start, app, plant("query")),
            Comment(start + 1, app, item, plant("comment")),
            View(start + 2, app, plant("viewed"), attributes, 3.0),
            Favourite(start + 4, app, plant("favourite")),
            Cart(start + 5, app, plant("cart")),
            Purchase(start + 6, app, plant("bought")),
        ]
        for i in range(8):
            context = {"page": plant("page"), plant("context-name"): plant("context")}
            exposure = plant("exposure")
            events.append(Impression(start + 100 + i, app, item, attributes, context, {"price": 1.0}, exposure, i % 2))
            events.append(Click(start + 101 + i, app, item, {}, exposure))
        return events

    @property
    def all(self) -> list[str]:
        return [one for planted in self.by_device.values() for one in planted]


@dataclass
class Ears:
    """What was heard, by way out."""

    flower: list[bytes] = field(default_factory=list)
    http: list[bytes] = field(default_factory=list)
    logs: list[bytes] = field(default_factory=list)
    exceptions: list[bytes] = field(default_factory=list)
    database: list[bytes] = field(default_factory=list)

    def caught(self, canaries: list[str]) -> dict[str, set[str]]:
        blobs = {name: [part for blob in heard for part in canary.inflated(blob)] for name, heard in vars(self).items()}
        return {name: found for name, parts in blobs.items() if (found := canary.found_in(parts, canaries))}


class Listener(logging.Handler):
    """Keeps every record, with its arguments and its traceback."""

    def __init__(self, heard: list[bytes]) -> None:
        super().__init__(logging.DEBUG)
        self.heard = heard

    def emit(self, record: logging.LogRecord) -> None:
        text = [record.getMessage(), repr(record.args), repr(vars(record))]
        if record.exc_info:
            text += traceback.format_exception(*record.exc_info)
        self.heard.append("\n".join(text).encode())


class Wiretap(httpx.BaseTransport):
    """Keeps every request and passes it on to the service."""

    def __init__(self, service: Http | None, heard: list[bytes]) -> None:
        self.service, self.heard = service, heard

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        self.heard += [str(request.url).encode(), repr(request.headers.raw).encode(), request.content]
        if self.service is None:
            return httpx.Response(200)
        path = request.url.raw_path.decode()
        answer = self.service.request(request.method, path, content=request.content, headers=request.headers)
        return httpx.Response(answer.status_code, content=answer.content)


@pytest.fixture
def planted() -> Planted:
    return Planted()


@pytest.fixture
def ears() -> Iterator[Ears]:
    heard = Ears()
    listener = Listener(heard.logs)
    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in ("flwr", "client", "server", "common"))]
    levels = [(one, one.level) for one in loggers]
    for one in loggers:
        one.addHandler(listener)
        one.setLevel(logging.DEBUG)
    yield heard
    for one, level in levels:
        one.removeHandler(listener)
        one.setLevel(level)


@pytest.fixture
def world(
    tmp_path: Path, planted: Planted, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[World]:
    made = make_world(tmp_path, events=planted.events, **getattr(request, "param", {}))
    for name, value in made.environment.items():
        monkeypatch.setenv(name, value)
    assert len(planted.all) == 6 * 43
    yield made
    client.app._WARM.close()
    client.app._ROSTERS.clear()


def federate(world: World, ears: Ears, app: ClientApp = client.app.app, rounds: int = 1, **config: object) -> None:
    nodes = [{"data-path": str(path)} for path in sorted(world.nodes.iterdir())]
    with InlineGrid(app, nodes, {"num-server-rounds": rounds, "min-contributions": 1} | config) as grid:
        try:
            train(grid, grid.context(), settings=world.server, observer=watch_nothing)
        except Exception as error:
            ears.exceptions.append("\n".join(traceback.format_exception(error)).encode())
            if not isinstance(error, TooFewSurvivors):
                raise
        finally:
            ears.flower += grid.frames
            ears.flower += [blob for array in grid.arrays for blob in canary.of_array(array)]
            ears.database += canary.of_database(world.server.state_dir / "reticent.db")


def use_the_service(world: World, ears: Ears) -> None:
    """A device enrols, consents, fetches, reports and withdraws, by way of its door."""
    initialise(world.server).database.close()
    with contextlib.closing(Http(create_app(world.server))) as service, world.node(0) as node:
        tap = Wiretap(service, ears.http)
        door = Door(
            policy=node.policies.policies.egress,
            gate=node.gate,
            ledger=node.ledger,
            journal=Journal(node.directory / "journal.db"),
        )
        device = DeviceId("n0-d0")

        def call(message: WireMessage, signer: Signer | None = None) -> tuple[int, dict[str, object]]:
            transport = HttpTransport("http://service", signer=signer, transport=tap)
            answer = door.release(message, device, transport)
            is_json = answer.body[:1] == b"{"
            return answer.status, json.loads(answer.body) if is_json else {}

        status, notice = call(DocumentRequest(document="notice"))
        assert status == 200
        key = SigningKey.generate()
        enrolment = SubjectEnrolment(public_key=key.public.x, app_id="shop", age_band=AgeBand.ADULT, jurisdiction="FR")
        status, subject = call(enrolment, Signer(key.public.x, key))
        assert status == 201
        handle = str(subject["handle"])
        me = Signer(handle, key)
        granted = ConsentChange(
            handle=handle,
            notice_digest=str(notice["digest"]),
            decisions=dict.fromkeys(Purpose, "given"),
            locale="en",
            surface="settings",
        )
        assert call(granted, me)[0] == 201
        assert call(SubjectRead(what="standing"), me)[0] == 200
        for document in ("catalogue", "placement_policy", "keys", "model", "model_arrays"):
            assert call(DocumentRequest(document=document))[0] in {200, 404}
        assert call(FollowUpReport(token="t" * 40, follow_up=FollowUp.CLICK))[0] >= 400
        assert call(ConsentWithdrawal(handle=handle, purposes="all"), me)[0] == 200
        assert len(ears.http) == 3 * 11


def quoting(planted: Planted) -> Callable[[str], Exception]:
    return lambda device: ValueError(f"cannot parse {planted.by_device[device]}")


def test_no_canary_leaves(world: World, planted: Planted, ears: Ears, monkeypatch: pytest.MonkeyPatch) -> None:
    federate(world, ears, rounds=2)
    use_the_service(world, ears)

    def broken_load(node: Node, device: DeviceId) -> None:
        raise ValueError(f"cannot featurise {node.vault.read(device)}")

    def broken_train(self: LocalTrainer, start: np.ndarray, loads: object) -> None:
        raise RuntimeError(f"gradient of {planted.all}")

    for target, name, broken in (
        (client.app, "load_examples", broken_load),
        (LocalTrainer, "updates", broken_train),
        (client.app, "take_part", lambda *_, **__: (_ for _ in ()).throw(KeyError(str(planted.all)))),
        (client.app, "accept_round", lambda *_: (_ for _ in ()).throw(OSError(str(planted.all)))),
        (client.app, "node_directory", lambda *_: (_ for _ in ()).throw(EgressRefused.__new__(EgressRefused))),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(target, name, broken)
            federate(world, ears)
    assert len(ears.flower) > 50
    assert len(ears.exceptions) == 5  # every broken round ended by name
    assert ears.logs
    assert ears.caught(planted.all) == {}


MASKED = {"profile": Profile.USER_DISTRIBUTED.value, "releases": RELEASES | {"feature_histogram": RELEASE}}


@pytest.mark.parametrize("world", [MASKED], indirect=True)
def test_no_canary_leaves_by_secure_aggregation(
    world: World, planted: Planted, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    federate(world, ears, rounds=2, calibrate=True, evaluate=True)
    federate(world, ears, task="histogram")
    stages = {blob for blob in ears.flower for stage in Stage if f"train.{stage.value}".encode() in blob}
    assert len(stages) >= 2 * 5 * 5  # two nodes; two trainings, calibration, evaluation, histogram; five stages
    assert not ears.exceptions
    assert ears.caught(planted.all) == {}


BROKEN: list[tuple[object, str]] = [
    (client.app, "accept_invitation"),
    (client.app, "load_examples"),
    (LocalTrainer, "deltas"),
    (client.stages, "begin"),
    (client.stages, "verify_roster"),
    (client.stages, "share"),
    (client.stages, "clip_update"),
    (client.stages, "noise_share"),
    (client.stages, "masked_share"),
    (client.stages, "confirm"),
    (client.stages, "verify_confirmations"),
    (client.stages, "reveal"),
    (Sessions, "load"),
    (Sessions, "advance"),
]


@pytest.mark.parametrize("world", [MASKED], indirect=True)
def test_no_exception_text_leaves_from_any_stage(
    world: World, planted: Planted, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own named errors and foreign ones, raised with canaries in their text from every part of every stage."""
    for target, name in BROKEN:
        for error in (ProtocolViolation, RuntimeError):

            def fail(*_: object, error: type[Exception] = error, **__: object) -> None:
                raise error(f"what the person did: {planted.all}")

            with monkeypatch.context() as patched:
                patched.setattr(target, name, fail)
                federate(world, ears)
    assert len(ears.exceptions) == 2 * len(BROKEN)  # every one of them broke its round
    assert ears.logs
    assert ears.caught(planted.all) == {}


@pytest.mark.parametrize("world", [MASKED], indirect=True)
def test_the_device_itself_holds_no_canary_in_clear(world: World, planted: Planted, ears: Ears) -> None:
    federate(world, ears)
    for name in ("vault.db", "ledger.db", "journal.db", "receipts.db", "sessions.db"):
        path = world.directory(0) / name
        assert path.exists()
        assert not canary.found_in(canary.of_database(path), planted.all), name


class Leak(Exception):
    """Raised by the leaking clients."""


def echo_in_error(world: World, planted: Planted) -> Callable[[Message, Context], Message]:
    def answer(message: Message, context: Context) -> Message:
        raise Leak(planted.all[0])

    return answer


def echo_in_config(world: World, planted: Planted) -> Callable[[Message, Context], Message]:
    return lambda message, _: Message(RecordDict({"c": ConfigRecord({"q": planted.all[1]})}), reply_to=message)


def echo_in_array(world: World, planted: Planted) -> Callable[[Message, Context], Message]:
    letters = np.frombuffer(planted.all[2].encode(), np.uint8)
    return lambda message, _: Message(
        RecordDict({"u": ArrayRecord({"update": Array(letters.astype(np.int64))})}), reply_to=message
    )


@pytest.mark.parametrize("leak", [echo_in_error, echo_in_config, echo_in_array])
def test_the_control_a_leaking_client_is_caught(
    world: World, planted: Planted, ears: Ears, leak: Callable[[World, Planted], Callable[[Message, Context], Message]]
) -> None:
    app = ClientApp()
    app.train()(leak(world, planted))
    federate(world, ears, app)
    assert "flower" in ears.caught(planted.all)


def test_the_control_other_ways_out_are_heard(world: World, planted: Planted, ears: Ears) -> None:
    words = planted.all
    logging.getLogger("client.somewhere").debug("saw %s", words[0])
    with httpx.Client(transport=Wiretap(None, ears.http)) as http:
        http.post("https://service/v1/events", json={"q": words[1]})
    state = world.server.state_dir
    initialise(world.server).database.close()
    with sqlite3.connect(state / "reticent.db") as connection:
        connection.execute("CREATE TABLE leak (x TEXT)")
        connection.execute("INSERT INTO leak VALUES (?)", (words[2],))
    ears.database += canary.of_database(state / "reticent.db")
    ears.exceptions.append(str(ValueError(words[3])).encode())
    found = ears.caught(words)
    assert set(found) == {"logs", "http", "database", "exceptions"}


@pytest.mark.parametrize("place", ["plain", "offset-1", "offset-22"])
def test_the_control_every_disguise_is_seen_through(place: str) -> None:
    word = canary.new(place)
    plain = ("x" * len(place) + word + "tail").encode()
    for blob in (
        plain,
        base64.b64encode(plain),
        base64.urlsafe_b64encode(b"\xff" + plain),
        plain.hex().encode(),
        plain.hex().upper().encode(),
        ("é" + word).encode("utf-16"),
        zlib.compress(plain),
    ):
        assert canary.found_in(canary.inflated(blob), [word]) == {word}
    assert not canary.found_in([b"nothing", word[:-1].encode()], [word])
