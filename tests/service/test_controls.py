"""Kill switches: in force at the next decision and the next round, released as they were, and always in the log."""

from __future__ import annotations

import httpx
import pytest

from common.errors import ConsentRefused
from common.taxonomy import LogKind, Purpose, Role
from common.wire.documents import open_document
from common.wire.messages import ConsentStanding, PlacementPermit
from server.rounds.consent import RoundConsent
from server.settings import RoundConsentRule
from tests.service.test_consent import states
from tests.service.test_consent_states import agreeing
from tests.service.world import Device, World


def order(world: World, what: str, scope: str, target: str, role: Role = Role.PRIVACY_OFFICER) -> httpx.Response:
    body = {"scope": scope, "target": target, "note": "under review"}
    return world.http.post(f"/v1/controls/{what}", json=body, headers=world.key(role, holder="wei"))


def reason(world: World, device: Device) -> str | None:
    slot = world.decide(device.handle, device.headers)["slots"][0]
    return None if slot["reason"] is None else str(slot["reason"])


def gate(world: World, rule: RoundConsentRule = RoundConsentRule.SERVICE) -> RoundConsent:
    services = world.services
    rules = services.policies.policies.purposes
    return RoundConsent.at(services.database, rules=rules, signer=services.signer, rule=rule, clock=world.clock)


@pytest.mark.parametrize(
    ("scope", "target", "hits"),
    [
        ("purpose", "place.personalised", {"FR": "kill-switch", "US-CA": "kill-switch"}),
        ("purpose", "train.local", {"FR": "prerequisite-missing", "US-CA": "prerequisite-missing"}),
        ("purpose", "measure.aggregate", {"FR": None, "US-CA": None}),
        ("jurisdiction", "US", {"FR": None, "US-CA": "kill-switch"}),
        ("jurisdiction", "US-CA", {"FR": None, "US-CA": "kill-switch"}),
        ("jurisdiction", "US-NV", {"FR": None, "US-CA": None}),
    ],
)
def test_a_stop_holds_at_the_next_decision_until_it_is_released(
    any_world: World, scope: str, target: str, hits: dict[str, str | None]
) -> None:
    people = {place: agreeing(any_world, place) for place in hits}
    assert {place: reason(any_world, device) for place, device in people.items()} == dict.fromkeys(hits)
    assert order(any_world, "kill", scope, target).status_code == 200
    assert {place: reason(any_world, device) for place, device in people.items()} == hits
    assert order(any_world, "release", scope, target).status_code == 204
    assert {place: reason(any_world, device) for place, device in people.items()} == dict.fromkeys(hits)


def test_stops_are_idempotent_listed_and_logged(any_world: World) -> None:
    first = order(any_world, "kill", "jurisdiction", "FR").json()
    assert order(any_world, "kill", "jurisdiction", "FR").json() == first
    assert (first["stopped_by"], first["note"]) == ("privacy_officer:wei", "under review")
    listed = any_world.http.get("/v1/controls", headers=any_world.key(Role.AUDITOR)).json()["stopped"]
    assert listed == [first]
    assert order(any_world, "release", "jurisdiction", "FR").status_code == 204
    assert order(any_world, "release", "jurisdiction", "FR").status_code == 404
    entries = any_world.services.log.events(kind=LogKind.CONTROL)
    assert [entry.leaf.actor for entry in entries] == ["privacy_officer:wei"] * 2
    assert [b'"event":"stopped"' in e.opening.record for e in entries if e.opening] == [True, False]


@pytest.mark.parametrize(
    ("scope", "target"), [("purpose", "sell.everything"), ("jurisdiction", "fr"), ("campaign", " x "), ("moon", "x")]
)
def test_what_could_never_match_is_refused(world: World, scope: str, target: str) -> None:
    answer = order(world, "kill", scope, target)
    assert answer.status_code in {400, 422}
    assert world.services.controls.stopped() == []


@pytest.mark.parametrize("role", [Role.ADMIN, Role.AUDITOR, Role.APP_BACKEND])
def test_only_a_privacy_officer_stops_anything(world: World, role: Role) -> None:
    assert order(world, "kill", "purpose", "train.local", role).status_code == 403
    assert world.services.controls.stopped() == []


def test_a_stopped_campaign_is_neither_chosen_nor_a_candidate(any_world: World) -> None:
    device = agreeing(any_world)
    chosen = any_world.decide(None, device.headers)["slots"][0]["creative"]
    advertisers = {c.advertiser for c in any_world.services.catalogues.opened().creatives}  # type: ignore[union-attr]
    assert order(any_world, "kill", "campaign", chosen["creative_id"]).status_code == 200
    answer = any_world.decide(device.handle, device.headers)
    assert chosen["creative_id"] not in answer["candidates"]
    assert len(answer["candidates"]) == 7
    assert answer["slots"][0]["creative"]["creative_id"] != chosen["creative_id"]
    keys = {any_world.services.signer.kid: any_world.services.signer.public}
    assert open_document(answer["permit"], PlacementPermit, keys).stopped == (chosen["creative_id"],)
    for advertiser in advertisers:
        order(any_world, "kill", "campaign", advertiser)
    answer = any_world.decide(device.handle, device.headers)
    assert (answer["candidates"], answer["slots"][0]["creative"]) == ([], None)


def test_devices_learn_of_stops_from_their_standing(world: World) -> None:
    device = agreeing(world, "FR")
    order(world, "kill", "purpose", "train.contribute")
    order(world, "kill", "campaign", "National")
    answer = world.http.get("/v1/consents/me", headers=device.headers).json()
    keys = {world.services.signer.kid: world.services.signer.public}
    standing = open_document(answer["standing"], ConsentStanding, keys)
    assert standing.stopped == (Purpose.TRAIN_CONTRIBUTE,)
    assert standing.stopped_campaigns == ("National",)
    assert not standing.permits(Purpose.TRAIN_CONTRIBUTE, world.clock.now)
    assert standing.permits(Purpose.TRAIN_LOCAL, world.clock.now)
    order(world, "kill", "jurisdiction", "FR")
    assert {state[2] for state in states(world, device.headers).values()} == {"kill-switch"}


# ── rounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_round_takes_whom_the_records_permit_and_nobody_else(any_world: World) -> None:
    agreeing_one, refusing, unknown = agreeing(any_world), any_world.enrol(), b"\x07" * 32
    identities = [agreeing_one.key.public.raw, refusing.key.public.raw, unknown]
    wanted = {Purpose.TRAIN_CONTRIBUTE}
    assert gate(any_world).refused(identities, wanted) == {refusing.key.public.raw, unknown}
    assert gate(any_world, RoundConsentRule.DEVICES).refused(identities, wanted) == {refusing.key.public.raw}
    any_world.withdraw(agreeing_one)
    assert gate(any_world).refused(identities, wanted) == set(identities)
    any_world.change(agreeing_one, {p.value: "given" for p in Purpose})
    order(any_world, "kill", "jurisdiction", "CN")
    assert gate(any_world).refused(identities, wanted) == set(identities)
    gate(any_world).check(wanted)  # one place does not stop everybody's round


@pytest.mark.parametrize("target", ["train.contribute", "train.local"])
def test_no_round_is_held_for_a_stopped_purpose(world: World, target: str) -> None:
    order(world, "kill", "purpose", target)
    with pytest.raises(ConsentRefused):
        gate(world).check({Purpose.TRAIN_CONTRIBUTE})
    gate(world).check({Purpose.MEASURE_AGGREGATE})
    order(world, "release", "purpose", target)
    gate(world).check({Purpose.TRAIN_CONTRIBUTE})


def test_many_devices_are_asked_about_at_once(world: World) -> None:
    people = [agreeing(world) for _ in range(3)]
    strangers = [number.to_bytes(32, "big") for number in range(1, 1200)]
    known = [device.key.public.raw for device in people]
    assert gate(world).refused([*strangers, *known], {Purpose.TRAIN_CONTRIBUTE}) == set(strangers)
