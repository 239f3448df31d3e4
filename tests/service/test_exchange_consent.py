"""OpenRTB: consent from both places of a bid request, and nothing of a person read or kept."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from client.placement import NOTHING_OWN, Installed, choose
from common.taxonomy import Role
from common.wire.documents import open_document
from common.wire.messages import Creative, PlacementPermit
from server.api.services import build_services
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
from tests.service.world import APP, Clock, World


@pytest.fixture
def listening(settings: Settings) -> Iterator[World]:
    """An installation that has a vendor id, on a day when the vectors' TC strings are fresh."""
    clock = Clock(VECTORS_NOW + 3600)
    world = World(build_services(replace(settings, signals=RULES), clock=clock), clock)
    world.furnish()
    sell(world)
    yield world
    world.close()


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


def test_the_floor_goes_with_the_permit_and_binds_the_device_too(listening: World) -> None:
    *cheap, dear = creatives(8, bid_micros=100_000)
    sell(listening, *cheap, dear.model_copy(update={"bid_micros": 400_000}))
    device = listening.consenting()
    answer = post(listening, with_handle(device.handle, imp=[imp("top", bidfloor=3)]))
    assert sole_bid(answer)["crid"] == dear.creative_id
    permit = open_document(summary(answer)["permit"], PlacementPermit, listening.services.keys)
    assert permit.least_bids == {"top": 300_000}
    catalogue = listening.services.catalogues.opened()
    assert catalogue is not None
    policy = listening.services.placement.current().policy
    here = Installed(device.handle, listening.services.keys, catalogue, policy, permit.policy_digest, 1)

    def score(candidates: Sequence[Creative]) -> list[float]:
        return [0.1 if one.creative_id == dear.creative_id else 0.9 for one in candidates]

    def shown(under: PlacementPermit) -> set[str | None]:
        return {one.creative_id for one in choose(under, here, score=score, now=0, own=NOTHING_OWN).decision.placements}

    assert shown(permit) == {dear.creative_id}
    assert shown(permit.model_copy(update={"least_bids": {}})) < {one.creative_id for one in cheap}, "the control"


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
