"""Campaigns and creatives: who may do what with them, what a review changes, and that the catalogue follows at once."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from common.errors import NotInThisState
from common.taxonomy import LogKind, PlanMove, ReviewState
from server.campaigns import states
from server.campaigns.terms import COMMERCIAL, CampaignTerms
from server.cli import server_app
from tests.service.campaigning import DAY_S, Agency, campaign_body, creative_body
from tests.service.world import World, catalogue


def test_an_approved_creative_is_signed_served_and_stopped(any_world: World) -> None:
    any_world.services.catalogues.publish([])
    agency = Agency(any_world)
    campaign, creative = agency.running()
    assert agency.in_catalogue() == [creative]
    opened = any_world.services.catalogues.opened()
    assert opened is not None
    (signed,) = opened.creatives
    assert (signed.advertiser, signed.payer, signed.campaign_id) == ("nuts-and-sons", "Nuts & Sons Ltd.", campaign)
    assert (signed.bid_micros, signed.label, signed.tags) == (250_000, {"en": "Ad", "zh-CN": "广告"}, ("nuts",))
    assert signed.image_url == f"/static/creative/{creative}.svg"
    assert agency.served() == creative
    picture = any_world.http.get(signed.image_url)
    assert (picture.status_code, picture.headers["content-type"]) == (200, "image/svg+xml")
    agency.done("POST", "/v1/controls/kill", {"scope": "campaign", "target": campaign}, key=agency.officer)
    assert agency.served() is None
    agency.ask("POST", "/v1/controls/release", {"scope": "campaign", "target": campaign}, key=agency.officer)
    assert agency.served() == creative


def test_nothing_is_shown_that_nobody_has_approved(agency: Agency) -> None:
    campaign = agency.campaign()
    creative = agency.creative(campaign)
    paths = f"/v1/campaigns/{campaign}", f"/v1/creatives/{creative}"
    for path in paths:
        assert agency.served() is None
        agency.done("POST", f"{path}/moves", {"move": "submit"})
        assert agency.served() is None
        assert agency.ask("POST", f"{path}/review", {"verdict": "approve"}).status_code == 403
        agency.done("POST", f"{path}/review", {"verdict": "approve"}, key=agency.officer)
    assert agency.served() == creative


@pytest.mark.parametrize("of", ["campaigns", "creatives"])
def test_whatever_takes_approval_away_takes_it_from_the_next_decision(agency: Agency, of: str) -> None:
    campaign, creative = agency.running()
    path = f"/v1/{of}/{campaign if of == 'campaigns' else creative}"
    agency.done("POST", f"{path}/moves", {"move": "pause"})
    assert agency.served() is None
    agency.done("POST", f"{path}/moves", {"move": "resume"})
    assert agency.served() == creative
    order = {"verdict": "reject", "reason": "misleading", "note": "the price is not true"}
    rejected = agency.done("POST", f"{path}/review", order, key=agency.officer)
    assert (rejected["state"], rejected["reason"], rejected["note"]) == (
        "rejected",
        "misleading",
        "the price is not true",
    )
    assert agency.served() is None
    assert agency.ask("POST", f"{path}/moves", {"move": "submit"}).status_code == 409  # first it is changed
    agency.done("POST", f"{path}/moves", {"move": "archive"})
    assert agency.ask("POST", f"{path}/moves", {"move": "submit"}).json()["title"] == "NotInThisState"


def test_what_was_reviewed_is_a_draft_again_when_it_changes(agency: Agency) -> None:
    campaign, creative = agency.running()
    for path, body in (
        (f"/v1/campaigns/{campaign}", campaign_body(agency.world, payer="Somebody else")),
        (f"/v1/creatives/{creative}", creative_body(category="drinks")),
    ):
        seen = agency.ask("GET", path)
        changed = agency.world.http.put(path, json=body, headers=agency.advertiser | {"if-match": seen.headers["etag"]})
        assert (changed.status_code, changed.json()["state"]) == (200, "draft")
        assert agency.in_catalogue() == []
        agency.approve(path)
        assert agency.in_catalogue() == [creative]


def test_money_dates_and_caps_need_no_new_review(agency: Agency) -> None:
    campaign, creative = agency.running()
    now = int(agency.world.clock.now)
    changes = {
        "name": "Winter",
        "starts_at": now,
        "ends_at": now + 3 * DAY_S,
        "budget_micros": 900_000_000,
        "daily_budget_micros": None,
        "bid_micros": 1,
        "caps": [{"views_max": 3, "window_hours": 24}],
    }
    assert set(changes) == COMMERCIAL
    for revision, (field, value) in enumerate(changes.items(), start=3):
        body = campaign_body(agency.world, **{field: value})
        headers = agency.advertiser | {"if-match": f'"{revision}"'}
        answer = agency.world.http.put(f"/v1/campaigns/{campaign}", json=body, headers=headers)
        assert (answer.status_code, answer.json()["state"]) == (200, "approved"), field
        assert agency.in_catalogue() == [creative]


def test_the_catalogue_says_what_a_changed_order_says(agency: Agency) -> None:
    campaign, _ = agency.running()
    body = campaign_body(agency.world, bid_micros=7, caps=[{"views_max": 2, "window_hours": 24}])
    headers = agency.advertiser | {"if-match": '"3"'}
    assert agency.world.http.put(f"/v1/campaigns/{campaign}", json=body, headers=headers).status_code == 200
    opened = agency.world.services.catalogues.opened()
    assert opened is not None
    (signed,) = opened.creatives
    assert (signed.bid_micros, signed.caps[0].views_max) == (7, 2)


def test_a_campaign_runs_between_its_dates_only(agency: Agency) -> None:
    clock = agency.world.clock
    now = int(clock.now)
    _, creative = agency.running(starts_at=now + 3600, ends_at=now + 7200)

    def compiled() -> list[str]:
        agency.done("POST", "/v1/catalog/compile", key=agency.admin)
        return agency.in_catalogue()

    seen = [compiled()]
    for _ in range(2):
        clock.advance(3600)
        seen.append(compiled())
    assert seen == [[], [creative], []]
    assert agency.done("POST", "/v1/catalog/compile", key=agency.admin)["changed"] is False


def test_nobody_sees_or_touches_a_strangers_campaign(agency: Agency) -> None:
    campaign, creative = agency.running()
    for path, body in (
        (f"/v1/campaigns/{campaign}", campaign_body(agency.world)),
        (f"/v1/creatives/{creative}", creative_body()),
    ):
        headers = agency.rival | {"if-match": '"3"'}
        assert agency.ask("GET", path, key=agency.rival).status_code == 404
        assert agency.world.http.put(path, json=body, headers=headers).status_code == 404
        assert agency.world.http.delete(path, headers=headers).status_code == 404
        assert agency.ask("POST", f"{path}/moves", {"move": "pause"}, key=agency.rival).status_code == 404
        assert agency.ask("POST", f"{path}/review", {"verdict": "approve"}, key=agency.rival).status_code == 403
    assert agency.ask("GET", f"/v1/creatives/{creative}/preview", key=agency.rival).status_code == 404
    assert agency.ask("POST", "/v1/creatives", creative_body(campaign), key=agency.rival).status_code == 404
    assert agency.done("GET", "/v1/campaigns", key=agency.rival)["items"] == []
    assert agency.done("GET", f"/v1/creatives?campaign_id={campaign}", key=agency.rival)["items"] == []
    other = campaign_body(agency.world, advertiser="nuts-and-sons")
    assert agency.ask("POST", "/v1/campaigns", other, key=agency.rival).json()["title"] == "NotAllowed"


def test_nobody_approves_what_they_wrote(agency: Agency) -> None:
    body = campaign_body(agency.world, advertiser="nuts-and-sons")
    made = agency.done("POST", "/v1/campaigns", body, key=agency.admin)
    path = f"/v1/campaigns/{made['campaign_id']}"
    agency.done("POST", f"{path}/moves", {"move": "submit"})
    refused = agency.ask("POST", f"{path}/review", {"verdict": "approve"}, key=agency.admin)
    assert (refused.status_code, refused.json()["title"]) == (403, "NotAllowed")
    assert agency.done("POST", f"{path}/review", {"verdict": "approve"}, key=agency.officer)["state"] == "approved"
    nameless = agency.ask("POST", "/v1/campaigns", campaign_body(agency.world), key=agency.admin)
    assert nameless.status_code == 400


def test_a_change_needs_the_tag_of_what_was_read(agency: Agency) -> None:
    path = f"/v1/campaigns/{agency.campaign()}"
    body = campaign_body(agency.world, name="Winter")
    for tag, status in (('"2"', 412), ("1", 412), ("*", 412), ('W/"1"', 412), ('"1"', 200), ('"1"', 412), ('"2"', 200)):
        headers = agency.advertiser | {"if-match": tag}
        assert agency.world.http.put(path, json=body, headers=headers).status_code == status, tag
    assert agency.world.http.put(path, json=body, headers=agency.advertiser).status_code == 422


def test_only_an_unseen_draft_is_removed(agency: Agency) -> None:
    campaign = agency.campaign()
    creative = agency.creative(campaign)
    tag = agency.advertiser | {"if-match": '"1"'}
    assert agency.world.http.delete(f"/v1/campaigns/{campaign}", headers=tag).status_code == 409
    assert agency.world.http.delete(f"/v1/creatives/{creative}", headers=tag).status_code == 204
    assert agency.world.http.delete(f"/v1/campaigns/{campaign}", headers=tag).status_code == 204
    assert agency.ask("GET", f"/v1/campaigns/{campaign}").status_code == 404
    campaign, _ = agency.running()
    tag = agency.advertiser | {"if-match": '"3"'}
    assert agency.world.http.delete(f"/v1/campaigns/{campaign}", headers=tag).status_code == 409


def test_lists_go_on_where_they_stopped(agency: Agency) -> None:
    made = []
    for _ in range(5):
        made.append(agency.campaign())
        agency.world.clock.advance(1)
    seen, path = [], "/v1/campaigns?limit=2"
    while path:
        answer = agency.ask("GET", path)
        seen += [line["campaign_id"] for line in answer.json()["items"]]
        path = answer.links.get("next", {}).get("url", "")
    assert seen == made
    assert agency.done("GET", "/v1/campaigns?state=approved")["items"] == []
    assert agency.ask("GET", "/v1/campaigns?cursor=nonsense").status_code == 400


def test_the_operators_own_list_and_campaigns_stand_side_by_side(agency: Agency) -> None:
    listed = json.loads(catalogue(3).model_dump_json())
    own = [one["creative_id"] for one in listed["creatives"]]
    _, creative = agency.running()
    assert agency.done("PUT", "/v1/catalog", listed, key=agency.admin)["creatives"] == 4
    assert agency.in_catalogue() == [*own, creative]
    assert agency.done("PUT", "/v1/catalog", listed, key=agency.admin)["changed"] is False
    opened = agency.world.services.catalogues.opened()
    assert opened is not None
    whole = json.loads(opened.model_dump_json())
    agency.done("POST", f"/v1/creatives/{creative}/moves", {"move": "pause"})
    assert agency.in_catalogue() == own
    # What was read from the catalogue brings back nothing that was paused meanwhile.
    assert agency.done("PUT", "/v1/catalog", whole, key=agency.admin)["creatives"] == 3
    assert agency.in_catalogue() == own


def test_what_hints_at_a_special_category_is_left_out_and_counted(agency: Agency) -> None:
    listed = json.loads(catalogue(3).model_dump_json())
    listed["creatives"][1]["category"] = "diabetes care"
    done = agency.done("PUT", "/v1/catalog", listed, key=agency.admin)
    assert (done["creatives"], done["refused"]) == (2, {"health": 1})
    assert len(agency.in_catalogue()) == 2


def test_every_step_is_in_the_log(agency: Agency) -> None:
    campaign, creative = agency.running()
    agency.done(
        "POST", f"/v1/creatives/{creative}/review", {"verdict": "reject", "reason": "quality"}, key=agency.admin
    )
    entries = agency.world.services.log.events(kind=LogKind.CAMPAIGN)
    found = [(e.leaf.actor, json.loads(e.opening.record)) for e in entries if e.opening]
    told = [(actor, record["event"]) for actor, record in found]
    assert told == [
        ("advertiser", "campaign-created"),
        ("advertiser", "creative-created"),
        ("advertiser", "campaign-submitted"),
        ("privacy_officer:ana", "campaign-approved"),
        ("advertiser", "creative-submitted"),
        ("privacy_officer:ana", "creative-approved"),
        ("admin:root", "creative-rejected"),
    ]
    assert found[-1][1]["reason"] == "quality"
    assert {record["campaign_id"] for _, record in found} == {campaign}
    assert len({record["sha256"] for _, record in found}) == 2  # one digest of each text


def test_approval_and_catalogue_are_one_transaction(agency: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign = agency.campaign()
    path = f"/v1/creatives/{agency.creative(campaign)}"
    agency.approve(f"/v1/campaigns/{campaign}")
    agency.done("POST", f"{path}/moves", {"move": "submit"})
    monkeypatch.setattr("server.campaigns.service.SIZE_BYTES_MAX", 100)
    refused = agency.ask("POST", f"{path}/review", {"verdict": "approve"}, key=agency.officer)
    assert refused.status_code == 400
    assert agency.done("GET", path)["state"] == "submitted"


@pytest.mark.parametrize("state", list(ReviewState))
def test_only_approval_leads_to_what_is_shown(state: ReviewState) -> None:
    """Every way into APPROVED is a reviewer's move, or goes back to what a reviewer had approved."""
    for move in PlanMove:
        try:
            reached = states.after(state, move)
        except NotInThisState:
            continue
        if reached is ReviewState.APPROVED:
            assert (state, move) in {
                (ReviewState.SUBMITTED, PlanMove.APPROVE),
                (ReviewState.PAUSED, PlanMove.RESUME),
            }
        if state is ReviewState.ARCHIVED:
            raise AssertionError("what is archived stays so")


def test_what_commercial_terms_are_called_exists() -> None:
    assert set(CampaignTerms.model_fields) > COMMERCIAL


def test_the_command_line_publishes_what_follows_from_the_campaigns(
    agency: Agency, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RETICENT_STATE_DIR", str(agency.world.services.settings.state_dir))
    now = int(time.time())  # the command has the real clock
    if abs(agency.world.clock.now - now) < 3 * DAY_S:  # the days that tests take for the present do come
        agency.world.clock.advance(9 * DAY_S)
    _, creative = agency.running(starts_at=now - 60, ends_at=now + DAY_S)
    agency.done("PUT", "/v1/catalog", json.loads(catalogue(2).model_dump_json()), key=agency.admin)
    assert creative not in agency.in_catalogue(), "by the tests' clock it is over or to come"
    run = CliRunner().invoke(server_app, ["publish-catalogue"])
    assert (run.exit_code, run.output) == (0, "Catalogue version 2: 3 creatives.\n")
    assert creative in agency.in_catalogue()
    again = CliRunner().invoke(server_app, ["publish-catalogue"])
    assert again.output == "Catalogue version 2: 3 creatives, unchanged.\n"
    listed = json.loads(catalogue(2).model_dump_json())
    listed["creatives"][0]["category"] = "diabetes care"
    file = tmp_path / "list.json"
    file.write_text(json.dumps(listed), encoding="utf-8")
    run = CliRunner().invoke(server_app, ["publish-catalogue", str(file)])
    told = "Catalogue version 3: 2 creatives.\nLeft out for special categories: health 1.\n"
    assert (run.exit_code, run.output) == (0, told)
