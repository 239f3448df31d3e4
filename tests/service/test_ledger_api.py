"""The privacy ledger over HTTP: figures against the accountant, pages, caps by two officers, and who may not."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from common.privacy.recompute import recompute_epsilon
from common.taxonomy import LogKind, Role, Task
from policies.budget import PlannedRelease
from policies.releases import segments_of
from server.ledger.audits import DIRECTORY
from server.ledger.repository import pseudonym
from tests.service.world import World

DEVICES = [bytes([number]) * 32 for number in range(1, 6)]
ROUNDS = 3
AUDIT = {
    "schema_version": "reticent-audit-1",
    "policy_digest": "0" * 64,
    "lines": [
        {"unit": "user", "epsilon_declared": 8.0, "epsilon_audited": 1.25, "findings": [{"passed": True}]},
        {"unit": "record", "epsilon_declared": 3.2, "epsilon_audited": 0.5, "findings": [{"passed": True}]},
    ],
}


def one_round(world: World) -> Sequence[PlannedRelease]:
    return [PlannedRelease(s.kind, s.use) for s in segments_of(world.services.ledger.policy, Task.TRAIN, 500)]


@pytest.fixture
def charged(any_world: World) -> World:
    for number in range(ROUNDS):
        any_world.services.ledger.reserve("run-0", f"s{number}", one_round(any_world), DEVICES[: 5 - number])
    return any_world


@pytest.fixture
def officers(charged: World) -> tuple[dict[str, str], dict[str, str]]:
    return charged.key(Role.PRIVACY_OFFICER, holder="ana"), charged.key(Role.PRIVACY_OFFICER, holder="bo")


def get(world: World, path: str, headers: dict[str, str]) -> dict[str, object]:
    answer = world.http.get(f"/v1/ledger{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return dict(answer.json())


def test_the_overview_agrees_with_an_independent_accountant(
    charged: World, officers: tuple[dict[str, str], dict[str, str]]
) -> None:
    found = charged.http.get("/v1/ledger", headers=officers[0]).json()
    uses = [release.use for release in one_round(charged)]
    user = found["lines"][0]
    cap = user["bounds"][0]
    assert cap["spent_max"] == pytest.approx(recompute_epsilon(uses * ROUNDS, user["delta"]), rel=0.01)
    assert cap["remaining"] == pytest.approx(10 - cap["spent_max"])
    assert (cap["binding"], cap["in_force"], cap["officers"]) == ("document", 10.0, None)
    assert (found["devices"], found["charges"], found["erased"]) == (5, ROUNDS, 0)
    (claim,) = found["runs"][0]["claims"]
    assert {"epsilon", "delta", "unit", "relation", "trust", "composition"} <= claim.keys()
    assert user["epsilon_audited"] is None
    folder = charged.services.settings.state_dir / DIRECTORY
    folder.mkdir()
    (folder / "broken.json").write_text("{", "utf-8")
    (folder / "first.json").write_text(json.dumps(AUDIT), "utf-8")
    found = charged.http.get("/v1/ledger", headers=officers[0]).json()
    assert [line["epsilon_audited"] for line in found["lines"]] == [1.25, 0.5]
    assert (found["audit"]["name"], found["audit"]["passed"]) == ("first.json", True)


def test_entries_and_subjects_are_paged_and_name_nobody(
    charged: World, officers: tuple[dict[str, str], dict[str, str]]
) -> None:
    for path, field, count in (("/entries", "entries", ROUNDS), ("/subjects", "subjects", 5)):
        rows, cursor = [], ""
        while cursor is not None:
            page = get(charged, f"{path}?limit=2{cursor and f'&cursor={cursor}'}", officers[0])
            rows += page[field]  # type: ignore[operator]
            cursor = page["next_cursor"]  # type: ignore[assignment]
        assert len(rows) == count
        assert "members" not in json.dumps(rows)
    assert {row["name"] for row in rows} == {pseudonym(device).hex() for device in DEVICES}
    assert [row["releases"] for row in rows].count(ROUNDS) == 3
    assert get(charged, "/entries?run_id=other", officers[0])["entries"] == []
    logged = [entry.leaf.seq for entry in charged.services.log.events(limit=100, kind=LogKind.CHARGE)]
    assert [row["log_seq"] for row in get(charged, "/entries", officers[0])["entries"]] == logged  # type: ignore[union-attr]


def test_the_projection_is_what_then_happens(charged: World, officers: tuple[dict[str, str], dict[str, str]]) -> None:
    (line,) = get(charged, "/projection?rounds=2&weights=500", officers[0])["lines"]  # type: ignore[misc]
    worst, made = DEVICES[0], 0
    while not charged.services.ledger.reserve("run-1", f"t{made}", one_round(charged), [worst]):
        made += 1
        if made == 2:
            assert charged.services.ledger.epsilon(worst) == pytest.approx(line["epsilon_then"])
    assert made == line["rounds_possible"]
    (line,) = get(charged, "/projection?rounds=1&weights=500", officers[0])["lines"]  # type: ignore[misc]
    assert (line["allowed"], line["rounds_possible"]) == (False, 0)


def test_caps_by_two_officers(charged: World, officers: tuple[dict[str, str], dict[str, str]]) -> None:
    ana, bo = officers

    def propose(value: object, headers: dict[str, str] = ana, **more: object) -> dict[str, object]:
        body = {"unit": "user", "bound": "cap", "epsilon_max": value, "reason": "review"} | more
        answer = charged.http.post("/v1/ledger/caps", json=body, headers=headers)
        return {"status": answer.status_code} | answer.json()

    assert propose(3.0)["state"] == "in_force"
    raised = propose(6.0)
    path = f"/v1/ledger/caps/{raised['id']}"
    mine = charged.http.post(f"{path}/approve", headers=ana)
    assert (mine.status_code, mine.json()["title"]) == (403, "SecondOfficerNeeded")
    second_key = charged.key(Role.PRIVACY_OFFICER, holder="ana")
    assert charged.http.post(f"{path}/approve", headers=second_key).status_code == 403, "another key, the same person"
    assert charged.http.post(f"{path}/approve", headers=bo).json()["state"] == "in_force"
    assert charged.http.post(f"{path}/approve", headers=bo).status_code == 409
    found = get(charged, "/caps", ana)
    assert found["in_force"][0]["binding"] == "officers"  # type: ignore[index]
    assert [cap["state"] for cap in found["caps"]] == ["in_force", "replaced"]  # type: ignore[union-attr]
    assert propose(10.5)["title"] == "OutOfRange"
    assert propose(float("1e4"))["status"] == 422
    assert propose(1.0, bound="train.local")["title"] == "OutOfRange"
    rejected = propose(9.0)
    assert charged.http.post(f"/v1/ledger/caps/{rejected['id']}/reject", headers=ana).json()["state"] == "rejected"
    assert charged.http.post("/v1/ledger/caps/999/approve", headers=bo).status_code == 404


def test_auditors_read_and_others_do_not(charged: World) -> None:
    auditor, admin = charged.key(Role.AUDITOR, holder="x"), charged.key(Role.ADMIN, holder="y")
    device = charged.enrol()
    body = {"unit": "user", "epsilon_max": 1.0, "reason": "x"}
    for path in ("", "/entries", "/subjects", "/projection", "/caps"):
        get(charged, path, auditor)
        assert charged.http.get(f"/v1/ledger{path}", headers=admin).status_code == 403
        assert charged.http.get(f"/v1/ledger{path}", headers=device.headers).status_code == 403
        assert charged.http.get(f"/v1/ledger{path}").status_code == 401
    for headers in (auditor, admin):
        assert charged.http.post("/v1/ledger/caps", json=body, headers=headers).status_code == 403
        assert charged.http.post("/v1/ledger/caps/1/approve", headers=headers).status_code == 403


def test_an_officer_cannot_make_the_second_officer(charged: World) -> None:
    """Whoever could issue an officer's key could be two people; such keys are made on the machine."""
    ana = charged.key(Role.PRIVACY_OFFICER, holder="ana")
    for role, expected in (("privacy_officer", 403), ("auditor", 201)):
        made = charged.http.post("/v1/api-keys", json={"role": role, "holder": "bo"}, headers=ana)
        assert made.status_code == expected, role


def test_the_same_person_in_other_letters_is_the_same_person(charged: World) -> None:
    body = {"unit": "user", "bound": "cap", "reason": "a test"}
    ana, again = (charged.key(Role.PRIVACY_OFFICER, holder=name) for name in ("ana", "Ana"))
    lowered = charged.http.post("/v1/ledger/caps", json=body | {"epsilon_max": 1.0}, headers=ana)
    assert lowered.status_code == 201, lowered.text
    raised = charged.http.post("/v1/ledger/caps", json=body | {"epsilon_max": 1.5}, headers=ana).json()
    answer = charged.http.post(f"/v1/ledger/caps/{raised['id']}/approve", headers=again)
    assert (answer.status_code, answer.json()["title"]) == (403, "SecondOfficerNeeded")
