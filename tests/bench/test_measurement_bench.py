"""The coverage simulation: it counts as devices do, its intervals hold, and its control is caught."""

from __future__ import annotations

import numpy as np
import pytest

from bench.measurement import World, counts, release, rows, run
from common.measurement.counting import Happened, count_vector
from common.measurement.layout import Block, blocks
from common.privacy.randomness import SimulationNoise
from common.taxonomy import Dimension, Metric


def test_the_simulation_lays_a_device_out_as_the_device_does() -> None:
    world = World.of(60)
    counted = counts(world, np.random.default_rng(1))
    things = [Metric.VIEWS, Metric.CLICKS, Metric.CONVERSIONS, Metric.UNSEEN]
    for device in range(60):
        happened = [
            Happened(0.0, f"c{i}", metric, value_micros=world.rules.bounds.value_micros_max)
            for metric in things
            for i, count in enumerate(counted[metric][device])
            for _ in range(int(count))
        ]
        vector = count_vector(happened, world.plan, world.rules.bounds)
        for block in blocks(world.plan, world.rules.bounds):
            if block.cut.dimension is Dimension.CAMPAIGN and block.metric is not Metric.VALUE:
                assert vector[_span(block)] == pytest.approx(block.factor * counted[block.metric][device])


def _span(block: Block) -> slice:
    return slice(block.start, block.start + len(block.cut.labels))


def test_a_sum_is_read_back_within_its_noise() -> None:
    world, rng = World.of(500), np.random.default_rng(2)
    counted = counts(world, rng)
    found = rows(world, release(world, counted, SimulationNoise(1, "a", "b", 1), rng))
    for i, row in enumerate(found.values()):
        for metric, one in row.sums.items():
            assert abs(one.value - counted[metric][:, i].sum()) < 6 * one.stddev


@pytest.mark.statistical
def test_reports_hold_what_they_say_and_a_build_that_forgets_the_noise_does_not() -> None:
    """400 cohorts of six campaigns: each coverage has a standard error of 1.1 points at 95 %; a right build falls below
    91.5 % anywhere of 18 with probability below 2 %, and the seed is fixed. The control holds at most 75 % anywhere.
    """
    found = run(devices=2_000, runs=400, seed=4)
    campaigns = found["campaigns"].values()  # type: ignore[attr-defined]
    assert min(value for row in campaigns for value in row["coverage"].values()) > 0.915
    assert max(value for row in campaigns for value in row["coverage_of_control"].values()) < 0.75
    assert found["rows_of_too_few_shown"] / found["rows_of_too_few"] < 0.04  # type: ignore[operator]
