"""Review at the desk: who may decide what, over which revision, and what the preview may do."""

from __future__ import annotations

import re

import pytest

from common.taxonomy import PlanKind, PlanMove, RejectionReason, ReviewState, Role
from server.access.principal import Principal
from server.api.security import ACCESS
from server.api.services import Services
from server.campaigns.surface_repository import SurfaceTerms
from server.dashboard.door import PAGES
from server.dashboard.pages import review
from tests.desk.accessible import faults
from tests.desk.conftest import Installed, Visit, key_of
from tests.desk.reviewing import ADVERTISER, Handed, campaign_terms, creative_terms, handed_in, in_catalogue


@pytest.fixture
def handed(services: Services) -> Handed:
    return handed_in(services)


def state_of(services: Services, plan_id: str) -> ReviewState:
    kind = PlanKind.CAMPAIGN if plan_id.startswith("cmp_") else PlanKind.CREATIVE
    return services.plans.get(kind, plan_id, Principal(Role.AUDITOR)).state


def decide(visit: Visit, plan_id: str, **fields: str) -> int:
    """What the form on the page of a plan is answered with."""
    page = visit.get(f"/review/{plan_id}").text
    revision = re.search(r'name="revision" value="(\d+)"', page)
    return visit.post(f"/review/{plan_id}", **({"revision": revision[1] if revision else "1"} | fields)).status_code


def test_reviewed_it_is_published_and_taken_down(services: Services, officer: Visit, handed: Handed) -> None:
    page = officer.get("/review").text
    assert ">Waits for review (2)</h2>" in page
    assert f"/desk/review/{handed.creative}" in page
    assert decide(officer, handed.creative, verdict="approve") == 200
    assert handed.creative not in in_catalogue(services), "its campaign waits still"
    assert decide(officer, handed.campaign, verdict="approve") == 200
    assert handed.creative in in_catalogue(services)
    assert "In the catalogue in force: <strong>yes</strong>" in officer.get(f"/review/{handed.creative}").text
    assert decide(officer, handed.creative, verdict="reject", reason="misleading", note="the price") == 200
    assert handed.creative not in in_catalogue(services)
    found = services.plans.get(PlanKind.CREATIVE, handed.creative, ADVERTISER)
    assert (found.reason, found.note) == (RejectionReason.MISLEADING, "the price")
    entry = services.log.events(limit=2, newest_first=True)
    assert any(b"creative-rejected" in (e.opening.record if e.opening else b"") for e in entry)
    assert {e.leaf.actor for e in entry} == {"privacy_officer:ada.officer"}


def test_an_outdated_page_decides_nothing(services: Services, officer: Visit, handed: Handed) -> None:
    officer.get(f"/review/{handed.creative}")
    plan = services.plans.get(PlanKind.CREATIVE, handed.creative, ADVERTISER)
    other = creative_terms(category="drinks")
    changed = services.plans.change(PlanKind.CREATIVE, handed.creative, other, ADVERTISER, revision=plan.revision)
    newest = services.plans.move(PlanKind.CREATIVE, changed.plan_id, PlanMove.SUBMIT, ADVERTISER)
    for verdict in ({"verdict": "approve"}, {"verdict": "reject", "reason": "quality"}):
        answer = officer.post(f"/review/{handed.creative}", revision=str(plan.revision), **verdict)
        assert answer.status_code == 412
        assert state_of(services, handed.creative) is ReviewState.SUBMITTED
    answer = officer.post(f"/review/{handed.creative}", revision=str(newest.revision), verdict="approve")
    assert answer.status_code == 200, "the control: over the newest revision it works"
    assert state_of(services, handed.creative) is ReviewState.APPROVED


def test_nobody_approves_what_they_wrote(services: Services, handed: Handed) -> None:
    admin = Visit(services)
    admin.sign_in(services.access.issue(Role.ADMIN, label="t", holder="root").token)
    root = Principal(Role.ADMIN, holder="root")
    mine = services.plans.create_campaign(campaign_terms(services.clock()), root, "nuts-and-sons")
    services.plans.move(PlanKind.CAMPAIGN, mine.plan_id, PlanMove.SUBMIT, root)
    assert "You wrote this" in admin.get(f"/review/{mine.plan_id}").text
    assert decide(admin, mine.plan_id, verdict="approve") == 403
    same_person = Visit(services)
    same_person.sign_in(services.access.issue(Role.PRIVACY_OFFICER, label="t", holder="Root").token)
    assert decide(same_person, mine.plan_id, verdict="approve") == 403
    assert state_of(services, mine.plan_id) is ReviewState.SUBMITTED
    assert decide(admin, handed.campaign, verdict="approve") == 200, "the control: what another wrote"


def test_what_a_role_may_do_is_what_the_api_lets_it(services: Services, filled: Installed, handed: Handed) -> None:
    pairs = {
        ("POST", "/review/{plan_id}"): ("POST", "/v1/campaigns/{campaign_id}/review"),
        ("POST", "/review/{plan_id}/moves"): ("POST", "/v1/campaigns/{campaign_id}/moves"),
        ("GET", "/review/{plan_id}"): ("GET", "/v1/campaigns/{campaign_id}"),
        ("POST", "/placements/{slot_id}/removal"): ("DELETE", "/v1/placements/{slot_id}"),
    }
    at_desk = {Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN}
    assert all(PAGES[page] == ACCESS[endpoint] & at_desk for page, endpoint in pairs.items())
    auditor, admin = Visit(services), Visit(services)
    auditor.sign_in(filled.keys["ines.auditor"])
    admin.sign_in(key_of(services, Role.ADMIN))
    assert set(re.findall(r'method="post" action="([^"]+)"', auditor.get(f"/review/{handed.creative}").text)) == {
        "/desk/sign-out"
    }
    assert decide(auditor, handed.creative, verdict="approve") == 403
    assert decide(admin, handed.creative, verdict="approve") == 200
    page = admin.get(f"/review/{handed.creative}").text
    revision = re.findall(r'name="revision" value="(\d+)"', page)[0]
    assert admin.post(f"/review/{handed.creative}/moves", revision="1", move="pause").status_code == 412
    assert admin.post(f"/review/{handed.creative}/moves", revision=revision, move="pause").status_code == 200
    assert state_of(services, handed.creative) is ReviewState.PAUSED


def test_a_rejection_has_a_reason_and_forms_are_this_sessions(
    services: Services, officer: Visit, handed: Handed
) -> None:
    assert decide(officer, handed.creative, verdict="reject") == 400
    assert decide(officer, handed.creative, verdict="approve", reason="quality") == 400
    assert decide(officer, handed.creative, verdict="approve", token="") == 403
    assert decide(officer, handed.creative, verdict="archive") == 422
    assert officer.get("/review/crv_00000000000000000000").status_code == 404
    assert officer.get("/review/<script>").status_code in {404, 422}
    assert state_of(services, handed.creative) is ReviewState.SUBMITTED


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_pages_are_accessible_and_show_what_is_reviewed(
    services: Services, filled: Installed, handed: Handed, language: str
) -> None:
    services.surfaces.create("home.top", SurfaceTerms(name="Top", blocked_categories=("alcohol",)), ADVERTISER)
    visit = Visit(services, language=language)
    visit.sign_in(filled.keys["lin.officer"])
    for path in ("/review", "/review?state=submitted", f"/review/{handed.creative}", f"/review/{handed.campaign}"):
        answer = visit.get(path)
        assert faults(answer.text) == [], path
        assert "<script" not in answer.text
        assert not re.search(r"""\s(style|on\w+)=["']""", answer.text.replace("onerror=&#34;", ""))
        assert "unsafe" not in answer.headers["content-security-policy"]
    assert "Nuts &amp; Sons Ltd." in answer.text
    placements = visit.get("/placements").text
    assert faults(placements) == []
    assert "alcohol" in placements
    assert "removal" not in placements, "an officer does not offer placements"


def test_the_preview_is_the_rendering_shut_in(services: Services, officer: Visit, handed: Handed) -> None:
    page = officer.get(f"/review/{handed.creative}")
    frames = re.findall(r"<iframe[^>]*>", page.text)
    assert len(frames) == 2
    assert all(" sandbox title=" in frame for frame in frames), "a sandbox without exceptions"
    assert "frame-src 'self'" in page.headers["content-security-policy"]
    for locale, label in (("en", "Ad"), ("zh-CN", "广告")):
        shown = officer.get(f"/review/{handed.creative}/preview?locale={locale}")
        policy = shown.headers["content-security-policy"]
        assert {"default-src 'none'", "form-action 'none'", "sandbox", "frame-ancestors 'self'"} <= set(
            policy.split("; ")
        )
        assert shown.headers["x-frame-options"] == "SAMEORIGIN"
        assert f'<span class="reticent-ad-label">{label}</span>' in shown.text
        assert "Nuts &amp; Sons Ltd." in shown.text
        assert 'role="img" aria-label="' in shown.text
        for hostile in ("<script", "<img", "<svg onload"):
            assert hostile not in shown.text
    assert "&lt;script&gt;" in officer.get(f"/review/{handed.creative}/preview").text, (
        "the control: it is there, as text"
    )
    assert "<script" not in officer.get(f'/review/{handed.creative}/preview?locale="><script>').text


def test_counts_and_pages_of_the_list(
    services: Services, officer: Visit, handed: Handed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "PAGE", 4)
    services.plans.create_creatives(handed.campaign, [creative_terms()] * 7, ADVERTISER)
    counts = services.plans.counts()
    assert counts[(PlanKind.CREATIVE, ReviewState.DRAFT)] == 7
    page = officer.get("/review?kind=creative&state=draft").text
    assert 'aria-label="7 of creative, draft"' in page
    more = re.search(r'href="/desk(/review\?[^"]*after=[^"]+)"', page)
    assert more
    rest = officer.get(more[1].replace("&amp;", "&")).text
    first, second = (set(re.findall(r"/desk/review/(crv_\w+)", html)) for html in (page, rest))
    assert len(second - {handed.creative}) == 3
    assert not (first & second) - {handed.creative}


def test_an_outdated_placement_is_not_removed(services: Services, handed: Handed) -> None:
    stored = services.surfaces.create("home.top", SurfaceTerms(name="Top"), ADVERTISER)
    services.surfaces.change("home.top", SurfaceTerms(name="Top of home"), ADVERTISER, revision=stored.revision)
    admin = Visit(services)
    admin.sign_in(key_of(services, Role.ADMIN))
    assert "Offer home.top no more" in admin.get("/placements").text
    assert admin.post("/placements/home.top/removal", revision="1").status_code == 412
    assert admin.post("/placements/home.top/removal", revision="2").status_code == 200
    assert services.surfaces.listed(after=None, rows=5) == []
