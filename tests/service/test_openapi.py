"""The OpenAPI document: checked in and current, complete, and true: requests of its every form get what it names."""

from __future__ import annotations

import itertools
import json
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as openapi_checks
from sqlalchemy import event

from common.taxonomy import Purpose, Role
from server.api import security
from server.api.openapi import text
from server.api.problems import catalogue
from server.api.services import build_services
from server.settings import Settings
from tests.service.http import SignedHeaders
from tests.service.test_problems import all_errors
from tests.service.world import Clock, World

CHECKED_IN: Final = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
DOCUMENT: Final[dict[str, Any]] = json.loads(CHECKED_IN.read_text("utf-8"))
EXAMPLES: Final = 15
CHECKS: Final = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
]
# Read what they can of a body, by design: see server/decisions/request.py and server/exchange.
LENIENT: Final = {"/v1/decisions", "/openrtb2/auction", "/cookie_sync"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def test_the_document_that_is_checked_in_is_current(world: World) -> None:
    current = text(world.app.openapi())
    assert CHECKED_IN.read_text("utf-8") == current, "write it anew: reticent server openapi docs/openapi.json"
    assert json.loads(current)["openapi"].startswith("3.1")


def test_every_operation_says_who_may_call_it_and_what_may_come_back() -> None:
    seen = Counter[str]()
    for method, path, operation in operations():
        roles = security.ACCESS[method, path]
        assert operation.get("x-roles", []) == sorted(role.value for role in roles)
        named = set(operation["responses"])
        assert "default" not in named, path
        assert (named >= {"401", "403", "429"}) is bool(roles), path
        schemes = {name for entry in operation.get("security", ()) for name in entry}
        assert ("device_signature" in schemes) is (Role.DEVICE in roles)
        assert ("api_key" in schemes) is bool(roles - {Role.DEVICE})
        header = any(one.get("name") == "Idempotency-Key" for one in operation.get("parameters", ()))
        writes = method == "POST" and path not in security.READING_POSTS | security.DECIDED_ANEW
        assert header is writes, path
        seen["writes"] += writes
        if method in {"POST", "PUT"}:
            assert {"400", "413", "422"} <= named, path
            body = operation.get("requestBody", {"content": {}})["content"]
            assert all(content["schema"] for content in body.values()), path
    assert seen["writes"] > 10


def test_problems_are_catalogued_in_both_languages(world: World) -> None:
    english, chinese = (catalogue(locale).problems for locale in ("en", "zh-CN"))
    assert [kind.type for kind in english] == [kind.type for kind in chinese]
    missing = [kind.meaning for kind, other in zip(english, chinese, strict=True) if kind.meaning == other.meaning]
    assert missing == []
    types = {kind.type.rpartition(":")[2] for kind in english}
    assert types >= {
        "consent-required",
        "consent-expired",
        "notice-superseded",
        "budget-exhausted",
        "minor-protected",
        "signal-opt-out",
        "request-replayed",
        "idempotency-mismatch",
        "rate-limited",
    }
    named = {kind.title for kind in english}
    assert {kind.__name__ for kind in all_errors(security.NotAllowed)} <= named
    answer = world.http.get("/v1/problems", params={"locale": "zh-CN"})
    assert answer.json()["problems"] == [kind.model_dump() for kind in chinese]


# ── every form of request ────────────────────────────────────────────────────────────────────────────────────────────


class Callers:
    """Somebody of each role, and nobody; the device consents to everything."""

    def __init__(self, world: World) -> None:
        self.world, self.device = world, world.consenting()
        self.keys = {role: world.key(role, holder=role.value) for role in Role if role is not Role.DEVICE}
        self.turn = itertools.count()

    def headers(self, method: str, path: str) -> dict[str, str]:
        """Those who may call an endpoint in turn; every eighth caller has no proof."""
        may, turn = sorted(security.ACCESS[method, path]), next(self.turn)
        if not may or turn % 8 == 7:
            return {}
        role = may[turn % len(may)]
        return self.device.headers if role is Role.DEVICE else self.keys[role]

    def look(self, headers: dict[str, str], status: int) -> None:
        """Another device where this one has been erased."""
        if status == 401 and isinstance(headers, SignedHeaders):
            self.device = self.world.consenting()


def without_sync(connection: sqlite3.Connection, _record: object) -> None:
    """Thousands of requests: none needs to outlive a power failure."""
    connection.execute("PRAGMA synchronous=OFF")


@pytest.fixture(scope="module")
def callers(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    folder = tmp_path_factory.mktemp("openapi") / "state"
    shutil.copytree(blank, folder)
    quotas = " ".join(f"{role.value}=1000000/60" for role in Role)
    clock = Clock()
    world = World(build_services(replace(Settings.at(folder), rate_limits=quotas), clock=clock), clock)
    event.listen(world.services.database.engine, "connect", without_sync)
    world.services.database.close()
    world.furnish()
    yield Callers(world)
    world.close()


def without_proofs() -> dict[str, Any]:
    """The document for callers that bring their own proofs: who may call what is tested in test_access."""
    document: dict[str, Any] = json.loads(text(DOCUMENT))
    for item in document["paths"].values():
        for operation in item.values():
            operation.pop("security", None)
    return document


SCHEMA: Final = schemathesis.openapi.from_dict(without_proofs())
answered: Counter[str] = Counter()
asked: set[str] = set()


@SCHEMA.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
def test_requests_of_every_form_get_what_the_document_names(case: schemathesis.Case, callers: Callers) -> None:
    path = case.operation.path
    if isinstance(case.body, dict) and "handle" in case.body and next(callers.turn) % 2:
        case.body["handle"] = callers.device.handle
    raw = requests.Request(**case.as_transport_kwargs(base_url="http://service")).prepare()
    known = (case.method, path) in security.ACCESS
    own = callers.headers(case.method, path) if known else {}
    headers = {name: value for name, value in raw.headers.items() if name.lower() not in {"authorization", "signature"}}
    body = raw.body.encode() if isinstance(raw.body, str) else raw.body or b""
    answer = callers.world.http.request(case.method, str(raw.url), content=body, headers=own | headers)
    callers.look(own, answer.status_code)
    answered[f"{answer.status_code}"] += 1
    asked.add(case.operation.label)  # the case may have another method: that is one of the ways to be wrong
    refused_first = answer.status_code in {401, 403, 404, 412, 413}
    excluded = [openapi_checks.negative_data_rejection] if path in LENIENT or refused_first else []
    case.validate_response(answer, checks=CHECKS, excluded_checks=excluded)


@pytest.mark.parametrize(
    ("status", "kind", "body"),
    [
        (500, "application/problem+json", b"{}"),
        (418, "application/problem+json", b"{}"),
        (200, "text/plain", b"ok"),
        (200, "application/json", b'{"status": 1}'),
    ],
)
def test_an_answer_that_is_not_named_is_caught(status: int, kind: str, body: bytes) -> None:
    """The control: what the checks above must not let pass."""
    case = SCHEMA["/healthz"]["GET"].Case()
    asked = httpx.Request("GET", "http://service/healthz")

    def judge(status: int, kind: str, body: bytes) -> None:
        answer = httpx.Response(status, headers={"content-type": kind}, content=body, request=asked)
        answer.elapsed = timedelta(0)
        case.validate_response(answer, checks=CHECKS)

    judge(200, "application/json", b'{"status": "ok"}')
    with pytest.raises(FailureGroup):
        judge(status, kind, body)


def test_the_requests_were_of_every_kind() -> None:
    """Says what was asked: a run in which nothing was answered with yes would prove little."""
    if len(asked) < 20:  # of a few operations it need not hold
        pytest.skip("the requests were made by another process, but for a few")
    print(dict(sorted(answered.items())))  # noqa: T201 - how often which status came, for whoever reads the run
    assert sum(answered.values()) > 20 * len(asked)  # this process had its share of the operations
    assert answered["200"] > len(asked)
    assert answered["422"] > len(asked)
    assert Purpose.TRAIN_LOCAL.value in text(DOCUMENT)
