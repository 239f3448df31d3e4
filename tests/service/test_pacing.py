"""Serve probabilities of campaigns: from stored figures, the same for everybody, nothing once a budget may be spent."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from common.measurement.layout import Cell, ContributionBounds
from common.taxonomy import Dimension, Metric, PlanKind, ReviewState, Role
from common.wire.documents import open_document
from common.wire.measurement import Cut, MeasurementPlan
from common.wire.messages import PlacementPermit
from server.campaigns import plan_repository
from server.campaigns.plan_repository import Plan
from server.campaigns.terms import CampaignTerms
from server.measurement.repository import StoredDay
from tests.service.test_events import report as confirm
from tests.service.world import World, catalogue

DAY, BID = 86_400, 500_000
NAME = "cmp_paced"


def start(world: World, budget: int, *, days: int = 10, began: int = 0, daily: int | None = None) -> None:
    """An approved campaign of all creatives, which began some days ago."""
    midnight = int(world.clock()) // DAY * DAY
    terms = CampaignTerms(
        name="paced",
        payer="acme",
        landing_url="https://acme.example/",
        starts_at=midnight - began * DAY,
        ends_at=midnight + (days - began) * DAY,
        budget_micros=budget,
        daily_budget_micros=daily,
        bid_micros=BID,
    )
    plan = Plan(NAME, PlanKind.CAMPAIGN, NAME, "acme", ReviewState.APPROVED, 1, terms, "acme", 0, 0)
    with world.services.database.write() as session:
        plan_repository.insert(session, plan)
    shown = [
        c.model_copy(update={"campaign_id": NAME, "bid_micros": BID, "advertiser": "acme"})
        for c in catalogue().creatives
    ]
    world.services.catalogues.publish(shown)


def measured(world: World, ago: int, clicks: float, stddev: float = 5.0) -> None:
    day = int(world.clock()) // DAY - ago
    world.services.measurement.store(
        StoredDay(
            day=day,
            run_id=f"measure-{day}",
            devices=1_000,
            plan=MeasurementPlan(day=day, cuts=(Cut(dimension=Dimension.CAMPAIGN, labels=(NAME,)),)),
            bounds=ContributionBounds(),
            bids={NAME: BID},
            statements=(),
            cells=(Cell(Dimension.CAMPAIGN, NAME, Metric.CLICKS, clicks, stddev),),
        )
    )


def serving(world: World) -> Mapping[str, float]:
    world.services.pacing.refresh()
    return world.services.pacing.serving()


def click(world: World, times: int) -> None:
    for _ in range(times):
        tokens = world.decide(None, world.key(Role.APP_BACKEND))["slots"][0]["tokens"]
        for kind in ("impression", "click"):
            assert confirm(world, tokens[kind], kind)[0] == 202


def test_without_a_budget_nothing_is_paced(furnished: World) -> None:
    assert serving(furnished) == {}


def test_served_clicks_alone_stop_a_campaign_whose_budget_is_spent(any_world: World) -> None:
    start(any_world, 3 * BID, days=1)
    assert serving(any_world) == {}
    click(any_world, 2)
    assert serving(any_world) == {}
    click(any_world, 1)
    assert serving(any_world) == {NAME: 0.0}


def test_a_days_budget_stops_the_day(furnished: World) -> None:
    start(furnished, 1_000 * BID, daily=2 * BID)
    click(furnished, 2)
    assert serving(furnished) == {NAME: 0.0}
    furnished.clock.advance(DAY)
    assert serving(furnished).get(NAME, 1.0) > 0


def test_where_devices_are_measured_a_new_campaign_begins_slowly(furnished: World) -> None:
    start(furnished, 10_000 * BID)
    measured(furnished, 1, 0.0)
    assert serving(furnished) == {NAME: 0.01}


def test_reports_of_devices_raise_and_lower_the_probability(furnished: World) -> None:
    start(furnished, 10_000 * BID, began=3)
    measured(furnished, 3, 30.0)
    measured(furnished, 2, 30.0)
    usual = serving(furnished)[NAME]  # thirty clicks at one per cent: three times what there is to spend
    assert 0.05 < usual < 0.9
    furnished.clock.advance(DAY)
    measured(furnished, 2, 9_000.0)  # far ahead of the line: it waits
    assert serving(furnished) == {NAME: 0.0}


@pytest.mark.parametrize(("clicks", "over"), [(1, False), (3, True)])
def test_a_spent_budget_counts_with_its_noise(furnished: World, clicks: int, *, over: bool) -> None:
    start(furnished, 1_000 * BID, days=4, began=3)
    click(furnished, clicks)
    for ago, reported in ((3, 500.0), (2, 485.0), (1, 0.0)):
        measured(furnished, ago, reported, stddev=3.0)
    found = serving(furnished)[NAME]  # 985 are reported, and at most 998
    assert found == 0 if over else 0 < found < 0.01


def test_a_stale_answer_is_given_until_a_new_one_is_there(furnished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    start(furnished, 1_000 * BID, daily=BID)
    pacing = furnished.services.pacing
    assert pacing.serving() == {}
    click(furnished, 1)
    assert pacing.serving() == {}  # within the minute nothing is asked
    started: list[object] = []

    class Now:
        def __init__(self, *, target: object, **_: object) -> None:
            self.target = target

        def start(self) -> None:
            started.append(self)
            self.target()  # type: ignore[operator]

    monkeypatch.setattr("server.measurement.pacing.threading.Thread", Now)
    furnished.clock.advance(61)
    assert pacing.serving() == {NAME: 0.0}
    assert len(started) == 1


def test_permits_carry_the_same_probabilities(furnished: World) -> None:
    start(furnished, 10_000 * BID)
    measured(furnished, 1, 0.0)
    furnished.services.pacing.refresh()
    device = furnished.consenting()
    answer = furnished.decide(device.handle, device.headers)
    permit = open_document(answer["permit"], PlacementPermit, furnished.services.keys)
    assert permit.pacing == {NAME: 0.01}
