"""Two accountants agree: the ledger's against formulas and numerics that share nothing with it, and a theorem above."""

import math
import time

import dp_accounting
import numpy as np
import pytest
from dp_accounting import rdp as library_rdp
from scipy.optimize import minimize_scalar

from common.errors import ContractError
from common.privacy import accountant, rdp
from common.privacy.parameters import MechanismUse, UserDpParameters
from common.privacy.recompute import rdp_epsilon, recompute_epsilon
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, TrustModel

DELTA = 1e-5


def skellam(z: float, count: int = 1, *, levels: int = 1000, dimension: int = 361) -> MechanismUse:
    one = UserDpParameters(clipping_norm=1.0, noise_multiplier=z, levels=levels).release(dimension)
    return one.model_copy(update={"count": count})


def gaussian(z: float, q: float = 1.0, count: int = 1) -> MechanismUse:
    return MechanismUse(
        mechanism=Mechanism.POISSON_SUBSAMPLED_GAUSSIAN if q < 1 else Mechanism.GAUSSIAN,
        noise_multiplier=z,
        sampling_rate=q,
        count=count,
        unit=PrivacyUnit.USER,
        relation=NeighbouringRelation.ADD_REMOVE,
        trust=TrustModel.DISTRIBUTED,
    )


USES: dict[str, list[MechanismUse]] = {
    "the shipped training": [skellam(2.7, 20), skellam(30.0, 20, dimension=1)],
    "everything": [skellam(2.7, 20), skellam(30.0, 20), skellam(4.0, 3), skellam(4.0, 4), skellam(4.0, 2)],
    "epsilon 1": [skellam(16.69, 20)],
    "one round": [skellam(1.0)],
    "thousands of rounds": [skellam(60.0, 5000)],
    "a coarse grid": [skellam(2.0, 5, levels=16, dimension=4096)],
    "Skellam beside Gaussian": [skellam(3.0, 10), gaussian(4.0, count=5)],
    "Gaussians": [gaussian(6.0, count=20), gaussian(3.0)],
    "sampled Gaussians": [gaussian(1.0, 0.25, 40)],
    "sampled and not": [gaussian(1.0, 0.1, 20), gaussian(5.0, count=2)],
    "hardly any noise": [gaussian(0.1, count=3)],
    "hardly any Skellam noise": [skellam(0.1, 2)],
}


@pytest.mark.parametrize("name", USES)
@pytest.mark.parametrize("delta", [1e-5, 1e-8])
def test_the_accountants_agree_within_one_percent(name: str, delta: float) -> None:
    ours, other = accountant.epsilon(USES[name], delta), recompute_epsilon(USES[name], delta)
    assert other == pytest.approx(ours, rel=1e-2)
    if all(use.mechanism is Mechanism.SKELLAM for use in USES[name]):
        assert other <= ours * (1 + 1e-4)  # one direction never costs more than all of them


@pytest.mark.parametrize("name", ["the shipped training", "everything", "epsilon 1", "one round", "a coarse grid"])
def test_the_published_theorem_lies_above_and_not_far(name: str) -> None:
    ours = accountant.epsilon(USES[name], DELTA)
    assert 1.03 * ours < rdp_epsilon(USES[name], DELTA) < 1.12 * ours


@pytest.mark.parametrize("wrong", [0.97, 1.03])
def test_control_noise_misstated_by_three_percent_is_seen(wrong: float) -> None:
    honest, other = recompute_epsilon([skellam(2.7, 20)], DELTA), accountant.epsilon([skellam(2.7 * wrong, 20)], DELTA)
    assert abs(other / honest - 1) > 0.02


@pytest.mark.parametrize(
    ("epsilon", "multiplier"),
    [(1.0, 16.6839), (2.0, 8.9166), (4.0, 4.83511), (8.0, 2.68431)],
)
def test_noise_for_twenty_rounds(epsilon: float, multiplier: float) -> None:
    """z for ε at δ = 1e-5, 20 rounds, everybody taking part: dp_accounting's Gaussian, and ours with its margin."""
    library = dp_accounting.get_epsilon_gaussian(multiplier / math.sqrt(20), DELTA)
    assert library == pytest.approx(epsilon, rel=1e-4)
    assert accountant.epsilon([skellam(multiplier, 20)], DELTA) == pytest.approx(library, rel=1e-6)
    assert accountant.epsilon([skellam(multiplier, 20)], DELTA) >= library


def test_the_figure_of_the_design_is_met() -> None:
    """privacy.md: 2,450 devices, 20 rounds, z ≈ 3.3 at ε = 8: the noise on the mean is 1.3e-3 of the clip."""
    assert accountant.epsilon([skellam(3.3, 20)], DELTA) < 8
    assert math.isclose(3.3 / 2450, 1.3e-3, rel_tol=0.05)


def test_rho() -> None:
    assert accountant.rho([skellam(2.7, 20)]) == pytest.approx(20 / (2 * 2.7**2), rel=1e-6)
    assert accountant.rho([gaussian(4.0, count=8)]) == 0.25
    assert accountant.rho([gaussian(4.0, count=8), skellam(4.0, 8)]) == pytest.approx(0.5, rel=1e-6)
    assert accountant.rho([]) == 0
    assert accountant.rho([gaussian(1.0, 0.1)]) is None
    assert accountant.rho([skellam(2.7), gaussian(0.0)]) is None
    # zCDP bounds ε: ρ + 2·√(ρ·ln(1/δ)) (Bun and Steinke 2016, Proposition 1.3)
    rho = accountant.rho([skellam(2.7, 20)])
    assert rho is not None
    assert accountant.epsilon([skellam(2.7, 20)], DELTA) < rho + 2 * math.sqrt(rho * math.log(1 / DELTA))


@pytest.mark.parametrize("uses", [[gaussian(2.0, count=5)], [skellam(2.0, 5)], [gaussian(1.0, 0.25, 10)]])
def test_delta_is_the_inverse_of_epsilon(uses: list[MechanismUse]) -> None:
    for delta in (1e-3, 1e-5, 1e-9):
        assert accountant.delta(uses, accountant.epsilon(uses, delta)) == pytest.approx(delta, rel=0.05)
    assert accountant.delta(uses, 0.0) > accountant.delta(uses, 1.0)
    assert accountant.delta([], 1.0) == 0
    assert accountant.delta([gaussian(0.0)], 1.0) == 1
    with pytest.raises(ContractError, match="at least 0"):
        accountant.delta(uses, -0.1)


def test_statements_name_mechanism_accountant_rho_and_sampling() -> None:
    said = accountant.statement([skellam(2.7, 20)], DELTA, "ChaCha20").sentence()
    for part in (
        "ε = 7.9", "(ρ = 1.37)", "one user", "a quorum of honest devices", "20 × skellam(z=2.7, levels=1000, d=361)",
        "sampling assumption: none: participants are charged in full, unamplified", "ADR 0010", "ChaCha20",
    ):  # fmt: skip
        assert part in said
    sampled = accountant.statement([gaussian(1.0, 0.1, 3)], DELTA, "ChaCha20").sentence()
    assert "sampling assumption: secret Poisson samples on the device, rate 0.1" in sampled
    assert "ρ" not in sampled
    assert "dp_accounting PLD" in sampled


def test_a_budget_query_is_fast() -> None:
    """Under 1 ms of processor time once computed; under 20 ms for a multiset never seen, which costs no convolution."""
    uses = [skellam(2.7)] * 60 + [skellam(30.0)] * 60 + [skellam(4.0)] * 9
    accountant.epsilon(uses, DELTA)
    best_cached = best_new = math.inf
    for count in range(1, 6):
        start = time.process_time()
        accountant.epsilon(uses, DELTA)
        best_cached = min(best_cached, time.process_time() - start)
        start = time.process_time()
        accountant.epsilon([skellam(3.21, count)], DELTA)
        best_new = min(best_new, time.process_time() - start)
    assert best_cached < 1e-3
    assert best_new < 20e-3


def test_unlike_or_undescribed_releases_are_refused() -> None:
    with pytest.raises(ContractError, match="unit, neighbouring relation and trust"):
        accountant.epsilon([skellam(2.0), gaussian(2.0).model_copy(update={"trust": TrustModel.LOCAL})], DELTA)
    with pytest.raises(ValueError, match="levels and dimension describe Skellam noise"):
        MechanismUse.model_validate(skellam(2.0).model_dump() | {"dimension": None})
    with pytest.raises(ValueError, match="levels and dimension describe Skellam noise"):
        MechanismUse.model_validate(gaussian(2.0).model_dump() | {"levels": 5})
    with pytest.raises(ContractError, match="sampled releases beside"):
        recompute_epsilon([skellam(2.0), gaussian(1.0, 0.1)], DELTA)
    with pytest.raises(ContractError, match="Rényi bound"):
        rdp_epsilon([gaussian(1.0, 0.1)], DELTA)
    with pytest.raises(ContractError, match="delta"):
        recompute_epsilon([skellam(2.0)], 0.0)
    assert recompute_epsilon([], DELTA) == rdp_epsilon([], DELTA) == 0
    assert recompute_epsilon([skellam(2.0), gaussian(0.0)], DELTA) == math.inf


# ── Rényi ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("z", "count"), [(4.0, 20), (16.7, 20), (2.7, 20), (1.0, 1), (100.0, 3)])
def test_conversion_equals_the_library_and_the_continuous_optimum(z: float, count: int) -> None:
    ours = rdp_epsilon([gaussian(z, count=count)], DELTA)
    rho = count / (2 * z * z)
    library, _ = library_rdp.compute_epsilon(rdp.ORDERS.tolist(), (rho * rdp.ORDERS).tolist(), DELTA)
    assert ours == pytest.approx(library, rel=1e-9)

    def epsilon(log_excess: float) -> float:
        order = 1 + math.exp(log_excess)
        return rho * order + math.log1p(-1 / order) - math.log(DELTA * order) / (order - 1)

    assert ours == pytest.approx(minimize_scalar(epsilon, bounds=(-3, 12), method="bounded").fun, rel=1e-3)


def test_the_skellam_curve_by_hand() -> None:
    """Order 2 and 3, z = 2, 10 levels, 9 weights: D2² = 100, D1 = min(100, 30), μ = 400; and half-way between."""
    at = {order: float(rdp.skellam_moment(2.0, 10, 9)[np.argmin(abs(rdp.ORDERS - order))]) for order in (2.0, 3.0)}
    two = 2 * 100 / 800 + min((3 * 100 + 180) / (4 * 400**2), 90 / 800)
    three = 3 * 100 / 800 + min((5 * 100 + 180) / (4 * 400**2), 90 / 800)
    assert at == pytest.approx({2.0: two, 3.0: 2 * three})
    index = int(np.argmin(abs(rdp.ORDERS - 2.5)))
    weight = rdp.ORDERS[index] - 2
    assert rdp.skellam_moment(2.0, 10, 9)[index] == pytest.approx(two + weight * (2 * three - two))


def test_l1_bound() -> None:
    assert rdp.l1_bound(10, 9) == 30
    assert rdp.l1_bound(10, 10**6) == 100
