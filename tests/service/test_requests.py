"""Data subjects' requests over HTTP: kinds, deadlines, states, officers, packages and acknowledgements."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from common.crypto import signing
from common.crypto.signing import key_ring
from common.taxonomy import DenialReason, LogKind, Purpose, RequestKind, Role
from common.transparency.leaf import text_of
from common.wire.documents import open_document
from common.wire.requests import RequestAcknowledgement
from policies.loader import DOCUMENTS
from server.api.services import initialise
from server.requests.package import MANIFEST, PACKAGE_TYP
from server.settings import Settings
from tests.service.world import Clock, Device, World

DAY = 86_400


def submit(world: World, device: Device, request: str, expected: int = 201, **more: object) -> dict[str, object]:
    body = {"handle": device.handle, "request": request} | more
    answer = world.http.post("/v1/dsr", json=body, headers=device.headers)
    assert answer.status_code == expected, answer.text
    return dict(answer.json())


def word(world: World, answer: dict[str, object]) -> RequestAcknowledgement:
    return open_document(str(answer["acknowledgement"]), RequestAcknowledgement, key_ring(world.services.signer.public))


def standing(world: World, device: Device) -> dict[str, str | None]:
    states = world.services.consent.effective(device.handle)
    return {state.purpose.value: None if state.reason is None else state.reason.value for state in states}


@pytest.fixture
def officers(any_world: World) -> tuple[dict[str, str], dict[str, str]]:
    return any_world.key(Role.PRIVACY_OFFICER, holder="ana"), any_world.key(Role.PRIVACY_OFFICER, holder="bo")


@pytest.fixture
def careful(tmp_path: Path) -> World:
    """An installation whose officers look at everything."""
    documents = tmp_path / "policies"
    documents.mkdir()
    for source in DOCUMENTS.glob("*.yaml"):
        (documents / source.name).write_bytes(source.read_bytes())
    rules = yaml.safe_load((documents / "requests.yaml").read_text("utf-8"))
    rules["handling"] = dict.fromkeys(rules["handling"], "officer")
    (documents / "requests.yaml").write_text(yaml.safe_dump(rules), "utf-8")
    clock, settings = Clock(), replace(Settings.at(tmp_path / "state"), policies=documents)
    return World(initialise(settings, clock=clock), clock)


@pytest.mark.parametrize(
    ("request_kind", "begun"), [("objection", "objected"), ("restriction", "processing-restricted")]
)
def test_objection_and_restriction_hold_at_once_and_can_be_lifted(
    any_world: World, request_kind: str, begun: str
) -> None:
    device = any_world.consenting()
    assert set(standing(any_world, device).values()) == {None}
    answer = submit(any_world, device, request_kind)
    assert answer["status"] == "completed"
    assert begun in set(standing(any_world, device).values())
    submit(any_world, device, request_kind, lift=True)
    assert set(standing(any_world, device).values()) == {None}


def test_rectification_towards_protection_is_done_and_away_from_it_waits(
    any_world: World, officers: tuple[dict[str, str], dict[str, str]]
) -> None:
    device = any_world.consenting()
    assert submit(any_world, device, "rectification", age_band="minor")["status"] == "completed"
    assert set(standing(any_world, device).values()) == {"minor-protected"}
    waiting = submit(any_world, device, "rectification", age_band="adult")
    assert waiting["status"] == "pending"
    assert submit(any_world, device, "rectification", age_band="adult")["request_id"] == waiting["request_id"]
    assert set(standing(any_world, device).values()) == {"minor-protected"}
    path, officer = f"/v1/dsr/{waiting['request_id']}", officers[0]
    assert any_world.http.post(f"{path}/complete", headers=officer).status_code == 409, "not before it is approved"
    assert any_world.http.post(f"{path}/approve", headers=officer).json()["status"] == "in_progress"
    assert any_world.http.post(f"{path}/complete", headers=officer).json()["status"] == "completed"
    assert set(standing(any_world, device).values()) != {"minor-protected"}
    assert None not in standing(any_world, device).values(), "grants of a minor do not come back"
    for verb in ("approve", "complete", "deny"):
        answer = any_world.http.post(f"{path}/{verb}", headers=officer, json={"reason": "manifestly-unfounded"})
        assert answer.status_code == 409, verb
    steps = any_world.http.get("/v1/dsr", headers=officer).json()["requests"][0]["steps"]
    assert [(step["actor"], step["status"]) for step in steps] == [
        ("device", "pending"),
        ("privacy_officer:ana", "in_progress"),
        ("privacy_officer:ana", "completed"),
    ]


def test_a_denial_names_its_reason_and_is_signed(
    any_world: World, officers: tuple[dict[str, str], dict[str, str]]
) -> None:
    device = any_world.enrol(age_band="unknown")
    waiting = submit(any_world, device, "rectification", age_band="adult")
    path = f"/v1/dsr/{waiting['request_id']}"
    for bad in ({}, {"reason": "because"}, {"reason": "manifestly-unfounded", "text": "x"}):
        assert any_world.http.post(f"{path}/deny", json=bad, headers=officers[0]).status_code == 422
    any_world.http.post(f"{path}/deny", json={"reason": "identity-not-verified"}, headers=officers[0])
    seen = any_world.http.get(path, headers=device.headers).json()
    assert (seen["status"], seen["denial"]) == ("denied", "identity-not-verified")
    assert word(any_world, seen).denial is DenialReason.NOT_VERIFIED


def test_a_pending_request_can_be_taken_back_once(any_world: World) -> None:
    device, other = any_world.enrol(age_band="minor"), any_world.enrol()
    waiting = submit(any_world, device, "rectification", age_band="adult")
    path = f"/v1/dsr/{waiting['request_id']}"
    assert any_world.http.delete(path, headers=other.headers).status_code == 404
    officer = any_world.key(Role.PRIVACY_OFFICER, holder="ana")
    assert any_world.http.delete(path, headers=officer).status_code == 403, "an officer answers or denies it"
    answer = any_world.http.delete(path, headers=device.headers)
    assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    again = any_world.http.delete(path, headers=device.headers)
    assert (again.status_code, again.json()["title"]) == (409, "NotPending")


def test_nobody_reads_or_asks_for_somebody_else(any_world: World) -> None:
    device, other = any_world.consenting(), any_world.enrol()
    body = {"handle": device.handle, "request": "erasure"}
    assert any_world.http.post("/v1/dsr", json=body, headers=other.headers).status_code == 403
    mine = submit(any_world, device, "access")
    for path in ("", "/package"):
        answer = any_world.http.get(f"/v1/dsr/{mine['request_id']}{path}", headers=other.headers)
        assert answer.status_code == 404, path
    officer, auditor, admin = (
        any_world.key(role, holder="x") for role in (Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN)
    )
    package = f"/v1/dsr/{mine['request_id']}/package"
    assert any_world.http.get(package, headers=officer).status_code == 404, "what a device asked for is its owner's"
    assert any_world.http.get(package, headers=auditor).status_code == 403
    assert any_world.http.get("/v1/dsr", headers=auditor).status_code == 200
    assert any_world.http.get("/v1/dsr", headers=admin).status_code == 403
    assert any_world.http.get("/v1/dsr", headers=device.headers).status_code == 403
    assert any_world.http.post("/v1/dsr", json=body).status_code == 401


def test_an_access_package_holds_what_is_held_and_is_signed(any_world: World) -> None:
    device = any_world.consenting()
    answer = submit(any_world, device, "access", locale="zh-CN")
    assert answer["package"] is True
    body = any_world.http.get(f"/v1/dsr/{answer['request_id']}/package", headers=device.headers)
    assert (body.status_code, body.headers["content-type"]) == (200, "application/zip")
    with zipfile.ZipFile(io.BytesIO(body.content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    ring = key_ring(any_world.services.signer.public)
    manifest = json.loads(signing.verify(files.pop(MANIFEST).decode(), ring, PACKAGE_TYP))
    assert manifest["request_id"] == answer["request_id"]
    assert manifest["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    subject = json.loads(files["subject.json"])
    assert (subject["handle"], subject["public_key"]) == (device.handle, device.key.public.x)
    events = json.loads(files["consents.json"])
    assert {event["purpose"] for event in events} == {purpose.value for purpose in Purpose}
    assert all(f"receipts/{event['receipt_id']}.jws" in files for event in events)
    for entry in json.loads(files["log.json"]):
        known = any_world.services.log.inclusion(entry["leaf"]["seq"])
        assert text_of(known.leaf_hash) == entry["leaf_hash"]
    assert json.loads(files["processing.json"])["purposes"]
    assert "您" in files["README.txt"].decode()
    plain = submit(any_world, device, "portability")
    body = any_world.http.get(f"/v1/dsr/{plain['request_id']}/package", headers=device.headers)
    with zipfile.ZipFile(io.BytesIO(body.content)) as archive:
        assert "processing.json" not in archive.namelist()
    any_world.clock.advance(31 * DAY)
    gone = any_world.http.get(f"/v1/dsr/{plain['request_id']}/package", headers=device.headers)
    assert (gone.status_code, gone.json()["title"]) == (410, "PackageGone")
    nothing = submit(any_world, device, "objection")
    gone = any_world.http.get(f"/v1/dsr/{nothing['request_id']}/package", headers=device.headers)
    assert gone.status_code == 410


def test_an_officer_asks_on_somebody_s_behalf(
    any_world: World, officers: tuple[dict[str, str], dict[str, str]]
) -> None:
    device = any_world.consenting()
    body = {"handle": device.handle, "request": "access"}
    answer = any_world.http.post("/v1/dsr", json=body, headers=officers[0])
    assert (answer.status_code, answer.json()["status"]) == (201, "pending")
    path = f"/v1/dsr/{answer.json()['request_id']}"
    alone = any_world.http.post(f"{path}/approve", headers=officers[0])
    assert (alone.status_code, alone.json()["title"]) == (403, "SecondOfficerNeeded")
    assert any_world.http.post(f"{path}/approve", headers=officers[1]).status_code == 200
    any_world.http.post(f"{path}/complete", headers=officers[0])
    package = any_world.http.get(f"{path}/package", headers=officers[1])
    assert package.status_code == 200, "it was asked for through an officer, who hands it on"
    unknown = any_world.http.post("/v1/dsr", json=body | {"handle": "A" * 22}, headers=officers[0])
    assert unknown.status_code == 404


def test_an_erasure_that_waits_stops_everything_meanwhile(careful: World) -> None:
    device, officer = careful.consenting(), careful.key(Role.PRIVACY_OFFICER, holder="ana")
    answer = submit(careful, device, "erasure")
    assert answer["status"] == "pending"
    assert set(standing(careful, device).values()) == {"processing-restricted"}
    (waiting,) = careful.services.requests.open()
    assert waiting.request is RequestKind.ERASURE
    path = f"/v1/dsr/{answer['request_id']}"
    careful.http.post(f"{path}/approve", headers=officer)
    assert careful.http.get(path, headers=device.headers).json()["status"] == "in_progress"
    done = careful.http.post(f"{path}/complete", headers=officer)
    assert (done.json()["status"], done.json()["handle"]) == ("completed", None)
    assert set(standing(careful, device).values()) == {"unknown-subject"}
    public = careful.http.get(f"{path}/acknowledgement").json()
    assert word(careful, public).remains is not None
    careful.close()


def test_an_erasure_ends_what_else_was_pending(careful: World) -> None:
    device, officer = careful.consenting(), careful.key(Role.PRIVACY_OFFICER, holder="ana")
    access, erasure = submit(careful, device, "access"), submit(careful, device, "erasure")
    for verb in ("approve", "complete"):
        careful.http.post(f"/v1/dsr/{erasure['request_id']}/{verb}", headers=officer)
    rows = careful.http.get("/v1/dsr", headers=officer).json()["requests"]
    found = {row["request_id"]: (row["status"], row["handle"]) for row in rows}
    assert found == {access["request_id"]: ("cancelled", None), erasure["request_id"]: ("completed", None)}
    careful.close()


def test_the_list_is_paged_and_filtered(any_world: World, officers: tuple[dict[str, str], dict[str, str]]) -> None:
    device = any_world.consenting()
    for _ in range(3):
        submit(any_world, device, "access")
    submit(any_world, any_world.enrol(age_band="minor"), "rectification", age_band="adult")
    seen, path = [], "/v1/dsr?limit=2"
    while path:
        answer = any_world.http.get(path, headers=officers[0])
        seen += [row["request_id"] for row in answer.json()["requests"]]
        link = answer.headers.get("link")
        path = link.split(">")[0].removeprefix("<") if link else ""
    assert len(seen) == len(set(seen)) == 4
    pending = any_world.http.get("/v1/dsr", params={"status": "pending"}, headers=officers[0]).json()["requests"]
    assert [row["request"] for row in pending] == ["rectification"]
    assert any_world.http.get("/v1/dsr", params={"cursor": "nonsense"}, headers=officers[0]).status_code == 400


def test_every_step_is_logged_about_its_subject(any_world: World) -> None:
    device = any_world.consenting()
    submit(any_world, device, "access")
    with any_world.services.database.read() as session:
        about = any_world.services.log.about(session, device.handle)
    mine = [json.loads(e.opening.record) for e in about if e.opening and e.leaf.kind is LogKind.SUBJECT_REQUEST]
    assert [(row["request"], row["status"]) for row in mine] == [("access", "completed")]


def test_what_is_not_a_request_is_refused(any_world: World) -> None:
    device = any_world.consenting()
    for body in (
        {"request": "forget-me"},
        {"request": "rectification"},
        {"request": "access", "age_band": "adult"},
        {"request": "erasure", "lift": True},
        {"request": "access", "name": "Anna"},
    ):
        submit(any_world, device, **body, expected=422)  # type: ignore[arg-type]
    assert any_world.http.get("/v1/dsr/none", headers=device.headers).status_code == 422
    assert any_world.http.get("/v1/dsr/dsr_unknown_unknown/acknowledgement").status_code == 404


@pytest.mark.parametrize("request_kind", ["objection", "restriction"])
def test_only_the_person_lifts_an_objection_or_a_restriction(
    any_world: World, officers: tuple[dict[str, str], dict[str, str]], request_kind: str
) -> None:
    device = any_world.consenting()
    submit(any_world, device, request_kind)
    body = {"handle": device.handle, "request": request_kind, "lift": True}
    answer = any_world.http.post("/v1/dsr", json=body, headers=officers[0])
    assert (answer.status_code, answer.json()["title"]) == (403, "NotAllowed")
    assert None not in standing(any_world, device).values()
    answer = any_world.http.post("/v1/dsr", json=body | {"lift": False}, headers=officers[0])
    assert answer.status_code == 201, "towards protection an officer may ask"
