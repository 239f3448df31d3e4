"""Retries, deadlines and the reading of answers, without a socket and without a clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from reticent_client import AsyncClient, Client, Patience, Problem, Signals, Slot, UnexpectedAnswer, Unreachable
from reticent_client.calls import check
from reticent_client.flow import flow

DECISION: dict[str, Any] = {
    "decision_id": "dec_1",
    "mode": "contextual",
    "slots": [],
    "permit": None,
    "candidates": None,
    "policy_version": 1,
    "policy_digest": "0" * 64,
    "model_version": None,
    "catalogue_version": 3,
    "privacy_signal": {"gpc": False, "honoured": False, "signals": [], "added_later": 1},
    "added_later": {"x": 1},
}
RECEIPTS = {
    "receipts": [{"receipt_id": "r", "purpose": "train.local", "state": "given", "valid_until": 9, "receipt": "j"}]
}
NOTICE = {"digest": "0" * 64, "version": 1, "locale": "en", "title": "t", "text": "x"}
Step = Callable[[httpx.Request], httpx.Response]


def problem(status: int, title: str, headers: dict[str, str] | None = None) -> Step:
    told = {"content-type": "application/problem+json"} | (headers or {})
    body = {"type": f"urn:{title}", "title": title, "status": status, "detail": "Because."}
    return lambda request: httpx.Response(status, json=body, headers=told)


def answered(body: object, status: int = 200) -> Step:
    return lambda request: httpx.Response(status, json=body)


def refused(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no", request=request)


def broken(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("gone", request=request)


class Double:
    """A service that goes through steps, and the clock and patience of who asks."""

    def __init__(self, *steps: Step) -> None:
        self.steps, self.requests, self.waits, self.now = list(steps), list[httpx.Request](), list[float](), 0.0

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.now += 0.01
        return self.steps.pop(0)(request)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def wait(self, seconds: float) -> None:
        self.sleep(seconds)

    def client(self, patience: Patience = Patience()) -> Client:  # noqa: B008 - frozen
        return Client(
            "https://ads.example/",
            api_key="rtk_x",
            transport=httpx.MockTransport(self),
            sleep=self.sleep,
            clock=lambda: self.now,
            patience=patience,
        )

    def asynchronous(self) -> AsyncClient:
        return AsyncClient(
            "https://ads.example",
            api_key="rtk_x",
            transport=httpx.MockTransport(self),
            sleep=self.wait,
            clock=lambda: self.now,
        )


def test_a_decision_and_what_is_sent() -> None:
    double = Double(answered(DECISION))
    found = double.client().decide([Slot("top", 2)], context={"page": "home"}, tmax_ms=100)
    assert (found.decision_id, found.catalogue_version, found.shown, found.unanswered) == ("dec_1", 3, (), None)
    (request,) = double.requests
    assert (request.url.path, request.headers["authorization"]) == ("/v1/decisions", "Bearer rtk_x")
    assert "idempotency-key" not in request.headers
    body = json.loads(request.content)
    assert body["slots"] == [{"slot_id": "top", "count": 2}]
    assert body["tmax"] == 80
    assert "handle" not in body


def test_a_decision_is_tried_again_only_if_it_never_left_and_there_is_time() -> None:
    double = Double(refused, answered(DECISION))
    assert double.client().decide([Slot("top")], tmax_ms=1_000).unanswered is None
    double = Double(broken, answered(DECISION))
    assert double.client().decide([Slot("top")], tmax_ms=1_000).unanswered == "unreachable"
    assert len(double.requests) == 1
    double = Double(refused, answered(DECISION))
    assert double.client().decide([Slot("top")], tmax_ms=50).unanswered == "unreachable"
    assert double.now < 0.05


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_page_does_not_fail_for_an_ad(status: int) -> None:
    found = Double(problem(status, "Busy")).client().decide([Slot("top")])
    assert (found.unanswered, found.shown, found.of("top")) == ("unavailable", (), ())


@pytest.mark.parametrize(
    ("status", "title"), [(401, "NotAuthenticated"), (422, "InvalidRequest"), (400, "MalformedInput")]
)
def test_a_mistake_of_the_caller_is_an_error(status: int, title: str) -> None:
    with pytest.raises(Problem) as caught:
        Double(problem(status, title)).client().decide([Slot("top")])
    assert (caught.value.status, caught.value.name, caught.value.detail) == (status, title, "Because.")
    assert "rtk_x" not in str(caught.value) + repr(caught.value)


def test_writing_is_tried_again_with_the_same_key() -> None:
    busy = problem(503, "StorageUnavailable", headers={"retry-after": "1"})
    double = Double(answered(NOTICE), busy, broken, problem(409, "RequestInFlight"), answered(RECEIPTS, 201))
    client = double.client()
    changed = client.record("h" * 22, {"train.local": "given"}, notice=client.notice(), surface="page")
    assert changed.receipts[0].state == "given"
    keys = {request.headers.get("idempotency-key") for request in double.requests[1:]}
    assert len(double.requests) == 5
    assert len(keys) == 1
    assert len(keys.pop() or "") >= 16
    assert double.waits[0] == 1.0  # as long as the service asked for
    assert 0.1 < double.waits[1] < double.waits[2]


def test_another_write_gets_another_key() -> None:
    double = Double(*[answered({"follow_up": "click"}, 202)] * 2)
    client = double.client()
    assert client.confirm("a", "click").fresh
    assert client.confirm("b", "click").fresh
    assert len({request.headers["idempotency-key"] for request in double.requests}) == 2


def test_patience_ends() -> None:
    double = Double(*[broken] * 9)
    with pytest.raises(Unreachable):
        double.client(patience=Patience(tries=3)).check("h" * 22, [])
    assert len(double.requests) == 3
    double = Double(*[problem(429, "RateLimited", headers={"retry-after": "60"})] * 9)
    with pytest.raises(Problem) as caught:
        double.client().check("h" * 22, [])
    assert (len(double.requests), double.waits, caught.value.retry_after_s) == (1, [], 60.0)


def test_a_follow_up_that_was_counted_is_no_error() -> None:
    found = Double(problem(409, "TokenReplayed")).client().confirm("t", "impression")
    assert (found.follow_up, found.fresh) == ("impression", False)
    for status, title in ((403, "TokenForged"), (410, "TokenLate"), (409, "TokenOutOfOrder")):
        with pytest.raises(Problem, match=title):
            Double(problem(status, title)).client().confirm("t", "impression")


@pytest.mark.parametrize(
    "body",
    [
        {**DECISION, "mode": 7},
        {name: value for name, value in DECISION.items() if name != "slots"},
        {**DECISION, "slots": {}},
        {**DECISION, "policy_version": True},
        {**DECISION, "slots": [{"slot_id": "a"}]},
        [],
    ],
)
def test_an_answer_of_another_form_is_refused(body: object) -> None:
    with pytest.raises(UnexpectedAnswer):
        Double(answered(body)).client().decide([Slot("top")])


@pytest.mark.parametrize("content", [b"<html>", b"", b"[" * 99_999, b"\xff"])
def test_no_json_is_refused(content: bytes) -> None:
    with pytest.raises(UnexpectedAnswer):
        Double(lambda request: httpx.Response(200, content=content)).client().notice()
    with pytest.raises(UnexpectedAnswer):
        Double(lambda request: httpx.Response(404, content=content)).client().notice()


def test_redirects_are_not_followed() -> None:
    """A key must not go where an answer points to."""
    double = Double(lambda request: httpx.Response(307, headers={"location": "https://evil.example/"}))
    with pytest.raises(UnexpectedAnswer):
        double.client().notice()
    assert len(double.requests) == 1


def test_nothing_secret_is_in_a_repr() -> None:
    client = Double().client()
    assert "rtk_x" not in repr(client)
    assert "rtk_x" not in repr(Double().asynchronous())
    call = check("handle-7", [], Signals(tcf="Cxyz"))
    told = repr(call) + repr(next(flow(call, api_key="rtk_x", began=0, patience=Patience())))
    assert not [secret for secret in ("rtk_x", "Cxyz", "handle-7") if secret in told]


def test_a_client_needs_an_address_and_a_key() -> None:
    for base, key in (("ads.example", "k"), ("https://ads.example", ""), ("file:///etc", "k")):
        with pytest.raises(ValueError, match="address"):
            Client(base, api_key=key)


def test_the_asynchronous_client_does_the_same() -> None:
    async def run() -> None:
        double = Double(
            refused,
            answered(DECISION),
            broken,
            answered({"purposes": {}}),
            problem(409, "TokenReplayed"),
            answered(NOTICE),
        )
        async with double.asynchronous() as client:
            assert (await client.decide([Slot("top")], tmax_ms=1_000)).decision_id == "dec_1"
            assert not (await client.check("h" * 22, ["train.local"])).permits("train.local")
            assert not (await client.confirm("t", "click")).fresh
            assert (await client.notice()).version == 1
        assert len(double.requests) == 6

    asyncio.run(run())


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")} - {"close", "aclose"}

    assert public(Client) == public(AsyncClient)
