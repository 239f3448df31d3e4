"""ε against independent computations: closed form, numerical integration, dp_accounting's RDP and Opacus' PRV."""

import math
import time

import dp_accounting
import pytest
from dp_accounting import rdp
from opacus.accountants import PRVAccountant
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from common.errors import ContractError
from common.privacy.accountant import describe, epsilon, statement
from common.privacy.parameters import MechanismUse
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, TrustModel

DELTA = 1e-5


def use(z: float, q: float = 1.0, count: int = 1, **changes: object) -> MechanismUse:
    mechanism = Mechanism.POISSON_SUBSAMPLED_GAUSSIAN if q < 1 else Mechanism.GAUSSIAN
    fields: dict[str, object] = {
        "mechanism": mechanism, "noise_multiplier": z, "sampling_rate": q, "count": count, "unit": PrivacyUnit.RECORD,
        "relation": NeighbouringRelation.ADD_REMOVE, "trust": TrustModel.LOCAL,
    }  # fmt: skip
    return MechanismUse.model_validate(fields | changes)


def gaussian_closed_form(z: float, count: int, delta: float) -> float:
    """Balle and Wang 2018, Theorem 8, solved for ε, for ``count`` composed Gaussians."""
    mu = math.sqrt(count) / z

    def excess(eps: float) -> float:
        return float(norm.cdf(mu / 2 - eps / mu) - math.exp(eps) * norm.cdf(-mu / 2 - eps / mu) - delta)

    return float(brentq(excess, 0, 400))


def subsampled_by_integration(z: float, q: float, delta: float) -> float:
    """One Poisson-subsampled Gaussian: the worse of both hockey-stick divergences by quadrature."""

    def mixture(x: float) -> float:
        return float((1 - q) * norm.pdf(x, 0, z) + q * norm.pdf(x, 1, z))

    def excess(eps: float) -> float:
        def remove(x: float) -> float:
            return max(0.0, mixture(x) - math.exp(eps) * float(norm.pdf(x, 0, z)))

        def add(x: float) -> float:
            return max(0.0, float(norm.pdf(x, 0, z)) - math.exp(eps) * mixture(x))

        return max(quad(f, -12 * z, 12 * z + 1, limit=400)[0] for f in (remove, add)) - delta

    return float(brentq(excess, 1e-6, 60, xtol=1e-6))


@pytest.mark.parametrize(
    ("z", "count"), [(4.0, 1), (4.0, 20), (1.0, 50), (10.0, 3), (0.1, 5), (40.0, 1), (4.0, 20_000)]
)
def test_gaussian_rounds_equal_the_closed_form(z: float, count: int) -> None:
    expected = (
        gaussian_closed_form(z, count, DELTA)
        if count < 1000
        else dp_accounting.get_epsilon_gaussian(z / count**0.5, DELTA)
    )
    assert epsilon([use(z)] * count, DELTA) == pytest.approx(expected, rel=1e-3)
    assert epsilon([use(z, count=count)], DELTA) >= expected * (1 - 1e-6)  # an upper bound, never below


@pytest.mark.parametrize(("z", "q"), [(1.0, 0.5), (2.0, 0.1), (0.7, 0.3)])
def test_one_sampled_round_equals_numerical_integration(z: float, q: float) -> None:
    assert epsilon([use(z, q)], DELTA) == pytest.approx(subsampled_by_integration(z, q, DELTA), rel=5e-3)


@pytest.mark.parametrize(("z", "q", "count"), [(1.0, 0.5, 20), (1.0, 1 / 16, 160), (0.6, 0.1, 40)])
def test_sampled_rounds_agree_with_prv_and_stay_below_rdp(z: float, q: float, count: int) -> None:
    ours = epsilon([use(z, q, count)], DELTA)
    prv = PRVAccountant()
    for _ in range(count):
        prv.step(noise_multiplier=z, sample_rate=q)
    assert ours == pytest.approx(prv.get_epsilon(DELTA), rel=1e-2)
    loose = rdp.RdpAccountant()
    loose.compose(dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(z)), count)
    assert ours <= loose.get_epsilon(DELTA)


def test_published_figure_for_the_project_s_documents() -> None:
    """privacy.md §4: 20 sampled steps at σ=1, q=.5 cost 15.1; full-batch σ=4 costs 3.3 after 10 rounds."""
    assert epsilon([use(1.0, 0.5, 20)], DELTA) == pytest.approx(15.1, abs=0.05)
    assert epsilon([use(4.0, count=10)], DELTA) == pytest.approx(3.3, abs=0.05)


def test_mixed_rounds_compose() -> None:
    mixed = [use(4.0, count=5), use(2.0, 0.2, 10), use(8.0)]
    both = epsilon(mixed, DELTA)
    assert both == epsilon(list(reversed(mixed)), DELTA)
    assert max(epsilon([part], DELTA) for part in mixed) < both < sum(epsilon([part], DELTA) for part in mixed)


def test_monotone_in_everything() -> None:
    base = epsilon([use(2.0, 0.3, 5)], DELTA)
    assert epsilon([use(2.0, 0.3, 6)], DELTA) > base
    assert epsilon([use(2.1, 0.3, 5)], DELTA) < base
    assert epsilon([use(2.0, 0.4, 5)], DELTA) > base
    assert epsilon([use(2.0, 0.3, 5)], DELTA / 10) > base
    assert epsilon([use(2.0, 1.0, 5)], DELTA) > epsilon([use(2.0, 0.999, 5)], DELTA)


def test_no_amplification_is_claimed_without_secret_sampling() -> None:
    """A seeded bug to catch: a rate below 1 whose mechanism claims no secret sampling costs in full."""
    unsampled = use(2.0, 0.1, mechanism=Mechanism.GAUSSIAN)
    assert epsilon([unsampled], DELTA) == epsilon([use(2.0)], DELTA)


def test_tiny_noise_is_bounded_quickly() -> None:
    start = time.process_time()
    assert epsilon([use(0.01, 0.5, 1000)], DELTA) > 1e6
    assert epsilon([use(0.05)], DELTA) == pytest.approx(gaussian_closed_form(0.05, 1, DELTA), rel=1e-3)
    assert time.process_time() - start < 2


def test_no_release_and_no_noise() -> None:
    assert epsilon([], DELTA) == 0
    assert epsilon([use(4.0), use(0.0, mechanism=Mechanism.NONE)], DELTA) == math.inf
    assert epsilon([use(0.0)], DELTA) == math.inf


@pytest.mark.parametrize(
    "other", [{"unit": PrivacyUnit.USER}, {"trust": TrustModel.CENTRAL}, {"relation": NeighbouringRelation.REPLACE}]
)
def test_unlike_lines_are_never_added_up(other: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        epsilon([use(4.0), use(4.0, **other)], DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
def test_delta_is_checked(delta: float) -> None:
    with pytest.raises(ContractError, match="delta"):
        epsilon([use(4.0)], delta)


def test_replace_one_is_refused_rather_than_approximated() -> None:
    with pytest.raises(ContractError, match="add_or_remove_one only"):
        epsilon([use(4.0, relation=NeighbouringRelation.REPLACE)], DELTA)


def test_equal_multisets_are_computed_once() -> None:
    uses = [use(3.21, 0.123, 7), use(5.0)]
    epsilon(uses, DELTA)
    start = time.process_time()
    for _ in range(500):
        epsilon([uses[1], use(3.21, 0.123, 3), use(3.21, 0.123, 4)], DELTA)
    assert time.process_time() - start < 1


def test_a_statement_is_whole() -> None:
    said = statement([use(4.0, count=20)], DELTA, "AES-CTR", scope="one device").sentence()
    parts = ("ε = 4.98", "δ = 1e-05", "one record", "add_or_remove_one", "no trust in the server", "20 × gaussian(z=4)")
    for part in (*parts, "one device", "PLD", "AES-CTR"):
        assert part in said
    assert "∞ (no privacy)" in statement([use(0.0, mechanism=Mechanism.NONE)], DELTA, "none").sentence()
    assert describe([]) == "no release"
