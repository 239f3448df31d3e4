"""Grants, withdrawals, receipts and notices over HTTP, on SQLite and PostgreSQL."""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from common.crypto.signing import SigningKey, key_ring
from common.taxonomy import ConsentState, Purpose, Role
from common.wire.documents import open_document
from common.wire.messages import ConsentReceipt
from policies.loader import DOCUMENTS
from policies.notices import NoticeDocument, read_notices
from server.api import services as services_module
from server.api.services import initialise
from server.settings import DATABASE_FILE, Settings
from tests.service.conftest import UNHURRIED
from tests.service.world import APP, Clock, World, bearer, introduced

DAY = 86_400
SHIPPED = max(int(path.stem) for path in (DOCUMENTS / "notice").glob("*.yaml"))


def words(version: int, *, material: bool) -> NoticeDocument:
    """A notice; 1 is the version that the package ships last, 2 the next one."""
    texts = {
        "en": {"title": "Notice", "text": f"Text {version}"},
        "zh-CN": {"title": "告知", "text": f"文本 {version}"},
    }
    number = SHIPPED - 1 + version
    return NoticeDocument.model_validate({"version": number, "material": material, "texts": texts})


def states(world: World, headers: dict[str, str]) -> dict[str, tuple[str, bool, str | None]]:
    rows = world.http.get("/v1/consents/me", headers=headers).json()["purposes"]
    return {row["purpose"]: (row["state"], row["permitted"], row["reason"]) for row in rows}


def test_default_is_deny(any_world: World) -> None:
    device = any_world.enrol()
    assert set(states(any_world, device.headers).values()) == {("unknown", False, "consent-required")}


def test_grant_permits_each_purpose_alone_and_gives_receipts(any_world: World) -> None:
    device = any_world.enrol()
    answer = any_world.change(device, {"train.local": "given", "train.contribute": "refused"})
    assert answer.status_code == 201
    held = states(any_world, device.headers)
    assert held["train.local"] == ("given", True, None)
    assert held["train.contribute"] == ("refused", False, "consent-refused")
    assert held["place.personalised"] == ("unknown", False, "consent-required")
    receipts = {line["purpose"]: line["receipt"] for line in answer.json()["receipts"]}
    keys = key_ring(any_world.services.signer.public)
    receipt = open_document(receipts["train.local"], ConsentReceipt, keys)
    assert (receipt.handle, receipt.state) == (device.handle, ConsentState.GIVEN)
    assert receipt.valid_until == receipt.event_time + 180 * DAY


def test_withdrawal_is_immediate_idempotent_and_receipted(any_world: World) -> None:
    device = any_world.consenting()
    first = any_world.withdraw(device)
    assert first.status_code == 200
    assert {line["state"] for line in first.json()["receipts"]} == {"withdrawn"}
    assert len(first.json()["receipts"]) == len(Purpose)
    assert set(states(any_world, device.headers).values()) == {("withdrawn", False, "consent-withdrawn")}
    again = any_world.withdraw(device)
    assert again.json()["receipts"] == first.json()["receipts"]
    events = any_world.http.get("/v1/consents/me/history", headers=device.headers).json()["events"]
    assert Counter(event["state"] for event in events) == dict.fromkeys(("requested", "given", "withdrawn"), 4)


def test_withdrawing_what_was_never_given_is_no_error(world: World) -> None:
    device = world.enrol()
    answer = world.withdraw(device, ["place.personalised"])
    assert (answer.status_code, answer.json()["receipts"]) == (200, [])


def test_receipts_of_one_purpose_are_strictly_ordered_even_within_a_second(world: World) -> None:
    device = world.enrol()
    for _ in range(3):
        world.change(device)
        world.withdraw(device)
    events = world.http.get("/v1/consents/me/history", headers=device.headers).json()["events"]
    decided = [event for event in events if event["state"] != "requested"]
    times = [event["event_time"] for event in decided if event["purpose"] == "train.local"]
    assert len(times) == 6
    assert all(a < b for a, b in itertools.pairwise(times))


def test_grant_expires(world: World) -> None:
    device = world.consenting()
    world.clock.advance(180 * DAY - 1)
    assert states(world, device.headers)["train.local"][1]
    world.clock.advance(1)
    assert states(world, device.headers)["train.local"] == ("expired", False, "consent-expired")


def test_material_notice_supersedes_and_editorial_one_does_not(any_world: World) -> None:
    device = any_world.consenting()
    old = any_world.notice()
    any_world.services.notices.publish(words(2, material=False))
    assert old in any_world.http.get("/v1/notices/current").json()["accepted"]
    assert states(any_world, device.headers)["train.local"][1]
    refused = any_world.change(device, notice_digest=old)
    assert (refused.status_code, refused.json()["title"]) == (409, "NoticeExpired")
    assert refused.json()["type"] == "urn:reticent:problem:notice-expired"
    any_world.services.notices.publish(words(3, material=True))
    assert states(any_world, device.headers)["train.local"] == ("superseded", False, "notice-superseded")
    any_world.services.notices.publish(words(4, material=False))
    assert old not in any_world.http.get(f"/v1/notices/{old}").json()["accepted"]
    assert not states(any_world, device.headers)["train.local"][1]
    assert any_world.change(device).status_code == 201
    assert states(any_world, device.headers)["train.local"][1]


NAMED = {"en": ("group", "by lot", "one answer"), "zh-CN": ("群组", "抽签", "每周一次")}


def test_the_shipped_notice_names_what_takes_part_in_counts_and_asks_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation under version 1: with version 2 its grants end, for people were not told of all of this."""
    first, clock = tmp_path / "notice", Clock()
    first.mkdir()
    shutil.copy(DOCUMENTS / "notice" / "1.yaml", first)
    monkeypatch.setattr(services_module, "notice_directory", lambda _settings: first)
    settings = replace(Settings.at(tmp_path / "state"), rate_limits=UNHURRIED)
    world = World(initialise(settings, clock=clock), clock)
    device, old = world.consenting(), world.notice()
    assert states(world, device.headers)["measure.aggregate"][:2] == ("given", True)
    monkeypatch.undo()
    initialise(settings, clock=clock)
    for locale, named in NAMED.items():
        now = world.http.get("/v1/notices/current", params={"locale": locale}).json()
        (before,) = (
            one for one in read_notices(world.services.policies.policies.purposes)[0][1] if one.locale == locale
        )
        assert (now["version"], old in now["accepted"]) == (2, False)
        assert all(word in now["text"] for word in named)
        assert not any(word in before.text for word in named), "the control: version 1 did not say so"
    assert states(world, device.headers)["measure.aggregate"] == ("superseded", False, "notice-superseded")
    assert world.change(device).status_code == 201
    assert states(world, device.headers)["train.local"][:2] == ("given", True)
    world.close()


def test_notice_versions_only_grow_and_texts_never_change(world: World) -> None:
    officer = world.key(Role.PRIVACY_OFFICER)
    body = words(2, material=True).model_dump(mode="json")
    assert world.http.post("/v1/notices", json=body, headers=officer).status_code == 201
    assert world.http.post("/v1/notices", json=body, headers=officer).status_code == 201
    for bad in (words(2, material=True).model_dump(mode="json"), words(1, material=True).model_dump(mode="json")):
        bad["texts"]["en"]["text"] = "other words"
        answer = world.http.post("/v1/notices", json=bad, headers=officer)
        assert (answer.status_code, answer.json()["title"]) == (422, "PolicyError")


def test_both_languages_have_their_own_digest(world: World) -> None:
    device = world.enrol()
    chinese = world.http.get("/v1/notices/current", params={"locale": "zh-CN"}).json()
    assert chinese["digest"] != world.notice()
    assert "广告" in chinese["title"]
    wrong = world.change(device, notice_digest=chinese["digest"], locale="en")
    assert (wrong.status_code, wrong.json()["title"]) == (404, "UnknownNotice")
    assert world.change(device, notice_digest=chinese["digest"], locale="zh-CN").status_code == 201


def test_unknown_purpose_has_a_name_and_is_not_echoed(world: World) -> None:
    device = world.enrol()
    for answer in (
        world.change(device, {"sell.everything": "given"}),
        world.withdraw(device, ["sell.everything"]),
        world.http.post(
            "/v1/consents/check",
            json={"handle": device.handle, "purposes": ["sell.everything"]},
            headers=world.key(Role.APP_BACKEND),
        ),
    ):
        assert (answer.status_code, answer.json()["title"]) == (422, "UnknownPurpose")
        assert "sell" not in answer.text


def test_one_bad_purpose_stores_nothing(world: World) -> None:
    device = world.enrol()
    world.change(device, {"train.local": "given", "sell.everything": "given"})
    assert states(world, device.headers)["train.local"][0] == "unknown"


@pytest.mark.parametrize("extra", [{"email": "a@b.example"}, {"full_name": "Wei"}, {"birth_date": "2001-01-01"}])
def test_enrolment_accepts_nothing_that_says_who_it_is(world: World, extra: dict[str, str]) -> None:
    key = SigningKey.generate()
    body = {"public_key": key.public.x, "app_id": APP, "age_band": "adult", "jurisdiction": "CN"} | extra
    answer = world.http.post("/v1/subjects", json=body, headers=introduced(key, world.clock))
    assert answer.status_code == 422
    assert not any(part in answer.text for pair in extra.items() for part in pair)


def test_receipts_can_be_verified_by_anybody(world: World) -> None:
    device = world.enrol()
    receipt = world.change(device).json()["receipts"][0]["receipt"]
    proof = world.http.post("/v1/receipts/verify", json={"receipt": receipt})
    assert proof.json() | {"genuine": True, "latest": True} == proof.json()
    assert device.handle not in proof.text
    world.withdraw(device)
    assert world.http.post("/v1/receipts/verify", json={"receipt": receipt}).json()["latest"] is False
    forged = receipt[:-8] + "AAAAAAAA"
    assert world.http.post("/v1/receipts/verify", json={"receipt": forged}).json()["genuine"] is False


def test_app_backends_see_effective_consent_of_their_own_app_only(world: World) -> None:
    device = world.consenting()
    body = {"handle": device.handle, "purposes": ["place.personalised"]}
    mine, other = world.key(Role.APP_BACKEND, APP), world.key(Role.APP_BACKEND, "another-app")

    def ask(headers: dict[str, str]) -> object:
        return world.http.post("/v1/consents/check", json=body, headers=headers).json()["purposes"]

    assert ask(mine) == {"place.personalised": {"permitted": True, "reason": None}}
    assert ask(other) == {"place.personalised": {"permitted": False, "reason": "unknown-subject"}}
    everything = {"handle": device.handle, "purposes": "all"}
    assert world.http.post("/v1/consents/withdraw", json=everything, headers=other).status_code == 404
    assert ask(mine) == {"place.personalised": {"permitted": True, "reason": None}}


def test_a_device_speaks_for_itself_only(world: World) -> None:
    victim, attacker = world.consenting(), world.enrol()
    answer = world.http.post(
        "/v1/consents/withdraw", json={"handle": victim.handle, "purposes": "all"}, headers=attacker.headers
    )
    assert (answer.status_code, answer.json()["title"]) == (403, "NotAllowed")
    assert victim.handle not in answer.text
    assert states(world, victim.headers)["train.local"][1]


def test_projection_is_what_the_events_say(any_world: World) -> None:
    device = any_world.consenting()
    any_world.withdraw(device, ["train.local"])
    any_world.change(device, {"train.local": "given", "measure.aggregate": "refused"})
    query = """
        SELECT count(*) FROM consent_state s JOIN consent_event e ON e.seq = s.seq
        WHERE s.state = e.state AND s.valid_until = e.valid_until AND s.handle = e.handle AND s.purpose = e.purpose
          AND e.seq = (SELECT max(seq) FROM consent_event l WHERE l.handle = s.handle AND l.purpose = s.purpose)
    """
    with any_world.services.database.read() as session:
        assert session.execute(text(query)).scalar_one() == len(Purpose)


def test_a_failing_receipt_leaves_no_half_written_change(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    device = world.enrol()
    written = []

    def fails_at_the_second(receipt: ConsentReceipt, _key: object) -> str:
        written.append(receipt)
        if len(written) == 2:
            raise RuntimeError(f"signer broke for {receipt.handle}")
        return "x"

    monkeypatch.setattr("server.consent.recording.seal", fails_at_the_second)
    answer = world.change(device)
    assert (answer.status_code, answer.json()["title"]) == (500, "InternalError")
    assert len(written) == 2
    assert "unforeseen RuntimeError at test_consent.py" in caplog.text
    assert device.handle not in caplog.text + answer.text
    assert set(states(world, device.headers).values()) == {("unknown", False, "consent-required")}


def test_keys_expire_and_can_be_revoked(world: World) -> None:
    admin = world.key(Role.ADMIN)
    made = world.http.post("/v1/api-keys", json={"role": "app_backend", "days": 1}, headers=admin).json()
    assert made["api_key"].startswith("rtk_app_backend_")
    headers = bearer(made["api_key"])
    assert world.decide(None, headers)["mode"] == "contextual"
    world.clock.advance(DAY)
    assert world.http.post("/v1/decisions", json={"slots": [{"slot_id": "a"}]}, headers=headers).status_code == 401
    other = world.http.post("/v1/api-keys", json={"role": "app_backend"}, headers=admin).json()
    assert world.http.delete(f"/v1/api-keys/{other['key_id']}", headers=admin).status_code == 204
    answer = world.http.post("/v1/decisions", json={"slots": [{"slot_id": "a"}]}, headers=bearer(other["api_key"]))
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


def test_keys_are_stored_only_as_hashes(world: World) -> None:
    token = world.key(Role.ADMIN)["authorization"].removeprefix("Bearer ")
    world.services.database.close()
    stored = (world.services.settings.state_dir / DATABASE_FILE).read_bytes()
    assert b"admin" in stored
    assert token.encode() not in stored
