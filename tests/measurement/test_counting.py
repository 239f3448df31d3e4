"""Contribution bounds: whatever happens on a device, its vector has norm at most 1 and its cells hold what is said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from common.errors import ShapeMismatch
from common.measurement.counting import UNDECLARED, Happened, bounded, count_vector
from common.measurement.layout import METRICS, ContributionBounds, blocks, plan_length, read_sum
from common.taxonomy import Dimension, Metric
from common.wire.measurement import Cut, MeasurementPlan

CAMPAIGNS, GROUPS, ARMS = ("a", "b", "c"), ("young", UNDECLARED), ("old", "new")
PLAN = MeasurementPlan(
    day=1,
    cuts=(
        Cut(dimension=Dimension.CAMPAIGN, labels=CAMPAIGNS),
        Cut(dimension=Dimension.GROUP, labels=GROUPS),
        Cut(dimension=Dimension.ARM, labels=ARMS),
    ),
    experiment="e" * 64,
)
BOUNDS = ContributionBounds()
THINGS = st.builds(
    Happened,
    time=st.floats(0, 86_400),
    campaign=st.sampled_from([*CAMPAIGNS, "d", "e", "f"]),
    metric=st.sampled_from([Metric.VIEWS, Metric.CLICKS, Metric.CONVERSIONS, Metric.UNSEEN]),
    value_micros=st.integers(-(10**9), 10**12),
    predicted=st.floats(-10, 10),
    arm=st.sampled_from(["", *ARMS]),
)
ANY_BOUNDS = st.builds(
    ContributionBounds,
    views_per_campaign=st.integers(1, 30),
    clicks_per_campaign=st.integers(1, 5),
    conversions_per_campaign=st.integers(1, 5),
    views_per_day=st.integers(1, 30),
    responses_per_day=st.integers(1, 8),
)


def read(happened: list[Happened], group: str = "") -> dict[tuple[Dimension, str, Metric], float]:
    vector = count_vector(happened, PLAN, BOUNDS, group=group)
    cells = read_sum(vector, PLAN, BOUNDS, noise_stddev=0.0)
    return {(cell.dimension, cell.label, cell.metric): cell.value for cell in cells}


@given(st.lists(THINGS, max_size=80), ANY_BOUNDS, st.sampled_from(["", "young", "other"]))
def test_no_device_has_a_longer_vector_than_the_clip(
    happened: list[Happened], bounds: ContributionBounds, group: str
) -> None:
    assert np.linalg.norm(count_vector(happened, PLAN, bounds, group=group)) <= 1 + 1e-12


def test_the_bound_is_reached_so_that_no_noise_is_wasted() -> None:
    """Four campaigns of five views each: the block of views has exactly its share of the norm."""
    labels = tuple("abcd")
    plan = MeasurementPlan(day=1, cuts=(Cut(dimension=Dimension.CAMPAIGN, labels=labels),))
    happened = [Happened(i, labels[i % 4], Metric.VIEWS) for i in range(100)]
    vector = count_vector(happened, plan, BOUNDS)
    block = next(iter(blocks(plan, BOUNDS)))
    assert np.linalg.norm(vector[:4]) == pytest.approx(block.factor * BOUNDS.norm(Metric.VIEWS, Dimension.CAMPAIGN))


@given(st.lists(THINGS, max_size=80))
def test_what_is_kept_is_within_every_bound_and_the_earliest(happened: list[Happened]) -> None:
    kept = bounded(happened, BOUNDS)
    for metric in (Metric.VIEWS, Metric.CLICKS, Metric.CONVERSIONS):
        mine = [one for one in kept if one.metric is metric]
        assert len(mine) <= BOUNDS.most(metric, Dimension.GROUP)
        for campaign in {one.campaign for one in mine}:
            of_it = [one.time for one in mine if one.campaign == campaign]
            assert len(of_it) <= BOUNDS.most(metric, Dimension.CAMPAIGN)
            if len(of_it) < BOUNDS.most(metric, Dimension.CAMPAIGN) and len(mine) < BOUNDS.most(
                metric, Dimension.GROUP
            ):
                whole = [one.time for one in happened if one.metric is metric and one.campaign == campaign]
                assert len(of_it) == len(whole)


def test_cells_hold_bounded_counts() -> None:
    happened = [Happened(i, "a", Metric.VIEWS, predicted=0.25, arm="new") for i in range(9)]
    happened += [Happened(i, "b", Metric.CLICKS, arm="new") for i in range(4)]
    happened += [Happened(9, "b", Metric.CONVERSIONS, value_micros=10**15, arm="new"), Happened(9, "d", Metric.VIEWS)]
    found = read(happened, group="young")
    campaign, group, arm = Dimension.CAMPAIGN, Dimension.GROUP, Dimension.ARM
    assert found[campaign, "a", Metric.VIEWS] == pytest.approx(5)
    assert found[campaign, "b", Metric.CLICKS] == pytest.approx(1)
    assert found[campaign, "b", Metric.VALUE] == pytest.approx(1)  # the bound is the unit
    assert found[campaign, "a", Metric.REACH] == pytest.approx(1)
    assert found[campaign, "b", Metric.REACH] == found[campaign, "c", Metric.VIEWS] == 0
    assert found[group, "young", Metric.VIEWS] == pytest.approx(6)  # of all campaigns, listed or not
    assert found[group, "young", Metric.PREDICTED] == pytest.approx(1.25)
    assert found[group, "young", Metric.DEVICES] == pytest.approx(1)
    assert found[arm, "new", Metric.CLICKS] == pytest.approx(1)
    assert not any(value for (_, label, _), value in found.items() if label in {UNDECLARED, "old"})


def test_a_device_on_which_nothing_happened_is_counted_as_one_and_nothing_more() -> None:
    found = read([])
    assert {key for key, value in found.items() if value} == {(Dimension.GROUP, UNDECLARED, Metric.DEVICES)}


def test_a_device_counts_in_one_arm_only() -> None:
    """A device that claims two arms gets the first: a second one would double what it may contribute."""
    happened = [Happened(0, "a", Metric.VIEWS, arm="old"), Happened(1, "a", Metric.VIEWS, arm="new")]
    found = read(happened)
    assert found[Dimension.ARM, "old", Metric.VIEWS] == pytest.approx(1)
    assert found[Dimension.ARM, "new", Metric.VIEWS] == 0


def test_a_sum_of_another_layout_is_refused() -> None:
    with pytest.raises(ShapeMismatch):
        read_sum(np.zeros(plan_length(PLAN) + 1), PLAN, BOUNDS, noise_stddev=1.0)


def test_noise_is_read_back_in_counts() -> None:
    cells = read_sum(np.zeros(plan_length(PLAN)), PLAN, BOUNDS, noise_stddev=2.0)
    factors = {(b.cut.dimension, b.metric): b.factor for b in blocks(PLAN, BOUNDS)}
    assert all(cell.stddev * factors[cell.dimension, cell.metric] == pytest.approx(2.0) for cell in cells)
    assert sum(
        b.factor**2 * BOUNDS.norm(b.metric, b.cut.dimension) ** 2 for b in blocks(PLAN, BOUNDS)
    ) == pytest.approx(1)
    assert len(cells) == sum(len(METRICS[cut.dimension]) * len(cut.labels) for cut in PLAN.cuts)


@pytest.mark.parametrize(
    "change",
    [
        {"cuts": (Cut(dimension=Dimension.GROUP, labels=("a",)), Cut(dimension=Dimension.GROUP, labels=("b",)))},
        {"experiment": None},
        {"cuts": PLAN.cuts[:1]},
        {"cuts": ()},
    ],
)
def test_plans_that_contradict_themselves_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        MeasurementPlan.model_validate(PLAN.model_dump() | change)


def test_a_label_occurs_once() -> None:
    with pytest.raises(ValidationError):
        Cut(dimension=Dimension.GROUP, labels=("a", "a"))
