"""Placements: what an app offers and refuses holds at the next decision, in the service and on devices."""

from __future__ import annotations

from client.placement import NOTHING_OWN, inputs_of
from common.taxonomy import Role
from common.wire.documents import open_document
from common.wire.messages import PlacementPermit, SlotRequest
from common.wire.surface import Surface
from policies.loader import load
from policies.placement.surfaces import NO_RULES, rules_of
from tests.placement.test_device import HELD, PERMIT
from tests.service.campaigning import Agency
from tests.service.world import World, catalogue


def offer(agency: Agency, slot_id: str = "top", **terms: object) -> dict[str, object]:
    return agency.done("POST", "/v1/placements", {"slot_id": slot_id, "name": "Top"} | terms, key=agency.admin)


def test_what_a_placement_refuses_is_not_shown_in_it(any_world: World) -> None:
    any_world.services.catalogues.publish([])
    agency = Agency(any_world)
    _, creative = agency.running()
    assert agency.served() == creative
    offer(agency, blocked_advertisers=["nuts-and-sons"])
    assert agency.served() is None
    answer = any_world.decide(None, agency.backend, slots=[{"slot_id": "side"}])
    assert answer["slots"][0]["creative"]["creative_id"] == creative
    both = any_world.decide(None, agency.backend, slots=[{"slot_id": "side"}, {"slot_id": "top"}])
    assert [slot["creative"] for slot in both["slots"]] == [None, None]
    body = {"name": "Top", "blocked_categories": ["SNACKS"]}
    headers = agency.admin | {"if-match": '"1"'}
    assert any_world.http.put("/v1/placements/top", json=body, headers=headers).json()["revision"] == 2
    assert agency.served() is None
    assert any_world.http.delete("/v1/placements/top", headers=headers).status_code == 412
    assert any_world.http.delete("/v1/placements/top", headers=agency.admin | {"if-match": '"2"'}).status_code == 204
    assert agency.served() == creative


def test_a_device_is_told_the_same(agency: Agency) -> None:
    agency.world.services.catalogues.publish(catalogue().creatives)
    offer(agency, blocked_advertisers=["rival"], blocked_categories=["alcohol"], floor_micros=250_000)
    device = agency.world.consenting()
    answer = agency.world.decide(device.handle, agency.backend)
    permit = open_document(answer["permit"], PlacementPermit, agency.world.services.keys)
    assert (permit.blocked_advertisers, permit.blocked_categories) == (("rival",), ("alcohol",))
    opened = agency.world.services.catalogues.opened()
    assert opened is not None
    assert [surface.floor_micros for surface in opened.surfaces] == [250_000]


def test_floors_are_money_and_hold_where_the_policy_orders_by_money() -> None:
    surfaces = [Surface(slot_id="top", floor_micros=250_000, blocked_categories=("x",)), Surface(slot_id="side")]
    by_value = load().policies.placement.model_copy(
        update={"score": load().policies.placement.score.model_copy(update={"kind": "value"})}
    )
    by_response = by_value.model_copy(update={"score": by_value.score.model_copy(update={"kind": "response"})})
    top = [SlotRequest(slot_id="top")]
    assert rules_of(surfaces, top, by_value).floors == {"top": 0.25}
    assert rules_of(surfaces, top, by_response).floors == {}
    assert rules_of(surfaces, top, by_response).blocked_categories == {"x"}
    assert rules_of(surfaces, [SlotRequest(slot_id="other")], by_value) is NO_RULES
    held = HELD.catalogue.model_copy(update={"surfaces": tuple(surfaces)})
    here = type(HELD)(HELD.handle, HELD.keys, held, by_value, HELD.policy_digest, HELD.model_version)
    assert inputs_of(PERMIT, here, NOTHING_OWN, 0.0).floors == {"top": 0.25}


def test_placements_are_the_operators_and_everybody_reads_them(agency: Agency) -> None:
    body = {"slot_id": "top", "name": "Top"}
    assert agency.ask("POST", "/v1/placements", body).status_code == 403
    for slot in ("a", "b", "c"):
        offer(agency, slot)
    assert agency.ask("POST", "/v1/placements", body | {"slot_id": "a"}, key=agency.admin).status_code == 409
    for key in (agency.advertiser, agency.backend, agency.officer, agency.world.key(Role.AUDITOR)):
        page = agency.done("GET", "/v1/placements?limit=2", key=key)
        assert [one["slot_id"] for one in page["items"]] == ["a", "b"]
        more = agency.done("GET", f"/v1/placements?limit=2&cursor={page['next_cursor']}", key=key)
        assert [one["slot_id"] for one in more["items"]] == ["c"]
    assert agency.ask("GET", "/v1/placements/z").status_code == 404
    for wrong in ({"floor_micros": -1}, {"slot_id": "a b"}, {"width": 0}, {"kind": "popunder"}, {"price": 1}):
        assert agency.ask("POST", "/v1/placements", body | wrong, key=agency.admin).status_code == 422
