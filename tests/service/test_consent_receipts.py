"""What receipts and standings say, what proves them, and how they are found and counted."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from client.consent import Gate
from client.pins import Pins
from client.store.keys import DeviceId
from common.crypto.signing import canonical, key_ring, sign
from common.taxonomy import ConsentState, LogKind, Purpose, RefusalReason, Role
from common.transparency.checkpoint import open_checkpoint
from common.transparency.tree import leaf_hash, verify_inclusion
from common.wire.documents import RECEIPT_TYP, open_document
from common.wire.messages import ConsentReceipt, ConsentStanding, ConsentWithdrawal
from policies.consent import Permit
from tests.service.consenting import DAY, agreeing, enrolled, events, opened
from tests.service.test_consent import SHIPPED, words
from tests.service.world import Device, World

# ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_receipt_states_what_ts_27560_asks_for(any_world: World) -> None:
    device = agreeing(any_world, "FR")
    event = events(any_world, device)[-1]
    receipt = opened(any_world, event.receipt)
    assert receipt.schema_version == "reticent-receipt-2"
    record = receipt.record
    assert record is not None
    assert record.controllers[0].name == any_world.services.settings.controller
    assert record.personal_data[0] == "views"
    for stated in (record.storage_location, record.retention, record.withdrawal_method, record.purpose_title):
        assert stated
    assert (record.notice_version, record.method.value, record.entity, record.ui_surface) == (
        SHIPPED, "api", Role.DEVICE, "settings/privacy",
    )  # fmt: skip
    assert record.policy_digest == any_world.services.policies.digests["purposes"]
    assert receipt.valid_until == receipt.event_time + 180 * DAY
    payload = base64.urlsafe_b64decode(event.receipt.split(".")[1] + "==")
    assert payload == canonical(payload)
    contribution = opened(any_world, events(any_world, device, Purpose.TRAIN_CONTRIBUTE)[-1].receipt).record
    assert contribution is not None
    assert contribution.recipients[0].party_type == "recipient"


def test_receipts_of_the_first_schema_still_count(tmp_path: Path, world: World) -> None:
    key, now = world.services.signer, int(world.clock.now)
    notice = world.notice()
    old = {
        "kind": "consent_receipt", "schema_version": "reticent-receipt-1", "receipt_id": "rcp_old",
        "handle": "handle-of-anna-000", "purpose": "train.local", "state": "given", "age_band": "adult",
        "notice_digest": notice, "event_time": now, "valid_until": now + DAY, "locale": "en",
        "jurisdiction": "DE", "controller": "Example",
    }  # fmt: skip
    jws = sign(old, key, RECEIPT_TYP)
    pins = Pins(key_ring(key.public), frozenset({notice}))
    rules = world.services.policies.policies.purposes
    gate = Gate.open(tmp_path / "gate.db", rules, pins=lambda: pins, now=lambda: float(now))
    gate.store_receipt(DeviceId("d"), jws)
    assert isinstance(gate.permits(DeviceId("d"), Purpose.TRAIN_LOCAL), Permit)
    gate.close()
    with pytest.raises(ValueError, match="schema 2"):
        ConsentReceipt.model_validate(old | {"schema_version": "reticent-receipt-2"})


def test_the_proof_of_a_receipt_can_be_checked_by_whoever_holds_it(any_world: World) -> None:
    device, stranger = agreeing(any_world), any_world.enrol()
    receipt_id = events(any_world, device)[-1].receipt_id
    copy = any_world.http.get(f"/v1/receipts/{receipt_id}", headers=device.headers)
    assert copy.status_code == 200, copy.text
    body = copy.json()
    assert (body["receipt_id"], body["latest"]) == (receipt_id, True)
    checked(any_world, body)
    edited = body | {"receipt": events(any_world, device)[0].receipt}
    with pytest.raises(AssertionError):
        checked(any_world, edited)
    theirs = any_world.http.get(f"/v1/receipts/{receipt_id}", headers=stranger.headers)
    assert theirs.status_code == 404
    assert any_world.http.get("/v1/receipts/rcp_none", headers=device.headers).json() == theirs.json()
    officer = any_world.http.get(f"/v1/receipts/{receipt_id}", headers=any_world.key(Role.AUDITOR))
    assert officer.json()["receipt"] == body["receipt"]


def checked(world: World, body: dict[str, Any]) -> None:
    """What the holder of a receipt does, with the public key alone."""
    proof, key = body["proof"], world.services.signer.public
    record = proof["record"].encode()
    leaf = json.loads(proof["leaf"])
    assert json.loads(record)["receipt_sha256"] == hashlib.sha256(body["receipt"].encode()).hexdigest()
    salted = hashlib.sha256(base64.b64decode(proof["salt"]) + record).digest()
    assert base64.b64decode(leaf["payload_commit"]) == salted
    checkpoint = open_checkpoint(proof["checkpoint"], key_ring(key)).checkpoint
    assert (checkpoint.size, leaf["seq"]) == (proof["size"], body["log_seq"])
    path = [base64.b64decode(step) for step in proof["path"]]
    verify_inclusion(leaf_hash(proof["leaf"].encode()), leaf["seq"], proof["size"], path, checkpoint.root)


def test_every_event_is_in_the_log_or_did_not_happen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    device = agreeing(world)
    logged = [e for e in world.services.log.events(limit=500, kind=LogKind.CONSENT) if e.opening is not None]
    assert [e.leaf.seq for e in logged] == [event.log_seq for event in world.services.consent.history(device.handle)]
    monkeypatch.setattr(world.services.log, "append", _broken)
    before = world.services.consent.history(device.handle)
    with pytest.raises(RuntimeError, match="log"):
        world.services.consent.withdraw(_everything(device), Role.DEVICE)
    with world.services.database.write() as session, pytest.raises(RuntimeError, match="log"):
        world.services.consent.object(session, device.handle)
    assert world.services.consent.history(device.handle) == before


def _broken(*_: object, **__: object) -> int:
    raise RuntimeError("the log is full")


def _everything(device: Device) -> ConsentWithdrawal:
    return ConsentWithdrawal(handle=device.handle, purposes="all")


# ── standings, rates, search, terms ──────────────────────────────────────────────────────────────────────────────────


def test_a_standing_is_signed_fresh_and_says_everything(any_world: World) -> None:
    device = agreeing(any_world)
    answer = any_world.http.get("/v1/consents/me", headers=device.headers).json()
    keys = key_ring(any_world.services.signer.public)
    standing = open_document(answer["standing"], ConsentStanding, keys)
    now = any_world.clock.now
    assert standing.handle == device.handle
    assert all(standing.permits(purpose, now) for purpose in Purpose)
    assert not standing.permits(Purpose.TRAIN_LOCAL, now + 300)
    assert not standing.permits(Purpose.TRAIN_LOCAL, now - 301)
    with any_world.services.database.write() as session:
        any_world.services.consent.restrict(session, device.handle, on=True)
    later = any_world.services.consent.standing(device.handle)
    assert (later.restricted, later.objection) == (True, False)
    assert not any(later.permits(purpose, now) for purpose in Purpose)
    nobody = any_world.services.consent.standing("nobody-of-that-name")
    assert {line.reason for line in nobody.purposes} == {RefusalReason.UNKNOWN_SUBJECT}


def test_rates_count_people_by_how_they_stand_now(any_world: World) -> None:
    agreeing(any_world, "FR")
    any_world.clock.advance(180 * DAY)
    agreeing(any_world, "FR")
    refusing = enrolled(any_world, "FR")
    any_world.change(refusing, {"train.local": "refused"})
    agreeing(any_world, "US-CA")
    rates = {(r.purpose, r.jurisdiction): r for r in any_world.services.consent.rates()}
    here = rates[Purpose.TRAIN_LOCAL, "FR"]
    assert here.states == {ConsentState.GIVEN: 1, ConsentState.EXPIRED: 1, ConsentState.REFUSED: 1}
    assert (here.asked, here.notice_version, here.given_share) == (3, SHIPPED, pytest.approx(1 / 3))
    assert rates[Purpose.PLACE_PERSONALISED, "FR"].asked == 2
    assert rates[Purpose.TRAIN_LOCAL, "US-CA"].states == {ConsentState.GIVEN: 1}
    any_world.services.notices.publish(words(2, material=True))
    (us,) = [r for r in any_world.services.consent.rates() if r.jurisdiction == "US-CA" and r.purpose == "train.local"]
    assert us.states == {ConsentState.SUPERSEDED: 1}


def test_one_person_is_found_by_receipt_or_handle(any_world: World) -> None:
    device = agreeing(any_world)
    receipt_id = events(any_world, device)[-1].receipt_id
    for wanted in (device.handle, receipt_id):
        found = any_world.services.consent.find(wanted)
        assert found is not None
        assert (found.subject.handle, len(found.events)) == (device.handle, 2 * len(Purpose))
        assert (found.matched is None) is (wanted == device.handle)
    assert any_world.services.consent.find("rcp_none") is None


def test_a_jurisdictions_terms_come_with_the_notice(world: World) -> None:
    terms = world.http.get("/v1/notices/current", params={"jurisdiction": "KR"}).json()["terms"]
    assert terms == {
        "jurisdiction": "KR", "validity_days": 180, "adult_age_years": 19, "gpc": "opposes", "reask_days": 0,
    }  # fmt: skip
    california = world.http.get("/v1/notices/current", params={"jurisdiction": "US-CA"}).json()["terms"]
    assert (california["jurisdiction"], california["reask_days"]) == ("US", 365)
    assert world.http.get("/v1/notices/current").json()["terms"] is None


def test_no_jurisdiction_lets_a_grant_outlive_thirteen_months(world: World) -> None:
    purposes = world.services.policies.policies.purposes
    assert all(rule.validity_days <= 395 for rule in purposes.jurisdictions)
    shorter = purposes.model_copy(update={"validity_days_max": 90})
    for code in ("US", "KR", "BR"):
        assert shorter.jurisdiction(code).validity_days == 90
    device = agreeing(world)
    fact = world.services.consent
    with world.services.database.write() as session:
        session.execute(text("UPDATE consent_state SET valid_until = :v"), {"v": int(world.clock.now) + 1000 * DAY})
    world.clock.advance(395 * DAY - 1)
    assert fact.effective(device.handle)[0].permitted
    world.clock.advance(1)
    assert not fact.effective(device.handle)[0].permitted


def test_the_standing_type_is_not_a_receipt(world: World) -> None:
    """Control: a signature for one kind of document does not pass for another."""
    device = agreeing(world)
    standing = world.services.consent.standing(device.handle)
    jws = world.services.consent.sealed(standing)
    keys = key_ring(world.services.signer.public)
    with pytest.raises(Exception, match="not for a consent-receipt"):
        open_document(jws, ConsentReceipt, keys)
