"""States, evidence, objections and standings: what is recorded, what it proves, and what it stops."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from client.consent import Gate
from client.pins import Pins
from client.store.keys import DeviceId
from common.crypto.signing import canonical, key_ring, sign
from common.errors import AskedTooEarly, NotFound
from common.signals.verdict import Received
from common.taxonomy import AgeBand, ConsentState, InvalidationReason, LogKind, Purpose, RefusalReason, Role
from common.transparency.checkpoint import open_checkpoint
from common.transparency.tree import leaf_hash, verify_inclusion
from common.wire.documents import RECEIPT_TYP, open_document
from common.wire.messages import ConsentReceipt, ConsentStanding, ConsentWithdrawal
from policies.consent import Permit
from server.consent.repository import StoredEvent
from tests.service.test_consent import states, words
from tests.service.world import Device, World

DAY = 86_400
EVERYTHING = {purpose.value: "given" for purpose in Purpose}


def enrolled(world: World, jurisdiction: str, age_band: str = "adult") -> Device:
    device = world.enrol(age_band)
    with world.services.database.write() as session:
        session.execute(
            text("UPDATE subject SET jurisdiction = :j WHERE handle = :h"), {"j": jurisdiction, "h": device.handle}
        )
    return device


def agreeing(world: World, jurisdiction: str = "CN") -> Device:
    device = enrolled(world, jurisdiction)
    assert world.change(device, EVERYTHING).status_code == 201
    return device


def events(world: World, device: Device, purpose: Purpose = Purpose.TRAIN_LOCAL) -> list[StoredEvent]:
    return [event for event in world.services.consent.history(device.handle) if event.purpose is purpose]


def told(world: World, device: Device, purpose: Purpose = Purpose.TRAIN_LOCAL) -> list[str]:
    return [event.state.value for event in events(world, device, purpose)]


def opened(world: World, receipt: str) -> ConsentReceipt:
    return open_document(receipt, ConsentReceipt, key_ring(world.services.signer.public))


def ask(world: World, device: Device, *purposes: str) -> httpx.Response:
    body = {
        "handle": device.handle,
        "notice_digest": world.notice(),
        "purposes": purposes,
        "locale": "en",
        "surface": "onboarding",
    }
    return world.http.post("/v1/consents/requests", json=body, headers=device.headers)


# ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_question_is_a_state_and_an_answer_answers_it(any_world: World) -> None:
    device = any_world.enrol()
    answer = ask(any_world, device, "train.local")
    assert (answer.status_code, answer.json()["receipts"][0]["state"]) == (201, "requested")
    assert states(any_world, device.headers)["train.local"] == ("requested", False, "consent-required")
    any_world.change(device, {"train.local": "given", "measure.aggregate": "refused"})
    assert told(any_world, device) == ["requested", "given"]
    assert told(any_world, device, Purpose.MEASURE_AGGREGATE) == ["requested", "refused"]


def test_a_question_about_a_live_grant_ends_nothing(any_world: World) -> None:
    device = agreeing(any_world)
    receipt = events(any_world, device)[-1]
    ask(any_world, device, "train.local")
    assert states(any_world, device.headers)["train.local"] == ("given", True, None)
    assert any_world.services.consent.verify(receipt.receipt).latest
    any_world.change(device, {"train.local": "refused"})
    assert told(any_world, device) == ["requested", "given", "requested", "refused"]


def test_ended_grants_are_marked_by_what_ended_them(any_world: World) -> None:
    old, new = agreeing(any_world), any_world.enrol()
    any_world.clock.advance(180 * DAY)
    any_world.change(new, EVERYTHING)
    assert any_world.services.consent.lapse() == len(Purpose)
    assert told(any_world, old) == ["requested", "given", "expired"]
    any_world.services.notices.publish(words(2, material=True))
    assert any_world.services.consent.lapse() == len(Purpose)
    assert told(any_world, new) == ["requested", "given", "superseded"]
    assert any_world.services.consent.lapse() == 0
    expired = events(any_world, old)[-1]
    assert (expired.actor, expired.method.value) == ("system", "clock")
    assert opened(any_world, expired.receipt).record.entity == "system"  # type: ignore[union-attr]
    assert states(any_world, old.headers)["train.local"] == ("expired", False, "consent-expired")
    assert states(any_world, new.headers)["train.local"] == ("superseded", False, "notice-superseded")
    any_world.change(old, {"train.local": "given"})
    assert told(any_world, old)[-2:] == ["requested", "given"]
    assert states(any_world, old.headers)["train.local"][1]


def test_a_lapsed_grant_that_nobody_marked_is_marked_by_the_next_answer(world: World) -> None:
    device = agreeing(world)
    world.clock.advance(181 * DAY)
    world.change(device, {"train.local": "given"})
    assert told(world, device) == ["requested", "given", "expired", "requested", "given"]


def test_an_officer_ends_a_grant_that_is_no_consent(any_world: World) -> None:
    device, officer = agreeing(any_world), any_world.key(Role.PRIVACY_OFFICER, holder="wei")
    receipt = events(any_world, device)[-1].receipt_id
    body = {"receipt_id": receipt, "reason": "defective-notice"}
    first = any_world.http.post("/v1/consents/invalidate", json=body, headers=officer)
    assert (first.status_code, first.json()["state"]) == (200, "invalidated")
    again = any_world.http.post("/v1/consents/invalidate", json=body, headers=officer)
    assert again.json() == first.json()
    assert states(any_world, device.headers)["train.local"] == ("invalidated", False, "consent-invalidated")
    event = events(any_world, device)[-1]
    assert (event.reason, event.method.value) == (InvalidationReason.DEFECTIVE_NOTICE, "officer")
    (entry,) = [e for e in any_world.services.log.events() if e.leaf.actor == "privacy_officer:wei"]
    assert entry.leaf.kind is LogKind.CONSENT
    any_world.change(device, {"train.local": "given"})
    any_world.http.post("/v1/consents/invalidate", json=body, headers=officer)
    assert states(any_world, device.headers)["train.local"][1]  # a later grant is another grant
    missing = any_world.http.post("/v1/consents/invalidate", json=body | {"receipt_id": "rcp_x"}, headers=officer)
    assert missing.status_code == 404


@pytest.mark.parametrize(("place", "days"), [("US-CA", 365), ("FR", 180), ("CN", 0)])
def test_after_a_no_nobody_asks_before_it_is_time(world: World, place: str, days: int) -> None:
    device = enrolled(world, place)
    world.change(device, {"train.local": "refused"})
    for wait in [0, days - 1] if days else []:
        world.clock.advance(wait * DAY)
        answer = ask(world, device, "train.local", "measure.aggregate")
        assert (answer.status_code, answer.json()["title"]) == (409, AskedTooEarly.__name__)
    assert ask(world, device, "measure.aggregate").status_code == 201
    world.clock.advance(DAY)
    assert ask(world, device, "train.local").status_code == 201


def test_people_may_change_their_mind_at_any_time(world: World) -> None:
    device = enrolled(world, "US-NV")
    world.change(device, {"train.local": "refused"})
    standing = world.http.get("/v1/consents/me", headers=device.headers).json()["purposes"]
    told_when = next(line["reask_not_before"] for line in standing if line["purpose"] == "train.local")
    assert told_when == int(world.clock.now) + 365 * DAY
    world.change(device, {"train.local": "given"}, method="toggle")
    assert states(world, device.headers)["train.local"][1]


# ── objection, restriction, rectification, erasure ───────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("what", "reason"), [("object", "objected"), ("restrict", "processing-restricted")])
def test_objection_and_restriction_stop_everything_until_they_are_lifted(
    any_world: World, what: str, reason: str
) -> None:
    device, consent = agreeing(any_world), any_world.services.consent
    for on in (True, False):
        with any_world.services.database.write() as session:
            getattr(consent, what)(session, device.handle, on=on)
        expected = (not on, reason if on else None)
        assert {state[1:] for state in states(any_world, device.headers).values()} == {expected}
        answer = any_world.decide(device.handle, device.headers)
        assert (answer["mode"] == "contextual", answer["slots"][0]["reason"]) == (on, reason if on else None)
    any_world.change(device, EVERYTHING)
    with any_world.services.database.write() as session, pytest.raises(NotFound):
        getattr(consent, what)(session, "nobody-of-that-name", on=True)


def test_a_corrected_age_ends_grants_that_were_not_an_adults_to_give(any_world: World) -> None:
    child = enrolled(any_world, "CN", "minor")
    any_world.change(child, EVERYTHING)
    with any_world.services.database.write() as session:
        ended = any_world.services.consent.rectify_age_band(session, child.handle, AgeBand.ADULT)
    assert Counter(receipt.state for receipt in ended) == {ConsentState.INVALIDATED: len(Purpose)}
    assert {s[0] for s in states(any_world, child.headers).values()} == {"invalidated"}
    any_world.change(child, EVERYTHING)
    assert all(state[1] for state in states(any_world, child.headers).values())
    with any_world.services.database.write() as session:
        any_world.services.consent.rectify_age_band(session, child.handle, AgeBand.MINOR)
    assert {state[2] for state in states(any_world, child.headers).values()} == {"minor-protected"}


def test_what_is_forgotten_is_gone_from_every_table_of_the_room(any_world: World) -> None:
    kept, gone = agreeing(any_world), agreeing(any_world)
    with any_world.services.database.write() as session:
        assert any_world.services.consent.forget(session, gone.handle) == 1 + 3 * len(Purpose)
    with any_world.services.database.read() as session:
        for table in ("subject", "consent_event", "consent_state"):
            query = text(f"SELECT count(*) FROM {table} WHERE handle = :h")  # noqa: S608 - our own names
            counts = [session.execute(query, {"h": one.handle}).scalar_one() for one in (gone, kept)]
            assert counts[0] == 0 < counts[1]
    assert any_world.services.consent.find(gone.handle) is None
    assert {line.reason for line in any_world.services.consent.effective(gone.handle)} == {
        RefusalReason.UNKNOWN_SUBJECT
    }


# ── signals ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_grant_under_an_opposing_signal_permits_nothing_and_says_why(any_world: World) -> None:
    device = any_world.enrol()
    headers = {"sec-gpc": "1"}
    body = {
        "handle": device.handle,
        "notice_digest": any_world.notice(),
        "decisions": EVERYTHING,
        "locale": "en",
        "surface": "s",
        "signals": {"gpp": "DBABBg~BVoAAACA.Q", "us_privacy": "1YYN", "tcf": "not-a-tc-string"},
    }
    answer = any_world.http.post("/v1/consents", json=body, headers=device.headers | headers)
    assert answer.status_code == 201, answer.text
    assert {state[1:] for state in states(any_world, device.headers).values()} == {(False, "signal-opt-out")}
    event = events(any_world, device)[-1]
    said = event.signals
    assert (said.gpc, said.us_privacy, said.gpp_sections) == (True, True, ("usca",))
    assert said.tcf_sha256 == hashlib.sha256(b"not-a-tc-string").hexdigest()
    assert set(said.opposed) == set(Purpose)
    record = opened(any_world, event.receipt).record
    assert record is not None
    assert record.signals == said
    with any_world.services.database.read() as session:
        rows = session.execute(text("SELECT signals, receipt_jws FROM consent_event")).all()
    assert not any("not-a-tc-string" in str(row) for row in rows)
    any_world.change(device, EVERYTHING)  # the same person without the signals
    assert all(state[1] for state in states(any_world, device.headers).values())


def test_gpc_may_be_narrowed_to_places_and_no_other_signal_may(world: World) -> None:
    device = enrolled(world, "JP")
    purposes = world.services.policies.policies.purposes
    narrowed = tuple(
        rule.model_copy(update={"gpc": "recorded"}) if rule.code == "JP" else rule for rule in purposes.jurisdictions
    )
    reader = world.services.signals
    reader._purposes = purposes.model_copy(update={"jurisdictions": narrowed})
    gpc, usp = reader.judge(Received(gpc=True)), reader.judge(Received(us_privacy="1YYN"))
    assert reader.opposed(gpc, "JP") == {}
    assert set(reader.opposed(gpc, "US-CA")) == set(reader.opposed(gpc)) == set(Purpose)
    assert set(reader.opposed(usp, "JP")) == set(Purpose)
    world.furnish()
    world.change(device, EVERYTHING)
    answer = world.decide(device.handle, device.headers, signals={"gpc": True})
    assert (answer["mode"], answer["privacy_signal"]["honoured"]) == ("on_device", False)
    elsewhere = agreeing(world, "US-CA")
    answer = world.decide(elsewhere.handle, elsewhere.headers, signals={"gpc": True})
    assert (answer["mode"], answer["privacy_signal"]["honoured"]) == ("contextual", True)


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
        1, "api", Role.DEVICE, "settings/privacy",
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
    assert (here.asked, here.notice_version, here.given_share) == (3, 1, pytest.approx(1 / 3))
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
