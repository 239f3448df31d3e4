"""OpenRTB: keys, origins, time, events and settings of the auction's door."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from typing import Any

import pytest

from common.errors import MalformedInput
from common.taxonomy import FollowUp, Role
from server.access.principal import Principal
from server.api.services import build_services
from server.settings import Settings
from tests.service.bidding import (
    bid_request,
    exchange_key,
    post,
    sell,
    sole_bid,
)
from tests.service.world import APP, Clock, World, bearer


def test_an_exchanges_key_opens_this_door_alone_and_may_stand_in_an_address(shop: World) -> None:
    key = exchange_key(shop)
    body = json.dumps(bid_request())
    for headers in ({}, {"authorization": ""}):
        assert shop.http.post(f"/openrtb2/auction?key={key}", content=body, headers=headers).status_code == 200
    assert shop.http.post("/openrtb2/auction", content=body).status_code == 401
    assert shop.http.post("/openrtb2/auction?key=wrong", content=body).status_code == 401
    backend = shop.services.access.issue(Role.APP_BACKEND, label="shop", app_id=APP).token
    refused = shop.http.post(f"/openrtb2/auction?key={backend}", content=body)
    assert (refused.status_code, refused.json()["title"]) == (403, "NotAllowed")
    assert shop.http.post("/openrtb2/auction", content=body, headers=bearer(backend)).status_code == 200
    for method, path in (("POST", "/v1/decisions"), ("POST", "/v1/consents/check"), ("POST", "/v1/api-keys/x/rotate")):
        assert shop.http.request(method, path, json={}, headers=bearer(key)).status_code == 403
    assert shop.http.post(f"/v1/decisions?key={key}", json={}).status_code == 401


def test_pages_of_other_origins_may_call_and_read(shop: World) -> None:
    origin = {"origin": "https://recipes.example"}
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    for path in ("/openrtb2/auction", "/cookie_sync"):
        preflight = shop.http.request("OPTIONS", path, headers=origin | asked)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-origin"] == origin["origin"]
        assert preflight.headers["access-control-allow-credentials"] == "true"
        assert "authorization" in preflight.headers["access-control-allow-headers"]
    answer = post(shop, bid_request())
    assert answer.headers["access-control-allow-origin"] == origin["origin"]
    assert "Origin" in answer.headers["vary"]
    refused = shop.http.post("/openrtb2/auction", content=b"{}", headers=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, origin["origin"])
    other = shop.http.get("/healthz", headers=origin)
    assert "access-control-allow-origin" not in other.headers
    assert "access-control-allow-origin" not in shop.http.request("OPTIONS", "/v1/decisions", headers=origin).headers


def test_cookie_sync_sets_nothing(shop: World) -> None:
    for body in (b"", b'{"uuid": "x", "bidders": ["reticent"], "limit": 8}', b"\xff{"):
        answer = shop.http.post("/cookie_sync", content=body, headers={"content-type": "text/plain"})
        assert (answer.status_code, answer.json()) == (200, {"status": "no_cookie", "bidder_status": []})
        assert "set-cookie" not in answer.headers


def test_late_is_no_bid(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    decide, release = shop.services.decisions.decide, threading.Event()

    def slow(*args: Any) -> Any:  # noqa: ANN401
        release.wait(30)
        return decide(*args)

    monkeypatch.setattr(shop.services.decisions, "decide", slow)
    key, began = exchange_key(shop), time.monotonic()
    answer = post(shop, bid_request(tmax=120), key)
    took = time.monotonic() - began
    release.set()
    assert (answer.status_code, answer.content) == (204, b"")
    assert took < 15  # long before the decision was there
    assert post(shop, bid_request(), key).status_code == 200  # control: in time it bids


def test_what_was_not_recorded_is_no_bid(shop: World, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = shop.services.decisions.decide

    def unrecorded(*args: Any) -> Any:  # noqa: ANN401
        answer = decide(*args)
        return answer.model_copy(update={"slots": tuple(s.model_copy(update={"tokens": None}) for s in answer.slots)})

    monkeypatch.setattr(shop.services.decisions, "decide", unrecorded)
    assert post(shop, bid_request()).status_code == 204


def test_a_view_is_confirmed_by_the_bids_own_address(own_shop: World) -> None:
    bid = sole_bid(post(own_shop, bid_request()))
    path = bid["burl"].removeprefix("http://service")
    assert path.startswith("/openrtb2/billing/")
    for _ in range(2):  # loading it again changes nothing
        answer = own_shop.http.get(path)
        assert (answer.status_code, answer.content) == (204, b"")
        assert own_shop.services.follow_ups.tally() == {"impression": 1}
    forged = path[:-3] + ("BBB" if path.endswith("AAA") else "AAA")
    assert own_shop.http.get(forged).status_code == 403
    late = sole_bid(post(own_shop, bid_request()))["burl"].removeprefix("http://service")
    own_shop.clock.advance(3_700)
    assert own_shop.http.get(late).status_code == 410
    assert "burl" not in sole_bid(post(own_shop, bid_request(test=1)))


def test_a_click_token_is_no_view(shop: World) -> None:
    answer = shop.services.decisions.decide(_plain_request(), Principal(Role.EXCHANGE))
    tokens = answer.slots[0].tokens
    assert tokens is not None
    assert shop.http.get(f"/openrtb2/billing/{tokens[FollowUp.CLICK]}").status_code == 403


def _plain_request() -> Any:  # noqa: ANN401
    from server.decisions.request import read_request

    return read_request(b'{"slots": [{"slot_id": "top"}]}')


def test_behind_a_proxy_addresses_are_the_public_ones(settings: Settings) -> None:
    clock = Clock()
    world = World(build_services(replace(settings, public_url="https://ads.example/"), clock=clock), clock)
    world.furnish()
    sell(world)
    assert sole_bid(post(world, bid_request()))["burl"].startswith("https://ads.example/openrtb2/billing/")
    world.close()


def test_settings_of_prices() -> None:
    found = Settings.from_env({"RETICENT_CURRENCY": "CNY", "RETICENT_EXCHANGE_RESPONSES_PER_MILLE": "2.5"})
    assert (found.currency, found.exchange_responses_per_mille) == ("CNY", 2.5)
    for wrong in (
        {"RETICENT_CURRENCY": "dollars"},
        {"RETICENT_EXCHANGE_RESPONSES_PER_MILLE": "0"},
        {"RETICENT_EXCHANGE_RESPONSES_PER_MILLE": "nan"},
        {"RETICENT_EXCHANGE_RESPONSES_PER_MILLE": "many"},
    ):
        with pytest.raises(MalformedInput):
            Settings.from_env(wrong)
