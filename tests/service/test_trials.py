"""Reports from released counts: only what was released, only above the threshold, with the noise in the interval."""

from __future__ import annotations

from typing import Any

import pytest

from common.measurement.layout import METRICS, Cell, ContributionBounds
from common.taxonomy import Dimension, Metric, Role
from common.wire.measurement import Cut, MeasurementPlan
from server.measurement.repository import StoredDay
from tests.service.test_changes import DAY, started
from tests.service.world import World

NOISE = 20.0


def released(world: World, experiment: str, day: int, counts: dict[str, dict[Metric, float]]) -> None:
    """A day's release, as ``Measure`` stores it."""
    cut = Cut(dimension=Dimension.ARM, labels=tuple(counts))
    cells = tuple(
        Cell(Dimension.ARM, arm, metric, counts[arm].get(metric, 0.0), NOISE)
        for metric in METRICS[Dimension.ARM]
        for arm in counts
    )
    world.services.measurement.store(
        StoredDay(
            day=day,
            run_id=f"run-{day}",
            devices=2000,
            plan=MeasurementPlan(
                day=day, cuts=(Cut(dimension=Dimension.CAMPAIGN, labels=("c",)), cut), experiment=experiment
            ),
            bounds=ContributionBounds(),
            bids={},
            statements=(),
            cells=cells,
        )
    )


def counts(reach: float, views: float, clicks: float) -> dict[Metric, float]:
    return {Metric.REACH: reach, Metric.VIEWS: views, Metric.CLICKS: clicks}


def tables(world: World) -> list[dict[str, Any]]:
    key = world.key(Role.AUDITOR, holder="eve")
    return list(world.http.get("/v1/experiments/narrower/report", headers=key).json()["tables"])


@pytest.fixture
def running(furnished: World) -> tuple[World, str]:
    assert started(furnished).status_code == 200
    found = furnished.services.experiments.in_force()
    assert found is not None
    return furnished, found.digest


def test_released_days_are_added_up_with_their_noise(running: tuple[World, str]) -> None:
    world, digest = running
    today = int(world.clock()) // DAY
    assert len(tables(world)) == 1  # nothing was released yet
    for day in (today, today + 1):
        released(world, digest, day, {"arm0": counts(1000, 4000, 160), "arm1": counts(1010, 4000, 400)})
    released(world, "f" * 64, today + 2, {"arm0": counts(9999, 9999, 0), "arm1": counts(9999, 9999, 9999)})  # another's
    _, found = tables(world)
    assert (found["source"], found["unit"], found["split"]["broken"]) == ("devices", "device-day", False)
    first, second = found["arms"]
    assert (first["units"], first["views"], first["rewards"]) == (2000, 8000, 320)
    assert second["views_noise"] == pytest.approx(NOISE * 2**0.5)
    assert second["difference"]["verdict"] == "better"
    assert second["difference"]["value"] == pytest.approx(0.06, abs=0.002)


def test_a_broken_split_of_devices_is_said(running: tuple[World, str]) -> None:
    world, digest = running
    today = int(world.clock()) // DAY
    released(world, digest, today, {"arm0": counts(1000, 4000, 160), "arm1": counts(1400, 4000, 160)})
    assert tables(world)[1]["split"]["broken"]


def test_arms_below_the_threshold_are_not_shown(running: tuple[World, str]) -> None:
    """Control: with one more device-day than the threshold the same table is there."""
    world, digest = running
    today = int(world.clock()) // DAY
    releases = world.services.policies.policies.privacy_budget.releases.placement_counts
    assert releases is not None
    least = releases.reach_min
    released(world, digest, today, {"arm0": counts(1000, 900, 5), "arm1": counts(least - 1, 900, 5)})
    assert len(tables(world)) == 1
    released(world, digest, today + 1, {"arm0": counts(0, 0, 0), "arm1": counts(2, 0, 0)})
    assert len(tables(world)) == 2
