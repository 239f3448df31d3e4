"""The public ad repository: everything that could be shown, who paid, when and for whom, and nothing about anybody."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from server.campaigns import archive
from server.campaigns.archive_answers import AdEntry
from server.campaigns.crowd import CROWD_MIN
from server.words import catalogue as words_of
from tests.service.campaigning import DAY_S, Agency, campaign_body, creative_body
from tests.service.world import World

PAGES = Path(archive.__file__).parent / "pages"


def found(world: World, **query: object) -> list[dict[str, Any]]:
    answer = world.http.get("/v1/ad-repository", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


def test_a_line_says_what_the_act_asks_for(any_world: World) -> None:
    any_world.services.catalogues.publish([])
    agency, now = Agency(any_world), int(any_world.clock.now)
    campaign, creative = agency.running(regions=["CN"])
    line = next(one for one in found(any_world) if one["creative_id"] == creative)
    assert line["content"]["title"]["en"] == "Roasted nuts"  # (a)
    assert line["content"]["landing_url"] == "https://nuts.example/autumn"
    assert line["advertiser"] == "nuts-and-sons"  # (b)
    assert line["payer"] == "Nuts & Sons Ltd."  # (c)
    assert (line["began_at"], line["ended_at"]) == (now, None)  # (d)
    assert (line["aim"]["regions"], line["aim"]["particular_group"]) == (["CN"], True)  # (e)
    assert line["aim"]["excluded"] == ["not-known-to-be-adult", "no-consent", "opted-out"]
    assert line["reach"] == {"devices_per_day": None, "withheld": "not-counted"}  # (g)
    assert line["campaign"] == campaign
    assert set(line) == set(AdEntry.model_fields)


def test_periods_follow_what_is_published(agency: Agency) -> None:
    world, start = agency.world, int(agency.world.clock.now)
    campaign, creative = agency.running()
    world.clock.advance(100)
    agency.done("POST", f"/v1/creatives/{creative}/moves", {"move": "pause"})
    world.clock.advance(100)
    agency.done("POST", f"/v1/creatives/{creative}/moves", {"move": "resume"})
    world.clock.advance(100)
    headers = agency.advertiser | {"if-match": '"5"'}
    changed = creative_body(texts={"en": creative_body()["texts"]["en"] | {"title": "Other words"}})
    assert world.http.put(f"/v1/creatives/{creative}", json=changed, headers=headers).status_code == 200
    world.clock.advance(100)
    agency.approve(f"/v1/creatives/{creative}")
    lines = found(world, campaign=campaign)
    assert [(one["began_at"] - start, one["ended_at"] and one["ended_at"] - start) for one in lines] == [
        (0, 100),
        (200, 300),
        (400, None),
    ]
    assert [one["content"]["title"]["en"] for one in lines] == ["Roasted nuts", "Roasted nuts", "Other words"]


def test_a_bid_alone_is_no_new_line_and_is_not_told(agency: Agency) -> None:
    campaign, _ = agency.running()
    headers = agency.advertiser | {"if-match": '"3"'}
    body = campaign_body(agency.world, bid_micros=987_654_321)
    assert agency.world.http.put(f"/v1/campaigns/{campaign}", json=body, headers=headers).status_code == 200
    lines = found(agency.world)
    assert len(lines) == 1
    assert "987654321" not in json.dumps(lines)


def test_a_campaign_ends_to_the_second_whoever_publishes_when(agency: Agency) -> None:
    now = int(agency.world.clock.now)
    agency.running(ends_at=now + 3600)
    agency.world.clock.advance(5 * 3600)
    assert found(agency.world)[0]["ended_at"] == now + 3600
    agency.done("POST", "/v1/catalog/compile", key=agency.admin)
    assert found(agency.world)[0]["ended_at"] == now + 3600


def test_reach_is_told_of_a_crowd_only(agency: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    campaign, _ = agency.running()
    counts: dict[str, float] = {}
    monkeypatch.setattr(type(agency.world.services.measurement), "crowds", lambda _self: counts)
    for noised, told, why in (
        (CROWD_MIN - 0.1, None, f"below-{CROWD_MIN}"),
        (-7.0, None, f"below-{CROWD_MIN}"),
        (123.4, 123, None),
    ):
        counts[campaign] = noised
        assert found(agency.world)[0]["reach"] == {"devices_per_day": told, "withheld": why}


def test_what_was_unlawful_is_taken_down_and_not_repeated(agency: Agency) -> None:
    _, creative = agency.running()
    order = {"verdict": "reject", "reason": "unlawful-content"}
    agency.done("POST", f"/v1/creatives/{creative}/review", order, key=agency.officer)
    assert agency.served() is None
    (line,) = found(agency.world)
    assert (line["withheld"], line["content"], line["payer"], line["advertiser"]) == (
        "unlawful-content",
        None,
        None,
        None,
    )
    assert line["ended_at"] is not None
    assert "Roasted" not in json.dumps(line)
    assert found(agency.world, text="Roasted") == []
    page = agency.world.http.get("/ad-repository").text
    assert "Roasted" not in page
    assert "unlawful content" in page
    assert agency.world.services.catalogues.archive.landing(creative) is None


def test_what_was_paused_still_leads_to_its_landing_page_only(agency: Agency) -> None:
    _, creative = agency.running()
    agency.done("POST", f"/v1/creatives/{creative}/moves", {"move": "pause"})
    assert agency.world.services.catalogues.archive.landing(creative) == "https://nuts.example/autumn"
    assert agency.world.services.catalogues.archive.landing("nothing") is None


def test_lines_are_searched_and_paged(agency: Agency) -> None:
    world = agency.world
    campaign = agency.campaign()
    agency.approve(f"/v1/campaigns/{campaign}")
    for title in ("Figs 100%", "Figs 100_", "Dates"):
        texts = {"en": creative_body()["texts"]["en"] | {"title": title}}
        agency.approve(f"/v1/creatives/{agency.creative(campaign, texts=texts)}")
        world.clock.advance(10)
    assert [one["content"]["title"]["en"] for one in found(world, text="figs")] == ["Figs 100%", "Figs 100_"]
    assert [one["content"]["title"]["en"] for one in found(world, text="100%")] == ["Figs 100%"]
    assert found(world, text="' OR 1=1 --") == []
    assert len(found(world, advertiser="nuts-and-sons")) == 3
    assert found(world, advertiser="nuts") == []
    start = found(world)[0]["began_at"]
    assert len(found(world, at=start + 5)) == 1
    assert found(world, at=start - 1) == []
    seen, url = [], "/v1/ad-repository?limit=2"
    while url:
        answer = world.http.get(url)
        seen += [one["creative_id"] for one in answer.json()["items"]]
        url = answer.links.get("next", {}).get("url", "")
    assert seen == [one["creative_id"] for one in found(world)]
    assert world.http.get("/v1/ad-repository?cursor=x").status_code == 400


def test_lines_are_kept_for_three_years_and_no_longer(agency: Agency) -> None:
    _, creative = agency.running()
    agency.done("POST", f"/v1/creatives/{creative}/moves", {"move": "pause"})
    agency.world.clock.advance(archive.KEPT_DAYS * DAY_S)
    agency = Agency(agency.world)  # the keys have long expired
    _, other = agency.running()
    assert {one["creative_id"] for one in found(agency.world)} == {creative, other}
    agency.world.clock.advance(1)
    agency.done("POST", f"/v1/creatives/{other}/moves", {"move": "pause"})
    assert {one["creative_id"] for one in found(agency.world)} == {other}


def test_the_page_is_in_both_languages_and_every_word_is_translated(agency: Agency) -> None:
    agency.running()
    english = agency.world.http.get("/ad-repository", headers={"accept-language": "de, en;q=0.5"})
    chinese = agency.world.http.get("/ad-repository", params={"locale": "zh-CN"})
    assert english.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in english.headers["content-security-policy"]
    assert "<script" not in english.text
    assert "Paid for by</dt><dd>Nuts &amp; Sons Ltd." in english.text
    assert "付费方</dt><dd>Nuts &amp; Sons Ltd." in chinese.text
    assert '<span class="mark">广告</span>炒货' in chinese.text
    said = re.findall(r"_\([\"'](.+?)[\"'](?:, count=.+?)?\)", (PAGES / "ad_repository.html").read_text("utf-8"))
    assert len(said) > 20
    assert [text for text in said if text not in words_of("campaigns", "zh-CN")] == []
