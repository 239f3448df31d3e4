"""What is shown holds the truth as often as it says, however seldom it is shown; plain intervals of it do not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.measurement.estimates import Interval, Noisy, ratio, total
from common.measurement.shown import Rate, shown_total

WIDEST = 0.5


def shown_of(truth: float, runs: int) -> tuple[int, int, int]:
    """Of ``runs`` sums with noise 1: how many were shown, how many of those held the truth, how many plainly would."""
    rng, shown, held, plain = np.random.default_rng(8), 0, 0, 0
    for value in (truth + rng.normal(0, 1, runs)).tolist():
        if (found := shown_total(Noisy(value, 1.0), widest=WIDEST)) is not None:
            shown += 1
            held += found.low <= truth <= found.high
            unaware = total(Noisy(value, 1.0))
            plain += unaware.low <= truth <= unaware.high
    return shown, held, plain


@pytest.mark.parametrize(("truth", "runs"), [(2.0, 6000), (4.0, 250), (12.0, 100)])
def test_a_shown_total_holds_the_truth_as_often_as_it_says(truth: float, runs: int) -> None:
    """A row that noise carries over the rule in 3 % of reports, in half of them, and one that always passes. Control:
    the plain interval, of the first."""
    shown, held, plain = shown_of(truth, runs)
    assert held / shown >= 0.93
    if truth == 2.0:
        assert shown / runs < 0.05
        assert plain / shown < 0.5


def test_a_shown_rate_holds_the_truth_as_often_as_it_says() -> None:
    """4,000 views at 2 %, noise ± 25 clicks: shown in a third of reports. Control as above."""
    rng, shown, held, plain = np.random.default_rng(9), 0, 0, 0
    for clicks, noise, views in zip(rng.poisson(80, 400), rng.normal(0, 25, 400), rng.normal(0, 178, 400), strict=True):
        one = rate(Noisy(float(clicks + noise), 25.0), Noisy(float(4000 + views), 178.0))
        if (found := one.interval()) is not None:
            shown += 1
            held += found.low <= 0.02 <= found.high
            plain += one.plain().low <= 0.02 <= one.plain().high
    assert 40 < shown < 250
    assert held / shown >= 0.93
    assert plain < held


def rate(clicks: Noisy, views: Noisy) -> Rate:
    return Rate(clicks, views, numerator_most=1, denominator_most=5, widest=WIDEST, high_max=1.0)


def test_where_the_rule_would_have_passed_anyway_nothing_is_paid() -> None:
    comfortable = rate(Noisy(2000.0, 25.0), Noisy(100_000.0, 178.0))
    assert comfortable.interval() == comfortable.plain()
    found, plain = shown_total(Noisy(1000.0, 25.0), widest=WIDEST), total(Noisy(1000.0, 25.0))
    assert found is not None
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high))


def test_a_rate_that_is_cut_off_at_one_does_not_look_precise_for_it() -> None:
    """8 ± 25 clicks of 2 ± 178 views: somewhere from 0 to 1, which is 0.5 of 1."""
    few = rate(Noisy(8.0, 25.0), Noisy(2.0, 178.0))
    assert few.plain() == Interval(1.0, 0.0, 1.0)
    assert few.plain().relative_half_width <= WIDEST
    assert few.interval() is None


def test_a_cost_that_nothing_bounds_says_so() -> None:
    """Clicks per conversion where the conversions only just pass: they may be next to none."""
    clicks, conversions = Noisy(1200.0, 67.0), Noisy(380.0, 73.0)
    found = Rate(clicks, conversions, numerator_most=1, denominator_most=1, widest=WIDEST).interval()
    assert found is not None
    assert math.isinf(found.high)


def test_the_threshold_counts_as_a_rule_too() -> None:
    """Reach of 250 ± 40 passes a lower end of 165 by little, and the rule on widths by far."""
    near, free = (shown_total(Noisy(250.0, 40.0), widest=WIDEST, least=least) for least in (165.0, 0.0))
    assert near is not None
    assert free is not None
    assert near.low < free.low


@settings(deadline=None, max_examples=40)
@given(st.floats(0, 1e4), st.floats(0, 100), st.floats(1, 1e5), st.floats(0, 300))
def test_an_interval_that_knows_it_was_chosen_is_never_the_narrower_one(
    n: float, noise: float, d: float, other: float
) -> None:
    one = rate(Noisy(n, noise), Noisy(d, other))
    found = one.interval()
    if found is not None:
        assert found.low <= one.plain().low + 1e-12
        assert found.high >= one.plain().high - 1e-12
        assert found.low <= found.value <= found.high
        plain = ratio(one.numerator, one.denominator, numerator_most=1, denominator_most=5)
        assert plain.relative_half_width <= WIDEST
