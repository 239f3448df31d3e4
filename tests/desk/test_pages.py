"""What the pages show, what reading them leaves behind, and what can be done on them."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from pathlib import Path

import pytest
from sqlalchemy import text

from cli.evidence.command import verify
from common.crypto.signing import PublicKey
from common.taxonomy import CapState, LogKind, PrivacyUnit, RequestKind, RequestStatus, Role
from common.wire.subject import SubjectRequest
from policies import budget
from server.access.principal import Principal
from server.api.services import Services
from server.consent.repository import enrolled_key
from server.dashboard.charts import number
from server.dashboard.pages import log as log_page
from server.ledger.repository import pseudonym
from server.reports.document import plain_cell
from server.transparency import recompute
from tests.desk.accessible import bare_epsilons, faults
from tests.desk.conftest import Installed, Visit, key_of

PAGES = (
    "/",
    "/budgets",
    "/releases",
    "/releases/1",
    "/consent",
    "/consent?jurisdiction=CN",
    "/search?q=nobody",
    "/requests",
    "/requests?status=completed",
    "/caps",
    "/controls",
    "/review",
    "/review?kind=campaign&state=submitted",
    "/placements",
    "/experiments",
    "/log",
    "/log?kind=privacy.cap",
    "/exports",
    "/reports/ropa",
    "/reports/dpia",
    "/reports/pipia",
    "/reports/consent",
)
RELATIVE = {
    "en": ("δ", "one user", "add or remove one", "secure aggregation", "composition"),
    "zh-CN": ("δ", "一位用户", "增加或移除一个", "安全聚合", "组合"),
}


@pytest.fixture(scope="module", params=["en", "zh-CN"])
def reader(request: pytest.FixtureRequest, reading: Services, filled: Installed) -> tuple[Visit, str]:
    visit = Visit(reading, language=request.param)
    visit.sign_in(filled.keys["lin.officer"])
    return visit, request.param


@pytest.mark.parametrize("path", PAGES)
def test_a_page_is_accessible_and_self_contained(reader: tuple[Visit, str], path: str) -> None:
    visit, language = reader
    answer = visit.get(path)
    assert answer.status_code == 200
    assert faults(answer.text) == []
    assert f'<html lang="{language}">' in answer.text
    assert "<script" not in answer.text
    assert not re.search(r"""\s(style|on\w+)=["']""", answer.text)
    assert not re.search(r"""(src|href|action)=["']?(https?:)?//""", answer.text)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"


def test_the_checker_catches_faults() -> None:
    bad = (
        "<html><head><title>x</title></head><body><main><h1>a</h1><h3>b</h3><input name='q'><button></button>"
        "<table><tr><th>c</th></tr></table><svg></svg><p id='i'></p><p id='i' aria-labelledby='gone'></p>"
        "</main></body></html>"
    )
    assert len(faults(bad)) >= 8


@pytest.mark.parametrize("path", [path for path in PAGES if "search" not in path])
def test_no_epsilon_stands_alone(reader: tuple[Visit, str], path: str) -> None:
    visit, language = reader
    html = visit.get(path).text
    if path in {"/", "/budgets", "/caps", "/releases", "/releases/1", "/reports/dpia"}:
        assert re.search(r"ε(&nbsp;|\s)=", html)
    assert bare_epsilons(html, words=RELATIVE[language]) == []


def test_the_epsilon_checker_catches_a_bare_one() -> None:
    page = "<html><body><section><p>ε = 8</p></section><section><p>δ, one user, composition</p></section></body></html>"
    assert bare_epsilons(page, words=("δ", "composition")) == ["'ε = 8': δ, composition"]


def test_figures_are_the_ledgers_own(reading: Services, filled: Installed) -> None:
    visit = Visit(reading)
    visit.sign_in(filled.keys["lin.officer"])
    html = visit.get("/budgets").text
    line = budget.headline(reading.ledger.policy)
    bound = next(row for row in reading.budgets.overview().lines if row.line.unit is PrivacyUnit.USER).standings[0]
    assert bound.spent_max > 1
    assert f"ε&nbsp;=&nbsp;{bound.spent_max:.3g}" in html
    assert f"ε&nbsp;=&nbsp;{bound.remaining:.3g}" in html
    assert "claimed ≤ 7.87" in html  # the stored audit
    assert "audited ≥ 2.63" in html
    assert f"cap {number(line.epsilon_cap)}" in html
    consent = visit.get("/consent").text
    for rate in reading.consent.rates():
        assert f"{100 * rate.given_share:.1f} %" in consent


def test_one_device(reading: Services, filled: Installed) -> None:
    name = next(
        row for row in reading.budgets.subjects(limit=500) if row.erased_in is None and row.spent[PrivacyUnit.USER] > 0
    )
    visit = Visit(reading)
    visit.sign_in(filled.keys["lin.officer"])
    html = visit.get(f"/budgets?device={name.name}").text
    assert f"ε&nbsp;=&nbsp;{name.spent[PrivacyUnit.USER]:.3g}" in html
    assert "The ledger knows no such device" in visit.get("/budgets?device=00ff").text


READS = (
    ("/search?q=nobody", "search"),
    ("/requests", "requests"),
    ("/log", "log"),
    ("/exports/requests", "export"),
    ("/budgets?device=00", "budget of one device"),
)


@pytest.mark.parametrize(("path", "what"), READS)
def test_privileged_reads_are_logged_under_the_readers_name(
    reading: Services, filled: Installed, path: str, what: str
) -> None:
    visit = Visit(reading)
    visit.sign_in(filled.keys["ines.auditor"])
    before = reading.log.size()
    assert visit.get(path).status_code == 200
    entries = reading.log.events(before - 1, 10, LogKind.PRIVILEGED_READ)
    records = [(entry.leaf.actor, json.loads(entry.opening.record)["what"]) for entry in entries if entry.opening]
    assert records == [("auditor:ines.auditor", what)]


def test_nothing_is_shown_that_the_log_cannot_note(services: Services, officer: Visit) -> None:
    person = services.consent.find(next(iter(_handles(services))))
    assert person
    with services.database.write() as session:
        session.execute(text("DROP TABLE log_record"))
    answer = officer.get(f"/search?q={person.subject.handle}")
    assert answer.status_code >= 500
    assert person.subject.handle not in answer.text


def test_search_by_receipt_and_handle(services: Services, officer: Visit) -> None:
    handle = next(iter(_handles(services)))
    receipt = services.consent.history(handle)[0].receipt_id
    for wanted in (handle, receipt):
        html = officer.get(f"/search?q={wanted}").text
        assert handle in html
        assert receipt in html
    entry = services.log.events(limit=1, newest_first=True)[0]
    assert entry.opening is not None
    assert entry.opening.subject == handle  # erasure will reach what was noted about them


def test_raising_a_cap_takes_two(services: Services, officer: Visit, second: Visit) -> None:
    pending = next(cap for cap in services.caps.list() if cap.state is CapState.PROPOSED)
    assert pending.proposed_by == "ada.officer"
    page = officer.get("/caps").text
    assert ">Approve<" not in page
    assert officer.post(f"/caps/{pending.id}", decision="approve").status_code == 403
    assert _cap(services, pending.id).state is CapState.PROPOSED
    assert ">Approve<" in second.get("/caps").text
    answer = second.post(f"/caps/{pending.id}", decision="approve")
    assert "approved and in force" in answer.text
    assert _cap(services, pending.id).decided_by == "lin.officer"


def test_lowering_holds_at_once(services: Services, officer: Visit) -> None:
    officer.get("/caps")
    answer = officer.post("/caps", unit="user", bound="cap", epsilon_max="4", reason="a pause")
    assert "lowered" in answer.text
    bound = next(bound for bound in services.caps.in_force() if bound.bound == "cap" and bound.unit is PrivacyUnit.USER)
    assert bound.in_force == 4
    officer.get("/caps")
    assert officer.post("/caps", unit="user", bound="cap", epsilon_max="11", reason="more").status_code == 422


def test_a_request_is_approved_and_carried_out(services: Services, officer: Visit) -> None:
    handle = next(iter(_handles(services)))
    asked = services.requests.submit(
        SubjectRequest(handle=handle, request=RequestKind.ERASURE), Principal(Role.PRIVACY_OFFICER, holder="x")
    )
    assert handle in officer.get(f"/requests/{asked.request_id}").text
    officer.post(f"/requests/{asked.request_id}", action="approve")
    answer = officer.post(f"/requests/{asked.request_id}", action="complete")
    assert services.requests.get(asked.request_id).status is RequestStatus.COMPLETED
    assert "Destroyed" in answer.text
    assert "What remains" in answer.text
    assert services.consent.find(handle) is None
    assert handle not in officer.get(f"/requests/{asked.request_id}").text


def test_a_denial_needs_a_reason(services: Services, officer: Visit) -> None:
    waiting = services.requests.open()[0]
    officer.get(f"/requests/{waiting.request_id}")
    assert officer.post(f"/requests/{waiting.request_id}", action="deny").status_code == 400
    officer.post(f"/requests/{waiting.request_id}", action="deny", reason="manifestly-unfounded")
    assert services.requests.get(waiting.request_id).status is RequestStatus.DENIED


def test_stop_and_release(services: Services, officer: Visit) -> None:
    officer.get("/controls")
    officer.post("/controls", scope="jurisdiction", target="FR", note="advice of the authority")
    stopped = {stop.target: stop.stopped_by for stop in services.controls.stopped()}
    assert stopped["FR"] == "privacy_officer:ada.officer"
    officer.post("/controls/release", scope="jurisdiction", target="FR")
    assert "FR" not in {stop.target for stop in services.controls.stopped()}


def test_an_auditor_changes_nothing(services: Services, filled: Installed) -> None:
    visit = Visit(services)
    visit.sign_in(filled.keys["ines.auditor"])
    for path in ("/caps", "/controls", "/requests"):
        html = visit.get(path).text
        posts = set(re.findall(r'<form method="post" action="([^"]+)"', html))
        assert posts == {"/desk/sign-out"}


def test_an_admin_sees_no_subject(services: Services) -> None:
    visit = Visit(services)
    visit.sign_in(key_of(services, Role.ADMIN))
    handles = _handles(services)
    receipts = {event.receipt_id for handle in handles for event in services.consent.history(handle)}
    for path in ("/", "/releases", "/log"):
        html = visit.get(path).text
        assert not any(name in html for name in handles | receipts)
    assert visit.get("/search?q=x").status_code == 403


def test_the_verify_button(services: Services, officer: Visit) -> None:
    officer.get("/log")
    assert "Verified:" in officer.post("/log/verify").text
    with services.database.write() as session:
        session.execute(
            text("UPDATE log_record SET record = replace(record, 'ada.officer', 'eve.officer') WHERE seq = 3")
        )
        session.execute(text("UPDATE log_entry SET time = time - 5 WHERE seq = 7"))
    officer.get("/log")
    answer = officer.post("/log/verify")
    assert "Verified:" not in answer.text
    assert re.search(r"Entry [37] is not what was logged", answer.text)
    assert "Checkpoints of these sizes do not fit" in answer.text


def test_a_long_log_says_how_far_it_is(services: Services, officer: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_page, "AT_ONCE_MAX", 5)
    monkeypatch.setattr(log_page, "TOLD_EVERY", 10)
    monkeypatch.setattr(recompute, "PAGE", 10)
    officer.get("/log")
    answer = officer.post("/log/verify")
    assert "Verified:" in answer.text
    assert re.search(r"10 of \d+ entries recomputed", answer.text)
    assert answer.text.rstrip().endswith("</html>")
    assert faults(answer.text) == []
    with services.database.write() as session:
        session.execute(text("UPDATE log_entry SET time = time - 5 WHERE seq = 7"))
    officer.get("/log")
    assert "Entry 7 is not what was logged" in officer.post("/log/verify").text


@pytest.mark.parametrize("name", ["consent-rates", "charges", "budgets", "caps", "requests", "log"])
def test_exports(reading: Services, filled: Installed, name: str) -> None:
    visit = Visit(reading)
    visit.sign_in(filled.keys["lin.officer"])
    rows = list(csv.DictReader(io.StringIO(visit.get(f"/exports/{name}?format=csv").content.decode("utf-8-sig"))))
    lines = [json.loads(line) for line in visit.get(f"/exports/{name}?format=jsonl").text.splitlines()]
    assert rows
    assert abs(len(lines) - len(rows)) <= 1  # each download is itself an entry of the log
    assert set(rows[0]) == set(lines[0])
    if any("epsilon" in column for column in rows[0]):
        assert {"delta", "unit", "relation", "trust", "composition"} <= set(rows[0])
    handles = _handles(reading)
    assert not any(handle in json.dumps(lines) for handle in handles)
    assert visit.get(f"/exports/{name}?format=pdf").content.startswith(b"%PDF")


def test_a_cell_is_no_formula() -> None:
    assert plain_cell("=1+1") == "'=1+1"
    assert plain_cell("@x") == "'@x"
    assert plain_cell("-3.5") == "-3.5"
    assert plain_cell("text") == "text"


def test_the_bundle_verifies_offline(services: Services, officer: Visit, tmp_path: Path) -> None:
    answer = officer.get("/exports/bundle")
    assert answer.headers["content-type"] == "application/zip"
    archive = tmp_path / "bundle.zip"
    archive.write_bytes(answer.content)
    key = services.signer.public.x
    assert verify(archive, key, (), as_json=False) == 0
    handle = next(iter(_handles(services)))
    assert handle in _contents(archive)
    archive.write_bytes(officer.get("/exports/bundle?people=0").content)
    assert handle not in _contents(archive)
    assert verify(archive, key, (), as_json=False) == 0


def _contents(archive: Path) -> str:
    with zipfile.ZipFile(archive) as found:
        return "".join(found.read(name).decode("utf-8", "replace") for name in found.namelist())


def _cap(services: Services, number: int):  # type: ignore[no-untyped-def]
    return next(cap for cap in services.caps.list() if cap.id == number)


def _handles(services: Services) -> set[str]:
    with services.database.read() as session:
        return set(session.execute(text("SELECT handle FROM subject ORDER BY handle")).scalars())


def test_a_download_that_does_not_exist_writes_nothing_into_the_log(reading: Services, filled: Installed) -> None:
    """The log is for ever: what somebody types into the address is not written there."""
    visit = Visit(reading)
    visit.sign_in(filled.keys["lin.officer"])
    before = reading.log.size()
    assert visit.get("/exports/q3Yx0mVbS1uJ7eHcKf2nPw").status_code == 404
    assert reading.log.size() == before


def test_one_device_by_its_handle_is_for_officers_and_stands_in_its_persons_log(
    reading: Services, filled: Installed
) -> None:
    handle = next(one for one in sorted(_handles(reading)) if _charged(reading, one))
    officer, auditor = Visit(reading), Visit(reading)
    officer.sign_in(filled.keys["lin.officer"])
    auditor.sign_in(filled.keys["ines.auditor"])
    html = officer.get(f"/budgets?device={handle}").text
    assert pseudonym(_charged(reading, handle) or b"").hex() in html
    with reading.database.read() as session:
        read = reading.log.about(session, handle)[-1]
    assert (read.leaf.kind, read.leaf.actor) == (LogKind.PRIVILEGED_READ, "privacy_officer:lin.officer")
    assert "The ledger knows no such device" in auditor.get(f"/budgets?device={handle}").text


def _charged(services: Services, handle: str) -> bytes | None:
    """The ledger identity of somebody who was charged."""
    with services.database.read() as session:
        key = enrolled_key(session, handle)
    identity = b"" if key is None else PublicKey(key.public_key).raw
    return identity if services.ledger.entries(identity) else None
