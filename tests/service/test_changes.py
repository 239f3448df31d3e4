"""Two people put a policy in force at the next decision, one takes it back; experiments start and end; all logged."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import httpx
import pytest

from common.errors import TrustError
from common.taxonomy import LogKind, Role
from common.wire.documents import open_document
from common.wire.experiments import ExperimentDocument
from common.wire.messages import PolicyDocument
from policies.experiments.arms import arm_of
from policies.loader import DOCUMENTS
from server.api.services import announce, build_services
from server.transparency import repository as log_repository
from tests.service.world import World

OWN = (DOCUMENTS / "placement.yaml").read_text(encoding="utf-8")
OTHER = OWN.replace("version: 1", "version: 2").replace("name: default", "name: narrower").replace("k: 50", "k: 1")
DAY = 86_400


def propose(world: World, change: dict[str, Any], who: str = "ada", role: Role = Role.ADMIN) -> httpx.Response:
    body = {"change": change, "reason": "it earned more", "evidence": {"policies": ["narrower"]}}
    return world.http.post("/v1/changes", json=body, headers=world.key(role, holder=who))


def answer(world: World, number: int, word: str, who: str, role: Role = Role.PRIVACY_OFFICER) -> httpx.Response:
    return world.http.post(f"/v1/changes/{number}/{word}", headers=world.key(role, holder=who))


def promoted(world: World, text: str = OTHER) -> httpx.Response:
    number = propose(world, {"kind": "placement_policy", "text": text}).json()["number"]
    return answer(world, number, "approve", "wei")


def in_force(world: World) -> str:
    jws = world.http.get("/v1/policy/current").text
    return open_document(jws, PolicyDocument, world.services.keys).text


def decided_by(world: World) -> str:
    device = world.enrol()
    return str(world.decide(device.handle, device.headers)["policy_digest"])


def logged(world: World, kind: LogKind) -> list[dict[str, Any]]:
    with world.services.database.read() as session:
        entries = list(log_repository.entries(session, kinds=(kind,)))
    return [json.loads(entry.opening.record) for entry in entries if entry.opening is not None]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def arms(*texts: str) -> list[dict[str, Any]]:
    share = 10_000 // len(texts)
    return [{"name": f"arm{i}", "share": share, "policy_text": text} for i, text in enumerate(texts)]


def experiment(**more: object) -> dict[str, Any]:
    draft = {"kind": "experiment", "experiment_id": "narrower", "arms": arms(OWN, OTHER)}
    return draft | {"length_s": 14 * DAY} | more


def started(world: World, **more: object) -> httpx.Response:
    made = propose(world, experiment(**more))
    assert made.status_code == 201, made.text
    return answer(world, made.json()["number"], "approve", "wei")


# ── policies ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_people_put_a_policy_in_force_at_the_next_decision(any_world: World) -> None:
    world = any_world
    assert (in_force(world), decided_by(world)) == (OWN, digest(OWN))
    made = propose(world, {"kind": "placement_policy", "text": OTHER})
    assert made.status_code == 201
    assert made.json()["state"] == "proposed"
    assert (in_force(world), decided_by(world)) == (OWN, digest(OWN))  # nothing yet
    done = answer(world, made.json()["number"], "approve", "wei")
    assert (done.status_code, done.json()["state"], done.json()["decided_by"]) == (200, "approved", "wei")
    assert (in_force(world), decided_by(world)) == (OTHER, digest(OTHER))
    record = logged(world, LogKind.POLICY)[-1]
    assert (record["event"], record["sha256"], record["text"]) == ("promoted", digest(OTHER), OTHER)
    assert [(one["state"], one["proposed_by"]) for one in logged(world, LogKind.EXPERIMENT)] == [
        ("proposed", "ada"),
        ("approved", "ada"),
    ]


def test_who_proposed_it_cannot_approve_it_under_any_key(world: World) -> None:
    number = propose(world, {"kind": "placement_policy", "text": OTHER}).json()["number"]
    for who, role in (("ada", Role.ADMIN), ("ADA", Role.PRIVACY_OFFICER)):
        refused = answer(world, number, "approve", who, role)
        assert (refused.status_code, refused.json()["title"]) == (403, "SecondOfficerNeeded")
    assert answer(world, number, "approve", "wei", Role.AUDITOR).status_code == 403
    assert in_force(world) == OWN
    assert answer(world, number, "reject", "ada").json()["state"] == "rejected"
    late = answer(world, number, "approve", "wei")
    assert (late.status_code, late.json()["title"]) == (409, "NotPending")


def test_a_proposal_lapses(world: World) -> None:
    number = propose(world, {"kind": "placement_policy", "text": OTHER}).json()["number"]
    world.clock.advance(14 * DAY)
    assert answer(world, number, "approve", "wei").json()["title"] == "NotPending"
    found = world.http.get("/v1/changes", headers=world.key(Role.AUDITOR, holder="eve")).json()["changes"]
    assert [(one["number"], one["state"]) for one in found] == [(number, "expired")]


def test_what_lint_refuses_is_not_even_proposed(world: World) -> None:
    for text, error in (
        ("version: 2", "PolicyError"),
        (OTHER.replace("    - religion\n", ""), "InvariantViolated"),
        (OTHER + "price: 3\n", "PolicyError"),
    ):
        refused = propose(world, {"kind": "placement_policy", "text": text})
        assert (refused.status_code, refused.json()["title"]) == (422, error)


def test_one_person_takes_a_policy_back(furnished: World) -> None:
    world = furnished
    key = world.key(Role.ADMIN, holder="ada")
    nothing = world.http.post("/v1/policy/rollback", json={"reason": "x"}, headers=key)
    assert nothing.status_code == 404
    assert promoted(world).status_code == 200
    third = OTHER.replace("k: 1\n", "k: 2\n").replace("version: 2", "version: 3")
    assert promoted(world, third).status_code == 200
    for version, text in ((None, OTHER), (2, third), (0, OWN)):
        done = world.http.post("/v1/policy/rollback", json={"version": version, "reason": "worse"}, headers=key)
        assert done.status_code == 200, done.text
        assert (in_force(world), decided_by(world)) == (text, digest(text))
        record = logged(world, LogKind.POLICY)[-1]
        assert (record["event"], record["sha256"], record["reason"]) == ("rolled back", digest(text), "worse")
    versions = world.http.get("/v1/policy/versions", headers=key).json()["versions"]
    assert [one["version"] for one in versions] == [5, 4, 3, 2, 1]
    assert world.http.post("/v1/policy/rollback", json={"version": 9, "reason": "x"}, headers=key).status_code == 404


def test_a_promoted_policy_stays_in_force_after_a_restart_and_is_not_logged_again(furnished: World) -> None:
    world = furnished
    assert promoted(world).status_code == 200
    before = logged(world, LogKind.POLICY)
    again = build_services(world.services.settings, clock=world.clock)
    announce(again)
    assert again.placement.current().digest == digest(OTHER)
    assert logged(world, LogKind.POLICY) == before
    again.database.close()


def test_another_process_sees_a_promotion_at_once(furnished: World) -> None:
    """Control: what was read before the promotion would still be the old one."""
    other = build_services(furnished.services.settings, clock=furnished.clock)
    held = other.placement.current()
    assert promoted(furnished).status_code == 200
    assert other.placement.current().digest == digest(OTHER) != held.digest
    other.database.close()


# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_experiment_is_signed_public_and_ends_by_itself(any_world: World) -> None:
    world = any_world
    assert world.http.get("/v1/experiments/current").status_code == 204
    assert started(world).status_code == 200
    answered = world.http.get("/v1/experiments/current")
    document = open_document(answered.text, ExperimentDocument, world.services.keys)
    assert [arm.policy_digest for arm in document.arms] == [digest(OWN), digest(OTHER)]
    again = world.http.get("/v1/experiments/current", headers={"if-none-match": answered.headers["etag"]})
    assert again.status_code == 304
    with pytest.raises(TrustError):
        open_document(answered.text[:-8] + "AAAAAAAA", ExperimentDocument, world.services.keys)
    world.clock.advance(14 * DAY)
    assert world.http.get("/v1/experiments/current").status_code == 204


def test_nothing_changes_under_a_running_experiment_until_one_person_stops_it(furnished: World) -> None:
    world = furnished
    assert started(world).status_code == 200
    blocked = promoted(world)
    assert (blocked.status_code, blocked.json()["title"]) == (409, "ExperimentRunning")
    second = started(world, experiment_id="another")
    assert second.json()["title"] == "ExperimentRunning"
    key = world.key(Role.PRIVACY_OFFICER, holder="wei")
    stopped = world.http.post("/v1/experiments/narrower/stop", json={"reason": "complaints"}, headers=key)
    assert stopped.json()["stopped_by"] == "wei"
    assert world.http.get("/v1/experiments/current").status_code == 204
    assert logged(world, LogKind.EXPERIMENT)[-1]["event"] == "stopped"
    assert promoted(world).status_code == 200
    repeated = started(world)  # its name is used up, and its first arm is not in force any more
    assert repeated.json()["title"] == "MalformedInput"


def test_an_experiment_whose_first_arm_is_not_in_force_is_not_started(world: World) -> None:
    refused = started(world, arms=arms(OTHER, OWN))
    assert (refused.status_code, refused.json()["title"]) == (400, "MalformedInput")
    assert world.services.experiments.in_force() is None


def test_forms_are_checked_before_anybody_reads_them(world: World) -> None:
    short = [{"name": "a", "share": 4000, "policy_text": OWN}, {"name": "b", "share": 4000, "policy_text": OTHER}]
    for change in (
        {"arms": short},
        {"arms": arms(OWN)},
        {"experiment_id": "../up"},
        {"method": "peeking"},
        {"length_s": 5},
    ):
        assert propose(world, experiment(**change)).status_code == 422
    for change in ({"kind": "price", "to": 3}, {"kind": "budget", "campaign_id": "c", "budget_micros": -1}, {}):
        assert propose(world, change).status_code == 422


# ── the split and the report ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_decision_without_a_person_is_in_the_arm_of_its_id(furnished: World) -> None:
    world = furnished
    assert started(world).status_code == 200
    running = world.services.experiments.in_force()
    assert running is not None
    used, key = set(), world.key(Role.APP_BACKEND)
    for _ in range(40):
        made = world.decide(None, key)
        arm = arm_of(running.document, made["decision_id"])
        used.add(made["policy_digest"])
        assert made["policy_digest"] == arm.policy_digest
    assert used == {digest(OWN), digest(OTHER)}


def test_the_report_counts_what_was_confirmed(furnished: World) -> None:
    world = furnished
    assert started(world).status_code == 200
    running = world.services.experiments.in_force()
    assert running is not None
    expected = {"arm0": [0, 0, 0], "arm1": [0, 0, 0]}
    key = world.key(Role.APP_BACKEND)
    for number in range(30):
        made = world.decide(None, key)
        counts = expected[arm_of(running.document, made["decision_id"]).name]
        tokens = made["slots"][0]["tokens"]
        counts[0] += 1
        for place, kind in enumerate(("impression", "click")[: number % 3], start=1):
            counts[place] += 1
            body = {"token": tokens[kind], "follow_up": kind}
            assert world.http.post("/v1/events", json=body).status_code == 202
    report = world.http.get("/v1/experiments/narrower/report", headers=world.key(Role.AUDITOR, holder="eve")).json()
    (table,) = report["tables"]
    found = {arm["name"]: [arm["units"], arm["views"], arm["rewards"]] for arm in table["arms"]}
    assert found == expected
    assert (report["method"], table["source"], table["split"]["broken"]) == ("sequential", "service", False)
    difference = table["arms"][1]["difference"]
    assert difference["low"] < difference["value"] < difference["high"]
    assert table["arms"][0]["difference"] is None


def test_a_fixed_horizon_gives_no_interval_before_its_end(furnished: World) -> None:
    world = furnished
    assert started(world, method="fixed_horizon").status_code == 200
    key, reader = world.key(Role.APP_BACKEND), world.key(Role.ADMIN, holder="ada")
    for _ in range(20):
        tokens = world.decide(None, key)["slots"][0]["tokens"]
        body = {"token": tokens["impression"], "follow_up": "impression"}
        assert world.http.post("/v1/events", json=body).status_code == 202
    early = world.http.get("/v1/experiments/narrower/report", headers=reader).json()
    assert early["tables"][0]["arms"][1]["difference"] is None
    world.clock.advance(14 * DAY)
    late = world.http.get("/v1/experiments/narrower/report", headers=reader).json()
    assert not late["running"]
    assert late["tables"][0]["arms"][1]["difference"] is not None
