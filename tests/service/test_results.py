"""Reports of results: own campaigns, intervals, nothing below the threshold, stored answers, bills never too high."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Mapping
from typing import Any

import pytest

from common.errors import AlreadyMeasured
from common.measurement.counting import UNDECLARED
from common.measurement.layout import METRICS, Cell, ContributionBounds
from common.taxonomy import Dimension, Metric, Role
from common.wire.measurement import Cut, MeasurementPlan
from server.measurement.repository import StoredDay
from tests.service.test_events import report as confirm
from tests.service.world import STATEMENT, World, catalogue

CAMPAIGN = "acme"
CREATIVES = [c.model_copy(update={"advertiser": CAMPAIGN, "bid_micros": 120_000}) for c in catalogue().creatives]
GROUPS = ("18 to 29", UNDECLARED)
BID = 250_000
PLENTY = {
    Metric.VIEWS: 40_000.0,
    Metric.CLICKS: 1_000.0,
    Metric.CONVERSIONS: 300.0,
    Metric.VALUE: 120.0,
    Metric.REACH: 9_000.0,
    Metric.UNSEEN: 400.0,
    Metric.PREDICTED: 1_100.0,
    Metric.DEVICES: 12_000.0,
}


@pytest.fixture
def shop(furnished: World) -> World:
    """A service whose catalogue is one advertiser's."""
    furnished.services.catalogues.publish(CREATIVES)
    return furnished


def today(world: World) -> int:
    return int(world.clock()) // 86_400


def stored(day: int, counts: Mapping[Metric, float] = PLENTY, *, stddev: float = 10.0, bid: int = BID) -> StoredDay:
    cuts = (Cut(dimension=Dimension.CAMPAIGN, labels=(CAMPAIGN,)), Cut(dimension=Dimension.GROUP, labels=GROUPS))
    return StoredDay(
        day=day,
        run_id=f"measure-{day}",
        devices=12_000,
        plan=MeasurementPlan(day=day, cuts=cuts),
        bounds=ContributionBounds(),
        bids={CAMPAIGN: bid},
        statements=(STATEMENT,),
        cells=tuple(
            Cell(cut.dimension, label, metric, counts[metric], stddev)
            for cut in cuts
            for label in cut.labels
            for metric in METRICS[cut.dimension]
        ),
    )


def results(world: World, holder: str = CAMPAIGN, **query: str) -> dict[str, Any]:
    headers = world.key(Role.ADVERTISER, holder=holder)
    answer = world.http.get(f"/v1/reports/campaigns/{CAMPAIGN}", params=query, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def numbers(value: object) -> list[float]:
    """Every number anywhere in an answer."""
    if isinstance(value, Mapping):
        return [number for one in value.values() for number in numbers(one)]
    if isinstance(value, list):
        return [number for one in value for number in numbers(one)]
    return [float(value)] if isinstance(value, int | float) and not isinstance(value, bool) else []


def test_results_have_intervals_that_hold_what_they_were_made_from(any_world: World) -> None:
    any_world.services.catalogues.publish(CREATIVES)
    for day in (2, 1):
        any_world.services.measurement.store(stored(today(any_world) - day))
    found = results(any_world)
    device = found["on_device"]
    truth = {
        "views": 80_000,
        "clicks": 2_000,
        "conversions": 600,
        "reach": 18_000,
        "click_rate": 0.025,
        "conversion_rate": 0.3,
        "error_rate": 400 / 40_400,
        "cost_per_action_micros": BID / 0.3,
        "return_on_ad_spend": 240 * 50_000_000 / (2_000 * BID),
    }
    for name, value in truth.items():
        assert device[name]["value"] == pytest.approx(value), name
        assert device[name]["low"] < value < device[name]["high"], name
        assert (device[name]["exact"], device[name]["withheld"]) == (False, None)
    assert device["clicks"]["high"] - device["clicks"]["low"] == pytest.approx(2 * 1.959964 * 10 * 2**0.5)
    assert found["basis"]["days_measured"] == found["basis"]["days_shown"] == 2
    assert found["basis"]["statements"][0]["epsilon"] == STATEMENT.epsilon
    assert set(found["served"]["views"].values()) == {None, False, "below-threshold"}


def test_the_same_question_gets_the_stored_answer_and_a_day_is_stored_once(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 1))
    first = results(shop)
    with pytest.raises(AlreadyMeasured):
        shop.services.measurement.store(stored(today(shop) - 1, PLENTY | {Metric.CLICKS: 1.0}))
    assert results(shop) == first


@pytest.mark.parametrize("reach", [-200.0, 0.0, 49.0, 50.0 + 1.9 * 10])
def test_nothing_of_a_row_below_the_threshold_is_shown(shop: World, reach: float) -> None:
    counts = PLENTY | {Metric.REACH: reach, Metric.DEVICES: reach, Metric.VIEWS: 77_001.0, Metric.CLICKS: 7_003.0}
    shop.services.measurement.store(stored(today(shop) - 1, counts))
    found = results(shop)
    figures = [*found["on_device"].values(), *found["served"].values()]
    assert {figure["withheld"] for figure in figures} == {"below-threshold"}
    assert not any(numbers(figures))
    assert not any(numbers(found["bill"]))
    officer = shop.key(Role.PRIVACY_OFFICER)
    rows = shop.http.get("/v1/reports/exposure/groups", headers=officer).json()
    assert not any(numbers(rows["groups"]))
    whole = results(shop, format="json")
    assert not {77_001.0, 7_003.0}.intersection(numbers(whole))


def test_just_above_the_threshold_the_same_row_is_shown(shop: World) -> None:
    """The control of the test before: two standard deviations above it, nothing is withheld for the threshold."""
    counts = PLENTY | {Metric.REACH: 50.0 + 2.0 * 10, Metric.DEVICES: 50.0 + 2.0 * 10}
    shop.services.measurement.store(stored(today(shop) - 1, counts))
    assert results(shop)["on_device"]["views"]["value"] == PLENTY[Metric.VIEWS]


def test_a_figure_with_too_wide_an_interval_is_withheld_alone(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 1, PLENTY | {Metric.CONVERSIONS: 30.0}))
    device = results(shop)["on_device"]
    assert device["conversions"]["withheld"] == "too-noisy"
    assert device["conversion_rate"]["withheld"] == device["cost_per_action_micros"]["withheld"] == "too-noisy"
    assert device["clicks"]["value"] == 1_000


def test_days_below_the_threshold_are_left_out_of_a_longer_report(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 2))
    shop.services.measurement.store(stored(today(shop) - 1, PLENTY | {Metric.REACH: 12.0}))
    found = results(shop)
    assert (found["basis"]["days_measured"], found["basis"]["days_shown"]) == (2, 1)
    assert found["on_device"]["views"]["value"] == 40_000


def test_an_advertiser_sees_its_own_campaigns_only(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 1))
    for name, holder in ((CAMPAIGN, "somebody-else"), ("no such campaign", CAMPAIGN)):
        headers = shop.key(Role.ADVERTISER, holder=holder)
        answer = shop.http.get(f"/v1/reports/campaigns/{name}", headers=headers)
        assert (answer.status_code, answer.json()["title"]) == (404, "NotFound")
    for role in (Role.APP_BACKEND, Role.ADMIN):
        denied = shop.http.get(f"/v1/reports/campaigns/{CAMPAIGN}", headers=shop.key(role))
        assert denied.status_code == 403
    groups = shop.http.get("/v1/reports/exposure/groups", headers=shop.key(Role.ADVERTISER, holder=CAMPAIGN))
    assert groups.status_code == 403


def test_devices_clicks_are_billed_at_the_lower_end_and_served_clicks_exactly(shop: World) -> None:
    backend = shop.key(Role.APP_BACKEND)
    for shown in range(60):
        tokens = shop.decide(None, backend)["slots"][0]["tokens"]
        confirm(shop, tokens["impression"], "impression")
        if shown % 10 == 0:
            confirm(shop, tokens["click"], "click")
            confirm(shop, tokens["click"], "click")
    shop.services.measurement.store(stored(today(shop) - 1))
    found = results(shop, first=_date(today(shop) - 1), last=_date(today(shop)))
    low = found["on_device"]["clicks"]["low"]
    assert low == pytest.approx(1_000 - 1.959964 * 10)
    bill = found["bill"]
    assert bill["on_device_clicks"] == int(low)
    assert bill["on_device_micros"] == int(low * BID)
    assert bill["served_clicks"] == 6
    assert bill["served_micros"] == 6 * 120_000
    assert bill["total_micros"] == bill["served_micros"] + bill["on_device_micros"]
    assert (found["served"]["views"]["value"], found["served"]["views"]["exact"]) == (60, True)
    assert found["served"]["clicks"]["low"] == found["served"]["clicks"]["high"] == 6


def test_each_day_is_billed_at_its_own_lowest_bid(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 2, bid=100_000))
    shop.services.measurement.store(stored(today(shop) - 1, bid=300_000))
    noise = 1.959964 * 10 * (100_000**2 + 300_000**2) ** 0.5
    assert results(shop)["bill"]["on_device_micros"] == int(1_000 * 400_000 - noise)


def test_a_report_as_csv_says_the_same_and_is_no_formula(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 1))
    found = results(shop)
    headers = shop.key(Role.ADVERTISER, holder=CAMPAIGN)
    answer = shop.http.get(f"/v1/reports/campaigns/{CAMPAIGN}", params={"format": "csv"}, headers=headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = {(row["chosen"], row["figure"]): row for row in csv.DictReader(io.StringIO(answer.text))}
    assert float(rows["on_device", "click_rate"]["value"]) == found["on_device"]["click_rate"]["value"]
    assert rows["served", "views"]["value"] == ""
    assert rows["served", "views"]["withheld"] == "below-threshold"
    assert int(rows["bill", "total_micros"]["value"]) == found["bill"]["total_micros"]


def test_groups_show_exposure_and_quality_side_by_side(shop: World) -> None:
    shop.services.measurement.store(stored(today(shop) - 1))
    rows = shop.http.get("/v1/reports/exposure/groups", headers=shop.key(Role.AUDITOR)).json()
    assert [row["group"] for row in rows["groups"]] == sorted(GROUPS)
    first, everybody = rows["groups"][0], rows["everybody"]
    assert first["views_per_person"]["value"] == pytest.approx(40_000 / 12_000)
    assert first["predicted_over_clicked"]["value"] == pytest.approx(1.1)
    assert everybody["people"]["value"] == 24_000
    assert everybody["click_rate"]["low"] < 0.025 < everybody["click_rate"]["high"]


@pytest.mark.parametrize(
    "query", [{"first": "2027-01-02", "last": "2027-01-01"}, {"first": "1970-01-01"}, {"first": "x"}]
)
def test_impossible_spans_are_errors(shop: World, query: dict[str, str]) -> None:
    headers = shop.key(Role.ADVERTISER, holder=CAMPAIGN)
    answer = shop.http.get(f"/v1/reports/campaigns/{CAMPAIGN}", params=query, headers=headers)
    assert answer.status_code in {400, 422}


def test_crowds_are_lower_ends(shop: World) -> None:
    for day in (2, 1):
        shop.services.measurement.store(stored(today(shop) - day))
    crowd = shop.services.measurement.crowds()[CAMPAIGN]
    assert crowd == pytest.approx(9_000 - 1.959964 * 10 * 2**0.5 / 2)


def _date(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=day)).isoformat()
