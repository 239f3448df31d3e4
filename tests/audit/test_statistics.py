"""The statistics hold what they state: bounds, error probabilities, power. All draws are seeded."""

import math

import numpy as np
import pytest
from scipy import stats

from common.privacy import accountant
from common.privacy.audit import (
    ClaimedCurve,
    audited_epsilon,
    claimed_curve,
    curve_power,
    curve_test,
    detectable_noise,
    detectable_variance,
    gaussian_delta,
    gaussian_epsilon,
    rate_high,
    rate_low,
    variance_test,
)
from common.taxonomy import Profile
from tests.audit.worlds import make_policy

MU = 0.75


def gaussian_curve(mu: float) -> ClaimedCurve:
    return claimed_curve(lambda delta: gaussian_epsilon(mu, delta))


def scores(mu: float, runs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(mu, 1, runs), rng.normal(0, 1, runs)


@pytest.mark.parametrize("hits", [0, 1, 17, 99, 100])
def test_rates_are_bounded_as_by_clopper_and_pearson(hits: int) -> None:
    interval = stats.binomtest(hits, 100).proportion_ci(0.99, method="exact")
    found = np.array([hits], float)
    assert rate_low(found, 100, 0.005)[0] == pytest.approx(interval.low)
    assert rate_high(found, 100, 0.005)[0] == pytest.approx(interval.high)


@pytest.mark.parametrize(("mu", "delta"), [(0.05, 1e-5), (0.75, 1e-5), (3.0, 1e-6), (8.0, 0.1)])
def test_the_gaussian_curve_is_the_accountants(mu: float, delta: float) -> None:
    use = make_policy(training={"noise_multiplier": 1 / mu}).training.release(Profile.RECORD_LOCAL)
    epsilon = gaussian_epsilon(mu, delta)
    assert epsilon == pytest.approx(accountant.epsilon([use], delta), rel=2e-3, abs=2e-4)
    assert gaussian_delta(mu, epsilon) == pytest.approx(delta, rel=1e-4)


def test_a_claimed_curve_is_no_stricter_than_its_mechanism() -> None:
    """The points bound the true trade-off curve from outside and touch it nearly."""
    false = np.linspace(0.001, 0.999, 99)
    true = stats.norm.cdf(stats.norm.ppf(false) + MU)
    allowed = gaussian_curve(MU).true_positives_max(false)
    assert (allowed >= true - 1e-9).all()
    assert (allowed <= true + 0.02).all()


def test_a_claim_without_any_privacy_is_never_falsified() -> None:
    assert not curve_test(np.ones(100), np.zeros(100), claimed_curve(lambda _: math.inf)).falsified


def test_a_true_claim_is_seldom_rejected() -> None:
    """400 audits of an exact Gaussian, error probability 0.01 each: more than 11 rejections have p < 1e-3."""
    claim = gaussian_curve(MU)
    assert sum(curve_test(*scores(MU, 1000, seed), claim).falsified for seed in range(400)) <= 11


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("swapped", [False, True])
def test_both_directions_and_signs_are_tried(direction: int, swapped: bool) -> None:
    present, absent = scores(3 * MU, 1000, 1)
    pair = (absent, present) if swapped else (present, absent)
    assert curve_test(direction * pair[0], direction * pair[1], gaussian_curve(MU)).margin > 0.2


@pytest.mark.parametrize(("mu", "runs"), [(0.4, 600), (MU, 2000), (1.7, 1000), (3.0, 2000)])
def test_power_is_as_stated(mu: float, runs: int) -> None:
    """Noise so far below the declared that it is caught with probability 0.9: at least 48 of 60 audits (p > 0.99)."""
    claim = gaussian_curve(mu)
    share = detectable_noise(mu, claim, runs)
    assert 0.3 < share < 0.9
    assert curve_power(mu, claim, runs) < 0.01
    assert sum(curve_test(*scores(mu / share, runs, seed), claim).falsified for seed in range(60)) >= 48


def test_audited_epsilon_is_a_lower_bound_and_not_an_empty_one() -> None:
    """200 audits at error 0.05, the true ε known: more than 20 bounds above it have p < 1e-3."""
    truth = gaussian_epsilon(2.0, 1e-5)
    found = [audited_epsilon(*scores(2.0, 4000, seed), 1e-5) for seed in range(200)]
    assert sum(bound.distribution_free > truth for bound in found) <= 20
    assert sum(bound.gaussian > truth for bound in found) <= 20
    assert np.median([bound.gaussian for bound in found]) > 0.8 * truth
    assert np.median([bound.distribution_free for bound in found]) > 0.25 * truth


def test_the_variance_test_sees_what_it_says_and_no_more() -> None:
    """Error 1e-3 on 200 honest sets: more than 4 rejections have p < 1e-5. At its detectable error: at least 80 %."""
    rng = np.random.default_rng(3)
    seen = detectable_variance(29 * 1000)
    assert 0.01 < seen < 0.03
    honest = [variance_test(rng.normal(5, 2, (30, 1000)), 2.0).falsified for _ in range(200)]
    wrong = [variance_test(rng.normal(5, 2 * (1 - seen), (30, 1000)), 2.0).falsified for _ in range(100)]
    assert sum(honest) <= 4
    assert sum(wrong) >= 80
