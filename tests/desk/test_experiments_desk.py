"""Experiments at the desk: what waits for a second person, what runs, what it has shown, and its end."""

from __future__ import annotations

import pytest

from common.taxonomy import ChangeState, Role
from policies.loader import DOCUMENTS
from server.access.principal import Principal
from server.api.services import Services
from server.experiments.changes import ArmDraft, ExperimentDraft, PolicyChange
from tests.desk.accessible import faults
from tests.desk.conftest import Installed, Visit, key_of

OWN = (DOCUMENTS / "placement.yaml").read_text(encoding="utf-8")
OTHER = OWN.replace("version: 1", "version: 2").replace("name: default", "name: narrower")
ROOT = Principal(Role.ADMIN, holder="root")


def proposed(services: Services, *, method: str = "sequential", caller: Principal = ROOT) -> int:
    """An experiment that waits; its number."""
    draft = ExperimentDraft.model_validate(
        {
            "experiment_id": "narrower",
            "arms": [
                ArmDraft(name="arm0", share=5000, policy_text=OWN).model_dump(),
                ArmDraft(name="arm1", share=5000, policy_text=OTHER).model_dump(),
            ],
            "length_s": 14 * 86_400,
            "method": method,
        }
    )
    return services.proposals.propose(draft, caller, reason="fewer repeats", evidence={"value": "<b>0.12</b>"}).id


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_a_second_person_starts_it_its_report_is_shown_and_it_is_stopped(
    services: Services, filled: Installed, language: str
) -> None:
    visit = Visit(services, language=language)
    visit.sign_in(filled.keys["lin.officer"])
    number = proposed(services)
    page = visit.get("/experiments").text
    assert faults(page) == []
    assert f'action="/desk/changes/{number}"' in page
    assert "&lt;b&gt;0.12" in page, "evidence is shown as text"
    assert visit.post(f"/changes/{number}", decision="approve").status_code == 200
    running = services.experiments.in_force()
    assert running is not None
    page = visit.get("/experiments").text
    assert faults(page) == []
    for said in ("50 %", "arm0", "arm1", running.digest[:16]):
        assert said in page
    if language == "en":
        assert "every look, at any time (asymptotic confidence sequence)" in page
        assert "as declared" in page
    visit.post("/experiments/narrower/stop", reason="enough was seen")
    assert services.experiments.in_force() is None
    assert services.experiments.stored("narrower").stopped_by == "lin.officer"
    assert visit.get("/experiments?experiment=narrower").status_code == 200
    assert visit.get("/experiments?experiment=none").status_code == 404


def test_before_its_end_a_fixed_horizon_shows_no_interval(services: Services, officer: Visit) -> None:
    services.proposals.approve(proposed(services, method="fixed_horizon"), Principal(Role.ADMIN, holder="wei"))
    page = officer.get("/experiments").text
    assert "one look, after the end of the experiment" in page
    assert "no interval is due yet" in page


def test_who_proposed_it_does_not_decide_it(services: Services, officer: Visit, second: Visit) -> None:
    ada = Principal(Role.PRIVACY_OFFICER, holder="ada.officer")
    number = services.proposals.propose(PolicyChange(text=OTHER), ada, reason="it earned more").id
    assert ">Approve<" not in officer.get("/experiments").text
    assert officer.post(f"/changes/{number}", decision="approve").status_code == 403
    assert services.proposals.get(number).state is ChangeState.PROPOSED
    assert ">Approve<" in second.get("/experiments").text
    assert second.post(f"/changes/{number}", decision="approve").status_code == 200
    assert next(iter(services.placement.history(None, 1))).text == OTHER
    assert second.post(f"/changes/{number}", decision="approve").status_code == 409


def test_an_auditor_reads_and_an_admin_decides(services: Services, filled: Installed) -> None:
    number = proposed(services, caller=Principal(Role.ADMIN, holder="somebody"))
    auditor, admin = Visit(services), Visit(services)
    auditor.sign_in(filled.keys["ines.auditor"])
    admin.sign_in(key_of(services, Role.ADMIN))
    assert "<details>" in auditor.get("/experiments").text
    assert "/desk/changes/" not in auditor.page
    assert auditor.post(f"/changes/{number}", decision="reject").status_code == 403
    admin.get("/experiments")
    assert admin.post(f"/changes/{number}", decision="reject", token="").status_code == 403
    assert admin.post(f"/changes/{number}", decision="reject").status_code == 200
    assert services.proposals.get(number).state is ChangeState.REJECTED
