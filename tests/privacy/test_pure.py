"""What randomised responses cost together, against enumeration; and that their line is theirs alone."""

from __future__ import annotations

import itertools
import math

import pytest

from common.errors import ContractError
from common.privacy import accountant, pure
from common.privacy.parameters import MechanismUse, UserDpParameters
from common.privacy.recompute import recompute_epsilon
from common.privacy.top_m import TopM
from common.taxonomy import Mechanism


def uses(*epsilons: float) -> list[MechanismUse]:
    return [TopM(candidates=8, chosen=2, epsilon=epsilon).release() for epsilon in epsilons]


def enumerated(epsilons: tuple[float, ...], at: float) -> float:
    """δ(at) of independent binary randomised responses, outcome by outcome."""
    total = 0.0
    for outcome in itertools.product([True, False], repeat=len(epsilons)):
        true = math.prod(
            math.exp(e) / (1 + math.exp(e)) if o else 1 / (1 + math.exp(e))
            for e, o in zip(epsilons, outcome, strict=True)
        )
        false = math.prod(
            1 / (1 + math.exp(e)) if o else math.exp(e) / (1 + math.exp(e))
            for e, o in zip(epsilons, outcome, strict=True)
        )
        total += max(0.0, true - math.exp(at) * false)
    return total


@pytest.mark.parametrize("epsilons", [(1.0,), (1.0, 1.0, 1.0, 1.0), (0.5, 2.0, 1.0)])
def test_they_add_up_at_zero_and_cost_less_above_it(epsilons: tuple[float, ...]) -> None:
    spent = uses(*epsilons)
    assert accountant.epsilon(spent, 0.0) == pytest.approx(sum(epsilons))
    for at in (0.0, 0.3, 1.0, 2.5):
        assert accountant.delta(spent, at) == pytest.approx(enumerated(epsilons, at), abs=1e-12)
    delta = enumerated(epsilons, 0.7 * sum(epsilons))
    if delta > 0:
        assert accountant.epsilon(spent, delta) == pytest.approx(0.7 * sum(epsilons), rel=1e-6)
    assert accountant.delta(spent, sum(epsilons)) == 0.0
    assert accountant.rho(spent) == pytest.approx(sum(e * e / 2 for e in epsilons))


def test_both_accountants_agree() -> None:
    spent = uses(1.0, 1.0, 2.0)
    assert recompute_epsilon(spent, 0.0) == pytest.approx(accountant.epsilon(spent, 0.0), rel=1e-6)
    assert recompute_epsilon(spent, 0.0) <= accountant.epsilon(spent, 0.0), "what is drawn is never worse than charged"


def test_counts_are_as_good_as_single_uses() -> None:
    (one,) = uses(0.5)
    four = one.model_copy(update={"count": 4})
    assert accountant.epsilon([four], 1e-6) == pytest.approx(accountant.epsilon([one] * 4, 1e-6))
    assert pure.total([four]) == 2.0


def test_nothing_else_is_ever_added_to_them() -> None:
    update = UserDpParameters(clipping_norm=1.0, noise_multiplier=2.0).release(10)
    for mixed in ([*uses(1.0), update], [update, *uses(1.0)]):
        with pytest.raises(ContractError):
            accountant.epsilon(mixed, 1e-5)
        with pytest.raises(ContractError):
            accountant.delta(mixed, 1.0)
    with pytest.raises(ContractError):
        accountant.epsilon([update], 0.0)


def test_the_statement_names_the_line() -> None:
    said = accountant.statement(uses(1.0, 1.0), 0.0, "operating system").sentence()
    for part in ("ε = 2 at δ = 0", "replace_one", "local: no trust", "2 × top_m_randomised_response(ε=1, m=2 of K=8)"):
        assert part in said


@pytest.mark.parametrize(
    "changes",
    [
        {"epsilon": None},
        {"noise_multiplier": 1.0},
        {"mechanism": Mechanism.GAUSSIAN},
        {"relation": "add_or_remove_one"},
        {"trust": "central: the aggregation server"},
        {"unit": "record"},
        {"sampling_rate": 0.5},
    ],
)
def test_a_response_is_described_as_what_it_is(changes: dict[str, object]) -> None:
    (one,) = uses(1.0)
    with pytest.raises(ValueError, match="validation error"):
        MechanismUse.model_validate(one.model_dump() | changes)
