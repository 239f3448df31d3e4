"""OpenRTB: bids by the one engine, consent from both places, no bid as 204, and nothing of a person read."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from common.errors import MalformedInput
from common.taxonomy import FollowUp, Role
from server.access.principal import Principal
from server.api.services import build_services
from server.exchange.blocking import advertiser_is_blocked, category_is_blocked, codes
from server.settings import Settings
from tests.service.bidding import (
    GRANTED,
    REFUSED,
    RULES,
    VECTORS_NOW,
    bid_request,
    creatives,
    exchange_key,
    imp,
    post,
    sell,
    sole_bid,
    summary,
)
from tests.service.conftest import UNHURRIED
from tests.service.world import APP, Clock, World, bearer


@pytest.fixture(scope="module")
def shop(stocked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With a model, and a catalogue that is paid for. Shared: nobody changes what is in force here."""
    folder, clock = tmp_path_factory.mktemp("shop") / "state", Clock()
    shutil.copytree(stocked, folder)
    settings = replace(Settings.at(folder), rate_limits=UNHURRIED)
    world = World(build_services(settings, clock=clock), clock)
    sell(world)
    yield world
    world.close()


@pytest.fixture
def own_shop(furnished: World) -> World:
    """The same for one test alone."""
    sell(furnished)
    return furnished


@pytest.fixture
def listening(settings: Settings) -> Iterator[World]:
    """An installation that has a vendor id, on a day when the vectors' TC strings are fresh."""
    clock = Clock(VECTORS_NOW + 3600)
    world = World(build_services(replace(settings, signals=RULES), clock=clock), clock)
    world.furnish()
    sell(world)
    yield world
    world.close()


def test_a_bid_has_what_an_exchange_needs(shop: World) -> None:
    answer = post(shop, bid_request())
    bid = sole_bid(answer)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-openrtb-version"] == "2.6"
    found = answer.json()
    assert (found["id"], found["cur"], found["seatbid"][0]["seat"]) == ("b7a1-5c", "USD", "reticent")
    assert (bid["impid"], bid["price"], bid["mtype"], bid["w"], bid["h"]) == ("div-top", 2.5, 1, 300, 250)
    chosen = next(c for c in creatives() if c.creative_id == bid["crid"])
    assert bid["adomain"] == [chosen.landing_url.split("/")[2].removeprefix("www.")]
    assert bid["ext"]["prebid"]["type"] == "banner"
    assert (bid["ext"]["dsa"]["behalf"], bid["ext"]["dsa"]["paid"]) == (chosen.advertiser, chosen.payer)
    assert chosen.label["en"] in bid["adm"]
    assert "reticent-ad-close" in bid["adm"]
    assert summary(answer)["reason"] == "consent-required"
    assert "null" not in answer.text


def test_the_price_comes_from_the_offer_alone(own_shop: World) -> None:
    """The same price whatever the score: on different pages, for every creative with the same offer."""
    prices = {sole_bid(post(own_shop, bid_request(imp=[imp(f"div-{i}")], id=f"r{i}")))["price"] for i in range(8)}
    assert prices == {2.5}
    sell(own_shop, *creatives(bid_micros=1_000_000))
    assert sole_bid(post(own_shop, bid_request()))["price"] == 10.0


@pytest.mark.parametrize(
    "request_",
    [
        bid_request(cur=["JPY"]),
        bid_request(imp=[imp(bidfloor=2.6)]),
        bid_request(imp=[imp(bidfloor=0.01, bidfloorcur="EUR")]),
        bid_request(imp=[imp(bidfloor=-1)]),
        bid_request(imp=[imp(bidfloor="1")]),
        bid_request(imp=[{"id": "v", "video": {"mimes": ["video/mp4"]}}]),
        bid_request(imp=[imp(native={"request": json.dumps({"assets": [{"id": 1, "required": 1, "video": {}}]})})]),
        bid_request(bcat=["IAB8"], badv=["example.com"]) | {"bcat": ["snacks"]},
        bid_request(tmax=5),
    ],
    ids=["currency", "floor", "other currency", "negative", "text", "video", "asset", "category", "tmax"],
)
def test_no_bid_is_204_and_empty(shop: World, request_: dict[str, Any]) -> None:
    answer = post(shop, request_)
    assert (answer.status_code, answer.content) == (204, b"")


def test_nothing_offered_or_nothing_there_is_no_bid(world: World, furnished: World) -> None:
    assert post(furnished, bid_request()).status_code == 204  # its creatives have no bid
    sell(furnished)
    assert post(furnished, bid_request(imp=[imp(bidfloor=2.5)])).status_code == 200  # control: the floor is reached
    assert post(furnished, bid_request(cur=["EUR", "USD"])).status_code == 200


def test_an_empty_installation_does_not_bid(world: World) -> None:
    assert post(world, bid_request()).status_code == 204


def test_several_impressions_get_different_ads(shop: World) -> None:
    wanted = [
        imp("/1234/home top"),
        imp("b", ext={"prebid": {"bidder": {"alias-7": {}}}}),
        imp("c"),
        {"id": "v", "video": {}},
    ]
    answer = post(shop, bid_request(imp=wanted))
    seats = {seat["seat"]: seat["bid"] for seat in answer.json()["seatbid"]}
    assert set(seats) == {"reticent", "alias-7"}
    bids = [bid for listed in seats.values() for bid in listed]
    assert {bid["impid"] for bid in bids} == {"/1234/home top", "b", "c"}
    assert len({bid["crid"] for bid in bids}) == 3


def test_native_assets(shop: World) -> None:
    assets = [
        {"id": 1, "required": 1, "title": {"len": 12}},
        {"id": 2, "required": 1, "data": {"type": 1}},
        {"id": 3, "data": {"type": 2, "len": 90}},
        {"id": 4, "img": {"type": 3, "w": 300}},
        {"id": 5, "data": {"type": 999}},
    ]
    for request in ({"ver": "1.2", "assets": assets}, {"native": {"assets": assets}}):
        bid = sole_bid(post(shop, bid_request(imp=[imp(native={"request": json.dumps(request), "ver": "1.2"})])))
        found = json.loads(bid["adm"])
        assert bid["mtype"] == 4
        by_id = {asset["id"]: asset for asset in found["assets"]}
        assert set(by_id) == {1, 2, 3}  # the picture is drawn by us and has no address of its own
        assert len(by_id[1]["title"]["text"]) <= 12
        assert by_id[2]["data"]["value"].startswith("Ad")
        assert found["link"]["url"].startswith("http")


# ── what a page refuses ──────────────────────────────────────────────────────────────────────────────────────────────


def test_blocked_advertisers_and_categories() -> None:
    (plain,) = creatives(1)
    host = plain.landing_url.split("/")[2]
    parent = host.split(".", 1)[1]
    for blocked in (host, host.upper(), f"www.{host}", parent, plain.advertiser):
        assert advertiser_is_blocked(plain, [blocked]), blocked
    for free in (f"x{host}", "", host[1:], f"{host}.evil.example"):
        assert not advertiser_is_blocked(plain, [free]), free
    beer = plain.model_copy(update={"category": "BEERS/ALES"})
    coded = plain.model_copy(update={"attributes": {"iab": "IAB8-5 IAB22-1"}})
    assert codes(beer) == {"IAB8-5"}
    for creative in (beer, coded):
        assert category_is_blocked(creative, ["IAB8-5"])
        assert category_is_blocked(creative, ["IAB26", "IAB8"])
        assert not category_is_blocked(creative, ["IAB8-51", "IAB", "IAB80"])
    assert not category_is_blocked(plain, ["IAB8", "IAB23"])


def shown(answer: httpx.Response) -> set[str]:
    return {bid["crid"] for seat in answer.json()["seatbid"] for bid in seat["bid"]}


def test_what_is_blocked_is_not_shown_and_the_rest_is(own_shop: World) -> None:
    mixed = [
        creative.model_copy(update={"category": "BEERS/ALES"}) if index % 2 else creative
        for index, creative in enumerate(creatives())
    ]
    sell(own_shop, *mixed)
    beers = {creative.creative_id for creative in mixed if creative.category == "BEERS/ALES"}
    many = bid_request(imp=[imp(f"div-{i}") for i in range(8)])
    free, seen = shown(post(own_shop, many)), shown(post(own_shop, many | {"bcat": ["IAB8-5"]}))
    assert beers <= free  # the control: without the page's word they are shown
    assert seen == free - beers


# ── consent ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def with_handle(handle: str, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    user = {"ext": {"reticent": {"handle": handle}} | more.pop("user_ext", {})} | more.pop("user", {})
    return bid_request(user=user, **more)


OBJECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "refused in 2.5's place": ({"regs": {"ext": {"gdpr": 1}}, "user_ext": {"consent": REFUSED}}, "signal-opt-out"),
    "refused in 2.6's place": ({"regs": {"gdpr": 1}, "user": {"consent": REFUSED}}, "signal-opt-out"),
    "refused though gdpr is 0": ({"regs": {"gdpr": 0}, "user": {"consent": REFUSED}}, "signal-opt-out"),
    "the law applies and nobody asked": ({"regs": {"gdpr": 1}}, "signal-opt-out"),
    "cut off": ({"regs": {"gdpr": 1}, "user": {"consent": GRANTED[:20]}}, "signal-opt-out"),
    "two strings": ({"user": {"consent": GRANTED}, "user_ext": {"consent": REFUSED}}, "malformed"),
    "gdpr yes and no": ({"regs": {"gdpr": 0, "ext": {"gdpr": 1}}, "user": {"consent": GRANTED}}, "malformed"),
    "gdpr is no number": ({"regs": {"gdpr": "yes"}, "user": {"consent": GRANTED}}, "malformed"),
    "consent is no text": ({"user": {"consent": 7}}, "malformed"),
    "regs is no object": ({"regs": [1]}, "malformed"),
    "gpc in ext": ({"regs": {"ext": {"gpc": "1"}}}, "signal-opt-out"),
    "gpc as a number": ({"regs": {"gpc": 1}}, "signal-opt-out"),
    "gpc unreadable": ({"regs": {"ext": {"gpc": "maybe"}}}, "malformed"),
    "us privacy": ({"regs": {"ext": {"us_privacy": "1YYN"}}}, "signal-opt-out"),
    "us privacy, two": ({"regs": {"us_privacy": "1YNN", "ext": {"us_privacy": "1YYN"}}}, "malformed"),
    "gpp unreadable": ({"regs": {"gpp": "nonsense"}}, "signal-opt-out"),
    "a child": ({"regs": {"coppa": 1}}, "minor-protected"),
    "a child in ext": ({"regs": {"ext": {"coppa": True}}}, "minor-protected"),
    "limited tracking": ({"device": {"lmt": 1}}, "signal-opt-out"),
    "do not track": ({"device": {"dnt": 1}}, "signal-opt-out"),
}


def test_a_live_grant_and_every_way_of_losing_it(listening: World) -> None:
    device, key = listening.consenting(), exchange_key(listening)
    granted: dict[str, dict[str, Any]] = {
        "no signal": {},
        "2.5's place": {"regs": {"ext": {"gdpr": 1}}, "user_ext": {"consent": GRANTED}},
        "2.6's place": {"regs": {"gdpr": 1}, "user": {"consent": GRANTED}},
        "both agree": {
            "regs": {"gdpr": 1, "ext": {"gdpr": 1}},
            "user": {"consent": GRANTED},
            "user_ext": {"consent": GRANTED},
        },
        "not opted out": {
            "regs": {"coppa": 0, "ext": {"gpc": "0", "us_privacy": "1YNN"}},
            "device": {"dnt": 0, "lmt": 0},
        },
    }
    for name, more in granted.items():
        found = summary(post(listening, with_handle(device.handle, **more), key))
        assert (found["mode"], found.get("reason")) == ("on_device", None), name
        assert found["permit"]
    for name, (more, reason) in OBJECTIONS.items():
        answer = post(listening, with_handle(device.handle, **dict(more)), key)
        found = summary(answer)
        assert (found["mode"], found["reason"], "permit" in found) == ("contextual", reason, False), name
        assert sole_bid(answer)["adm"]  # an ad by the page alone is always possible
    header = post(listening, with_handle(device.handle), key, **{"sec-gpc": "1"})
    assert (summary(header)["reason"], summary(header)["privacy_signal"]["gpc"]) == ("signal-opt-out", True)
    listening.withdraw(device)
    assert summary(post(listening, with_handle(device.handle), key))["reason"] == "consent-withdrawn"


def test_a_bid_in_mode_on_device_carries_no_token(listening: World) -> None:
    """Its burl would tell what the device chose."""
    device = listening.consenting()
    bid = sole_bid(post(listening, with_handle(device.handle)))
    assert "burl" not in bid
    assert "/c/" not in bid["adm"]


def test_only_a_key_of_the_persons_own_app_speaks_for_them(listening: World) -> None:
    device = listening.consenting()
    body = with_handle(device.handle)
    assert summary(post(listening, body, exchange_key(listening, APP)))["mode"] == "on_device"
    assert summary(post(listening, body, exchange_key(listening, None)))["reason"] == "consent-required"
    assert summary(post(listening, body, exchange_key(listening, "other")))["reason"] == "unknown-subject"
    backend = listening.services.access.issue(Role.APP_BACKEND, label="shop").token
    assert summary(post(listening, body, backend))["mode"] == "on_device"


def test_names_that_occur_twice_are_not_read(shop: World) -> None:
    """Two readers of such a text could hear two different things."""
    plain = json.dumps(bid_request())
    twice = plain[:-1] + ', "regs": {"gdpr": 0, "gdpr": 1}}'
    assert post(shop, (plain[:-1] + ', "regs": {"gdpr": 0}}').encode()).status_code == 200
    assert post(shop, twice.encode()).status_code == 400


def test_nothing_of_the_person_or_the_page_is_kept(shop: World) -> None:
    post(shop, bid_request())
    with shop.services.database.read() as session:
        tables = [row[0] for row in session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))]
        kept = str([session.execute(text(f'SELECT * FROM "{table}"')).all() for table in tables])  # noqa: S608
    assert "div-top" in kept  # the slot, which the decision is about
    for told in ("who=ana", "somebody-7", "eid-uid-7", "203.0.113.7", "Mozilla", "publisher-7", "recipes.example"):
        assert told not in kept


# ── keys, origins, time, events ──────────────────────────────────────────────────────────────────────────────────────


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
    assert own_shop.http.get(path[:-3] + "AAA").status_code == 403
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
