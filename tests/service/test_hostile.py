"""Hostile input at every endpoint that takes any: an error that says what is wrong and repeats nothing; nothing lost.

What a rendered creative does with markup is tested in a real browser (tests/desk, tests/exchange); tokens that are
forged, swapped, replayed or late in test_events.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from sqlalchemy import text

from common.taxonomy import Role
from server.api import security
from server.api.frame import BODY_BYTES_MAX, BODY_BYTES_MAX_OF
from server.api.services import build_services
from server.decisions.request import DecisionBody
from server.settings import Settings
from tests.service.bidding import bid_request, creatives, imp, sell
from tests.service.callers import concrete
from tests.service.conftest import UNHURRIED
from tests.service.world import Clock, World

SECRET: Final = "xyzzy-7-secret"
WRITING: Final = sorted(end for end in security.ACCESS if end[0] in {"POST", "PUT", "PATCH", "DELETE"})
READING: Final = sorted(end for end in security.ACCESS if end[0] == "GET")
GARBAGE: Final[dict[str, bytes]] = {
    "empty": b"",
    "no JSON": b"{" + SECRET.encode(),
    "deep list": b"[" * 30_000,
    "deep object": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "invalid UTF-8": b'{"slots": "\xff\xfe\x80"}',
    "UTF-16": '{"slots": []}'.encode("utf-16"),
    "NUL": b'{"slots": [{"slot_id": "a\x00b"}]}',
    "half a pair": b'{"handle": "\\ud800\\ud800", "id": "\\ud800", "slots": [{"slot_id": "\\udfff"}]}',
    "huge number": b'{"slots": [{"slot_id": "a", "count": 1' + b"0" * 5_000 + b"}]}",
    "no number": b'{"slots": [{"slot_id": "a", "count": NaN}], "tmax": -Infinity}',
    "exponent": b'{"slots": [{"slot_id": "a", "count": 1e999}], "bid_micros": -1e999}',
    "list": b'["' + SECRET.encode() + b'"]',
    "text": b'"' + SECRET.encode() + b'"',
    "unknown field": json.dumps({SECRET: SECRET, "__proto__": {"x": 1}, "constructor": 1}).encode(),
    "many fields": json.dumps({f"field-{i}": i for i in range(3_000)}).encode(),
}


@pytest.fixture(scope="module")
def world(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder, clock = tmp_path_factory.mktemp("hostile") / "state", Clock()
    shutil.copytree(blank, folder)
    services = build_services(replace(Settings.at(folder), rate_limits=UNHURRIED), clock=clock)
    world = World(services, clock)
    world.furnish()
    sell(world)
    yield world
    world.close()


class Callers:
    """Somebody of each role."""

    def __init__(self, world: World) -> None:
        self.world, self.device = world, world.consenting()
        self.keys = {role: world.key(role, holder=role.value) for role in Role if role is not Role.DEVICE}

    def headers(self, endpoint: tuple[str, str]) -> dict[str, str]:
        """The first who may call an endpoint; keys are cheaper than signatures."""
        may = sorted(security.ACCESS[endpoint], key=lambda role: role is Role.DEVICE)
        if not may:
            return {}
        return self.device.headers if may[0] is Role.DEVICE else self.keys[may[0]]


@pytest.fixture(scope="module")
def callers(world: World) -> Callers:
    return Callers(world)


def judged(answer: httpx.Response, what: object) -> int:
    """An answer to hostile input: no fault of ours; where it is an error it is a problem, and repeats nothing."""
    assert answer.status_code < 500, (what, answer.text[:300])
    assert SECRET not in answer.text, what
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json", what
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["title"], what
        assert problem["detail"], what
        assert len(answer.content) < 20_000, what
    return answer.status_code


def standing(world: World) -> dict[str, int]:
    """Rows by table."""
    with world.services.database.read() as session:
        names = [row[0] for row in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))]
        return {
            name: int(session.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one())  # noqa: S608 - our own names
            for name in names
        }


@pytest.mark.parametrize("kind", GARBAGE)
def test_garbage_at_every_endpoint_that_writes(world: World, callers: Callers, kind: str) -> None:
    seen = Counter[int]()
    for method, path in WRITING:
        answer = world.http.request(
            method, concrete(path), content=GARBAGE[kind], headers=callers.headers((method, path))
        )
        seen[judged(answer, (method, path, kind))] += 1
    assert sum(seen.values()) == len(WRITING)
    assert seen[400] + seen[422] > len(WRITING) / 2, seen


def test_too_long_is_said_before_it_is_read(world: World, callers: Callers) -> None:
    paths = world.app.openapi()["paths"]
    for method, path in WRITING[::2]:
        limit = BODY_BYTES_MAX_OF.get(concrete(path), BODY_BYTES_MAX)
        headers = callers.headers((method, path))
        declared = {"content-length": str(limit + 1), "content-type": "application/json"}
        answer = world.http.request(method, concrete(path), content=b" " * (limit + 1), headers=headers | declared)
        reads_a_body = path != "/cookie_sync" and "requestBody" in paths[path][method.lower()]
        assert (judged(answer, path) == 413) is reads_a_body, (method, path, answer.status_code)


POINTS: Final = (
    "%00",
    "%FF%FE",
    "..%2F..%2Fetc%2Fpasswd",
    "x" * 5_000,
    "%F0%9F%98%80",
    "'%22%3Cscript%3E",
    "-1",
    "9" * 400,
)

QUERIES: Final = ("cursor=%00&limit=-1", "limit=" + "9" * 400, "cursor=" + "x" * 5_000 + "&locale=%FF&from=1e999")


def test_hostile_paths_and_queries(world: World, callers: Callers) -> None:
    """Each endpoint gets some of them in turn; over all endpoints that is each of them many times."""
    seen, turn = Counter[int](), itertools.count()
    for method, path in [end for end in READING + WRITING if "{" in end[1]]:
        for _ in range(2):
            point = POINTS[next(turn) % len(POINTS)]
            where = re.sub(r"\{\w+(?::\w+)?\}", lambda _found, point=point: point, path)
            headers, content = callers.headers((method, path)), None if method in {"GET", "DELETE"} else b"{}"
            answer = world.http.request(method, where, content=content, headers=headers)
            seen[judged(answer, (method, path, point))] += 1
            assert "location" not in answer.headers or answer.headers["location"].startswith("/"), (path, point)
    assert seen.keys() - {200} >= {404}
    for method, path in READING:
        query = QUERIES[next(turn) % len(QUERIES)]
        judged(world.http.request(method, f"{concrete(path)}?{query}", headers=callers.headers((method, path))), path)


SLOTS: Final = {
    "a hundred thousand": [{"slot_id": f"s{i}"} for i in range(100_000)],
    "as many as fit": [{"slot_id": f"s{i}"} for i in range(2_000)],
    "a billion positions": [{"slot_id": "s", "count": 10**9}],
    "none of them": [{"slot_id": "s", "count": 0}],
    "fewer than none": [{"slot_id": "s", "count": -5}],
    "half of one": [{"slot_id": "s", "count": 0.5}],
    "nested": [[[{"slot_id": "s"}]]],
    "markup": [{"slot_id": "<svg onload=alert(1)>"}],
    "NUL": [{"slot_id": "a\x00"}],
    "the same twice": [{"slot_id": "s"}, {"slot_id": "s"}],
    "null": None,
}


@pytest.mark.parametrize("kind", SLOTS)
def test_slots_that_cannot_be_filled(world: World, callers: Callers, kind: str) -> None:
    before = standing(world)
    body = json.dumps({"slots": SLOTS[kind]}).encode()
    answer = world.http.post("/v1/decisions", content=body, headers=callers.keys[Role.APP_BACKEND])
    assert judged(answer, kind) == (413 if len(body) > BODY_BYTES_MAX else 422)
    assert standing(world) == before


IMPS: Final[dict[str, tuple[dict[str, Any], int]]] = {
    "a hundred thousand": ({"imp": [{"id": str(i), "banner": {}} for i in range(100_000)]}, 413),
    "as many as fit": ({"imp": [{"id": str(i), "banner": {}} for i in range(5_000)]}, 400),
    "none": ({"imp": []}, 400),
    "no list": ({"imp": {"0": imp()}}, 400),
    "no objects": ({"imp": ["a"]}, 400),
    "the same twice": ({"imp": [imp("a"), imp("a")]}, 400),
    "no id": ({"imp": [{"banner": {}}]}, 400),
    "an id with NUL": ({"imp": [imp("a\x00")]}, 400),
    "half a pair": ({"imp": [imp("\ud800")]}, 400),
    "a long id": ({"imp": [imp("x" * 129)]}, 400),
    "no request id": ({"id": None}, 400),
    "a request id with NUL": ({"id": "a\x00b"}, 400),
    "categories without end": ({"bcat": ["IAB1"] * 3_000}, 400),
    "categories of another kind": ({"bcat": [1]}, 400),
    "domains that are none": ({"badv": "evil.example"}, 400),
    "a negative floor": ({"imp": [imp(bidfloor=-1)]}, 204),
    "a floor without end": ({"imp": [imp(bidfloor=10**400)]}, 204),
    "a floor of text": ({"imp": [imp(bidfloor="0")]}, 204),
    "time that runs backwards": ({"tmax": -5}, 200),
    "a huge size": ({"imp": [imp(banner={"w": 10**30, "h": -1, "format": [{"w": "a"}, 7]})]}, 200),
    "native, not JSON": ({"imp": [imp(native={"request": "{" + SECRET})]}, 204),
    "native, deep": ({"imp": [imp(native={"request": "[" * 9_000})]}, 204),
    "native, many assets": ({"imp": [imp(native={"request": {"assets": [{"id": i} for i in range(40)]}})]}, 204),
    "regs of another kind": ({"regs": [[]], "user": "x", "device": 7, "site": [1], "ext": None}, 200),
    "context without end": ({"site": {"ext": {"reticent": {"context": {f"k{i}": i for i in range(900)}}}}}, 200),
    "a consent string without end": ({"user": {"consent": "C" * 100_000}}, 200),
    "a handle of another kind": ({"user": {"ext": {"reticent": {"handle": ["x"]}}}}, 200),
}


@pytest.mark.parametrize("kind", IMPS)
def test_bid_requests_that_are_none(world: World, callers: Callers, kind: str) -> None:
    more, expected = IMPS[kind]
    answer = world.http.post(
        "/openrtb2/auction",
        content=json.dumps(bid_request(**more)).encode(),
        headers=callers.keys[Role.EXCHANGE] | {"content-type": "text/plain"},
    )
    assert judged(answer, kind) == expected


OTHERS: Final = ({}, [], [[]], {"a": {}}, 7, -1, 0.5, True, "", "x" * 3_000, 10**400, "\x00", "\ud800")


def test_every_field_of_another_kind(world: World, callers: Callers) -> None:
    """What is beside the slots is never an error: what cannot be understood is not used."""
    plain: dict[str, object] = {"slots": [{"slot_id": "top"}]}
    for name in sorted({*DecisionBody.model_fields, "pick", "kind"} - {"slots"}):
        for value in OTHERS:
            body = json.dumps(plain | {name: value}).encode()
            answer = world.http.post("/v1/decisions", content=body, headers=callers.keys[Role.APP_BACKEND])
            assert judged(answer, (name, value)) == 200
    for name in ("regs", "user", "device", "site", "app", "tmax", "test", "ext", "at", "source"):
        for value in OTHERS:
            body = json.dumps(bid_request(**{name: value})).encode()
            answer = world.http.post("/openrtb2/auction", content=body, headers=callers.keys[Role.EXCHANGE])
            assert judged(answer, (name, value)) in {200, 204}, (name, value)


def test_a_request_id_comes_back_as_data(world: World, callers: Callers) -> None:
    """The one thing that an exchange wants repeated: as JSON, never as anything that a browser would draw."""
    name = "</script><svg onload=alert(1)>"
    answer = world.http.post("/openrtb2/auction", json=bid_request(id=name), headers=callers.keys[Role.EXCHANGE])
    assert answer.json()["id"] == name
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_markup_in_a_creative_is_escaped_in_a_bid(world: World, callers: Callers) -> None:
    evil = '"><img src=x onerror=alert(1)><script>alert(2)</script><svg/onload=alert(3)>'
    texts = {"en": evil, "zh-CN": evil}
    before = world.services.catalogues.opened()
    assert before is not None
    sell(
        world,
        *creatives(1, title=texts, description=texts, image_alt=texts, advertiser=evil, payer=evil, category=evil),
    )
    try:
        answer = world.http.post("/openrtb2/auction", json=bid_request(), headers=callers.keys[Role.EXCHANGE])
        markup = answer.json()["seatbid"][0]["bid"][0]["adm"]
    finally:
        sell(world, *before.creatives)
    assert "onerror=alert" in markup  # it is there as text
    assert not re.search(r"<(img|svg/)", markup)
    assert "<script" not in markup


def test_nothing_is_lost_meanwhile(world: World, callers: Callers) -> None:
    """What was acknowledged before and between hostile requests is there afterwards, and can still be confirmed."""
    backend, acknowledged = callers.keys[Role.APP_BACKEND], list[str]()
    tokens: list[str] = []
    for turn, garbage in enumerate(GARBAGE.values()):
        answer = world.decide(None, backend, slots=[{"slot_id": f"kept-{turn}"}])
        acknowledged.append(answer["decision_id"])
        tokens.append(answer["slots"][0]["tokens"]["impression"])
        for path in ("/v1/decisions", "/openrtb2/auction", "/v1/events"):
            judged(world.http.post(path, content=garbage, headers=backend), path)
    with world.services.database.read() as session:
        kept = {row[0] for row in session.execute(text("SELECT decision_id FROM decision"))}
    assert set(acknowledged) <= kept
    for token in tokens:
        body = {"token": token, "follow_up": "impression"}
        assert world.http.post("/v1/events", json=body).status_code == 202
        assert world.http.post("/v1/events", json=body).status_code == 409
