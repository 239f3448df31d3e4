"""States, evidence, objections and standings: what is recorded, what it proves, and what it stops."""

from __future__ import annotations

import hashlib
from collections import Counter

import pytest
from sqlalchemy import text

from common.errors import AskedTooEarly, NotFound
from common.signals.verdict import Received
from common.taxonomy import AgeBand, ConsentState, InvalidationReason, LogKind, Purpose, RefusalReason, Role
from tests.service.consenting import DAY, EVERYTHING, agreeing, ask, enrolled, events, opened, told
from tests.service.test_consent import states, words
from tests.service.world import World

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
