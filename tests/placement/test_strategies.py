"""Strategies and their propensities: exact, in step with what is drawn, and within floor, caps and pacing."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from common.errors import NonFiniteValue, OutOfRange
from common.wire.messages import SlotRequest
from policies.placement.assignment import assign
from policies.placement.caps import as_shown
from policies.placement.decide import decide, decision
from policies.placement.document import PlacementPolicy
from policies.placement.draw import pick, uniform, uniforms
from policies.placement.inputs import NOTHING, Bid, Evidence, Inputs, Shown
from policies.placement.protocol import PlacementReason, Scored, Step
from policies.placement.slates import marginals, slates
from policies.placement.strategies import strategy_of
from policies.placement.tie_break import ranked
from tests.placement.made import BETA, EPSILON, EVERY, GAUSSIAN, GREEDY, NAMES, RANDOM, SOFTMAX, creative, policy

ERROR = 1e-6
"""Probability of a false alarm of each frequency test, were its seeds drawn anew; they are fixed."""


SCORES = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([0.0, 0.1, 0.3, 0.3001, 0.7, 1.0]) | st.floats(0, 1), min_size=1
)
SLOTS = st.lists(st.integers(1, 3), min_size=1, max_size=3).map(
    lambda counts: [SlotRequest(slot_id=f"s{i}", count=count) for i, count in enumerate(counts)]
)
ONE = [SlotRequest(slot_id="s")]


def order(scores: dict[str, float], salt: str = "x") -> tuple[Scored, ...]:
    return ranked([Scored(creative(name), y, y) for name, y in scores.items()], salt)


def scorer(scores: dict[str, float]) -> object:
    return lambda candidates: [scores[c.creative_id] for c in candidates]


@settings(max_examples=60)
@given(SCORES, SLOTS, st.sampled_from(EVERY), st.text(max_size=4))
def test_propensities_add_up_and_nothing_is_repeated(
    scores: dict[str, float], slots: list[SlotRequest], rules: PlacementPolicy, seed: str
) -> None:
    turns = assign(rules, order(scores, seed), slots, NOTHING, seed)
    for turn in turns:
        assert all(p >= 0 for p in turn.probabilities)
        if turn.choices:
            assert math.fsum(turn.probabilities) == pytest.approx(1, abs=1e-12)
            index = [c.creative.creative_id for c in turn.choices].index(turn.placement.creative_id)
            assert turn.placement.propensity == turn.probabilities[index] > 0
        else:
            assert turn.placement.creative_id is None
    shown = [t.placement.creative_id for t in turns if t.placement.creative_id]
    assert len(shown) == len(set(shown))
    assert assign(rules, order(scores, seed), slots, NOTHING, seed) == turns


@settings(max_examples=30)
@given(SCORES.filter(lambda s: len(s) <= 5), st.integers(1, 3), st.sampled_from(EVERY))
def test_slates_and_marginals_add_up(scores: dict[str, float], count: int, rules: PlacementPolicy) -> None:
    slots = [SlotRequest(slot_id="s", count=count)]
    every = slates(rules, order(scores), slots, NOTHING)
    assert math.fsum(every.values()) == pytest.approx(1, abs=1e-9)
    assert all(math.fsum(share.values()) == pytest.approx(1, abs=1e-9) for share in marginals(every))
    made = decision(rules, [creative(n) for n in scores], scorer(scores), slots, salt="x")
    assert made.slate_propensity == pytest.approx(every[tuple(p.creative_id for p in made.placements)])


def test_too_many_slates_are_refused() -> None:
    many = {f"c{i}": i / 20 for i in range(20)}
    with pytest.raises(OutOfRange, match="slates"):
        slates(policy({"kind": "softmax", "temperature": 1}), order(many), [SlotRequest(slot_id="s", count=6)], NOTHING)


FIVE = {"c0": 0.5, "c1": 0.4, "c2": 0.35, "c3": 0.2, "c4": 0.1}


def p_value(rules: PlacementPolicy, draws: int, expected: dict[tuple[str | None, ...], float]) -> float:
    """Chi-square of drawn slates of two positions against their propensities; rare slates are counted together."""
    slots, candidates = [SlotRequest(slot_id="s", count=2)], order(FIVE)
    seen = Counter(
        tuple(t.placement.creative_id for t in assign(rules, candidates, slots, NOTHING, f"seed-{i}"))
        for i in range(draws)
    )
    assert seen.keys() <= expected.keys()
    common = [slate for slate, p in expected.items() if p * draws >= 10]
    rare = draws - sum(seen[s] for s in common)
    rare_expected = draws * (1 - math.fsum(expected[s] for s in common))
    observed = [*(seen[s] for s in common), rare] if rare_expected > 5 else [seen[s] for s in common]
    wanted = [*(expected[s] * draws for s in common), rare_expected] if rare_expected > 5 else None
    wanted = [expected[s] * draws for s in common] if wanted is None else wanted
    total = sum(observed) / sum(wanted)
    return float(stats.chisquare(observed, [w * total for w in wanted]).pvalue)


@pytest.mark.statistical
@pytest.mark.parametrize(("rules", "draws"), [(SOFTMAX, 8000), (EPSILON, 8000), (GAUSSIAN, 1500), (BETA, 1500)])
def test_slates_come_up_as_often_as_their_propensities_say(rules: PlacementPolicy, draws: int) -> None:
    """n as given; false alarm 1e-6. Power: the control below, wrong by 0.06 in one propensity, gives p < 1e-12."""
    slots = [SlotRequest(slot_id="s", count=2)]
    assert p_value(rules, draws, slates(rules, order(FIVE), slots, NOTHING)) > ERROR


@pytest.mark.statistical
def test_a_wrong_propensity_is_caught() -> None:
    """Control: ε-greedy that forgets that exploring can also draw the best, 1 - ε instead of 1 - ε + ε/n."""
    slots = [SlotRequest(slot_id="s", count=2)]
    right = slates(EPSILON, order(FIVE), slots, NOTHING)
    wrong = {slate: p * (0.7 / 0.76 if slate[0] == "c0" else 0.3 / 0.24) for slate, p in right.items()}
    assert math.fsum(wrong.values()) == pytest.approx(1)
    assert p_value(EPSILON, 8000, wrong) < 1e-12


@pytest.mark.parametrize(("mean", "stddev"), [(0.0, 0.1), (0.1, 0.1), (0.3, 0.05), (0.02, 0.3)])
def test_thompson_of_two_gaussians_has_a_closed_form(mean: float, stddev: float) -> None:
    rules = policy({"kind": "thompson", "stddev": stddev})
    first, second = (Scored(creative(n), score) for n, score in (("a", 0.2 + mean), ("b", 0.2)))
    exact = stats.norm.cdf(mean / (stddev * math.sqrt(2)))
    assert strategy_of(rules)([first, second])[0] == pytest.approx(exact, abs=1e-4)


def test_thompson_agrees_with_adaptive_quadrature_for_unlike_posteriors() -> None:
    """Five Beta posteriors from vague to sharp, against an independent integrator."""
    seen = [(0, 0), (50, 10), (1000, 180), (20, 9), (5000, 900)]
    left = [Scored(creative(f"c{i}"), 0.2, 0.2, evidence=Evidence(views, hits)) for i, (views, hits) in enumerate(seen)]
    rules = policy({"kind": "thompson", "posterior": "beta", "prior_strength": 10})
    shapes = [stats.beta(2 + hits, 8 + views - hits) for views, hits in seen]
    for i, found in enumerate(strategy_of(rules)(left)):
        others = [s for j, s in enumerate(shapes) if j != i]
        exact, _ = integrate.quad(
            lambda x, i=i, others=others: shapes[i].pdf(x) * math.prod(o.cdf(x) for o in others),
            0,
            1,
            limit=500,
            points=[0.15, 0.18, 0.2, 0.25, 0.4],
        )
        assert found == pytest.approx(exact, abs=1e-3)


def test_thompson_agrees_with_posterior_draws() -> None:
    """200,000 joint draws of seven Gaussians; five standard errors of a share are at most 0.0056."""
    means, deviations = np.linspace(0.1, 0.16, 7), 0.03
    left = [Scored(creative(f"c{i}"), float(m)) for i, m in enumerate(means)]
    found = strategy_of(policy({"kind": "thompson", "stddev": deviations}))(left)
    draws = np.random.default_rng(5).normal(means, deviations, (200_000, 7)).argmax(1)
    assert np.abs(np.bincount(draws, minlength=7) / 200_000 - found).max() < 0.0056


@settings(max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.integers(0, 4), st.floats(0, 0.5), st.sampled_from(RANDOM))
def test_a_better_score_never_makes_a_creative_rarer(
    scores: list[float], which: int, more: float, rules: PlacementPolicy
) -> None:
    which %= len(scores)
    before = dict(zip(NAMES, scores, strict=False))
    after = before | {NAMES[which]: scores[which] + more}

    def share(of: dict[str, float]) -> float:
        return slates(rules, order(of), ONE, NOTHING)[NAMES[which],]

    assert share(after) >= share(before) - 2e-3  # the quadrature's own error


def test_evidence_sharpens_and_moves_a_posterior() -> None:
    rules = policy({"kind": "thompson", "posterior": "beta", "prior_strength": 20})

    def share(evidence: Evidence) -> float:
        return strategy_of(rules)([Scored(creative("a"), 0.1, 0.1, 1.0, evidence), Scored(creative("b"), 0.1, 0.1)])[0]

    assert share(Evidence(100, 40)) > 0.99 > share(Evidence()) > share(Evidence(500, 5))
    assert share(Evidence()) == pytest.approx(0.5, abs=1e-9)


CAMPAIGNS = st.fixed_dictionaries({name: st.sampled_from(["x", "y"]) for name in NAMES})


@settings(max_examples=60)
@given(
    SCORES,
    SLOTS,
    st.sampled_from(EVERY),
    st.text(max_size=3),
    st.floats(0, 1),
    st.lists(st.tuples(st.sampled_from(NAMES), st.floats(0, 20_000)), max_size=5),
)
def test_floors_caps_and_pacing_are_respected(
    scores: dict[str, float],
    slots: list[SlotRequest],
    rules: PlacementPolicy,
    seed: str,
    floor: float,
    earlier: list[tuple[str, float]],
) -> None:
    catalogue = {name: creative(name, advertiser="x" if name < "c4" else "y") for name in scores}
    limits = [
        {"scope": "creative", "views_max": 1, "window_hours": 1},
        {"scope": "advertiser", "views_max": 2, "window_hours": 4},
    ]
    rules = PlacementPolicy.model_validate(rules.model_dump() | {"caps": limits})
    shown = tuple(Shown(n, "", "x" if n < "c4" else "y", "snacks", 20_000 - ago) for n, ago in earlier)
    inputs = Inputs(now=20_000, shown=shown, floors={"s0": floor}, pacing={"y": 0.0})
    placed = decide(rules, list(catalogue.values()), scorer(scores), slots, salt=seed, inputs=inputs)
    now = [p for p in placed if p.creative_id is not None]
    assert all(catalogue[p.creative_id].advertiser == "x" for p in now)  # y is paced out
    assert all(p.score >= floor for p in now if p.slot_id == "s0")
    for name in {p.creative_id for p in now}:
        assert not any(n == name and ago < 3600 for n, ago in earlier)
    recent = sum(ago < 4 * 3600 and n < "c4" for n, ago in earlier)
    assert not now or recent + len(now) <= 2


def test_a_slate_does_not_break_a_cap_by_itself() -> None:
    rules = policy({"kind": "greedy"}, caps=[{"scope": "category", "views_max": 1, "window_hours": 1}])
    both = [creative("a", category="Tea"), creative("b", category="tea")]
    placed = decide(rules, both, lambda c: [0.5] * len(c), [SlotRequest(slot_id="s", count=2)], salt="x")
    assert [p.reason for p in placed] == [PlacementReason.CHOSEN, PlacementReason.BELOW_THRESHOLD]


@pytest.mark.statistical
def test_pacing_serves_as_often_as_it_is_told() -> None:
    """2,000 fixed seeds at 0.3: five standard errors are 0.051. A controller that is deaf (1.0) is 0.7 away."""
    inputs = Inputs(pacing={"a": 0.3})
    served = sum(
        decide(GREEDY, [creative("x")], lambda c: [1.0] * len(c), ONE, salt=str(i), inputs=inputs)[0].score is not None
        for i in range(2000)
    )
    assert served / 2000 == pytest.approx(0.3, abs=0.051)


def test_each_filter_says_how_many_it_dropped() -> None:
    rules = policy(
        {"kind": "greedy"},
        eligibility={"denied_categories": ["tobacco"], "match_context": ["category", "brand"]},
        caps=[{"scope": "creative", "views_max": 1, "window_hours": 1}],
    )
    catalogue = [
        creative("denied", category="Tobacco"),
        creative("elsewhere", category="tea"),
        creative("seen", brand="b"),
        creative("paced", "z", brand="b"),
        creative("good", brand="B"),
    ]
    seen = as_shown(catalogue[2], NOTHING)
    inputs = Inputs(shown=(seen,), pacing={"z": 0.0}, context={"category": "Snacks", "brand": "b"})
    made = decision(rules, catalogue, lambda c: [0.5] * len(c), ONE, salt="x", inputs=inputs)
    assert dict(made.dropped) == dict.fromkeys(Step, 1)
    assert made.placements[0].creative_id == "good"


def test_a_surface_can_refuse_categories_and_advertisers() -> None:
    inputs = Inputs(blocked_categories=frozenset({"SNACKS"}), blocked_advertisers=frozenset({"z"}))
    catalogue = [creative("a"), creative("b", "z", category="tea"), creative("c", category="tea")]
    made = decision(GREEDY, catalogue, lambda c: [0.5] * len(c), ONE, salt="x", inputs=inputs)
    assert made.placements[0].creative_id == "c"
    assert made.dropped[Step.SAFETY] == 2


def test_a_bid_orders_by_value_and_calibration_by_the_log_odds() -> None:
    rules = policy({"kind": "greedy"}, score={"kind": "value", "calibration": {"slope": 2.0, "intercept": -1.0}})
    inputs = Inputs(bids={"a": Bid(1_000_000), "b": Bid(30_000_000)})
    made = decision(
        rules, [creative(n) for n in "abc"], scorer({"a": 0.5, "b": 0.1, "c": 0.9}), ONE, salt="x", inputs=inputs
    )
    values = {c.creative.creative_id: c.score for c in made.turns[0].choices}
    assert values["a"] == pytest.approx(1 / (1 + math.e))
    assert values["b"] == pytest.approx(30 / (1 + math.exp(1 - 2 * math.log(0.1 / 0.9))))
    assert values["c"] == 0  # nothing is offered for it
    assert made.placements[0].creative_id == "a"


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Bid(-1),
        lambda: Evidence(1, 2),
        lambda: Evidence(float("nan"), 0),
        lambda: decide(GREEDY, [creative("a")], lambda c: [0.5], ONE, salt="x", inputs=Inputs(pacing={"a": 1.5})),
        lambda: decide(
            policy({"kind": "greedy"}, score={"calibration": {"slope": 2.0}}),
            [creative("a")],
            lambda c: [1.5],
            ONE,
            salt="x",
        ),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: object) -> None:
    with pytest.raises(OutOfRange):
        wrong()


def test_a_floor_that_is_no_number_is_refused() -> None:
    with pytest.raises(NonFiniteValue):
        decide(GREEDY, [creative("a")], lambda c: [0.5], ONE, salt="x", inputs=Inputs(floors={"s": float("nan")}))


def test_what_uniforms_share_is_hashed_once_to_the_same_end() -> None:
    of = uniforms("dec_1", "pacing")
    for last in ("", "k", "campaign-1", "一", "1:k"):
        assert of(last) == uniform("dec_1", "pacing", last)


def test_uniforms_are_spread_and_unconfusable() -> None:
    values = np.array([uniform("s", i) for i in range(4000)])
    assert stats.kstest(values, "uniform").pvalue > ERROR
    assert uniform("ab", "c") != uniform("a", "bc")


def test_pick_never_takes_what_has_no_probability() -> None:
    for u, probabilities in itertools.product([0.0, 0.5, 1 - 2**-53], [(0.0, 1.0, 0.0), (0.5, 0.0, 0.5 - 1e-12)]):
        assert probabilities[pick(probabilities, u)] > 0


def test_exploration_never_shows_what_the_floor_refuses() -> None:
    rules = policy({"kind": "epsilon_greedy", "exploration": 1.0, "k": 5}, score={"floor": 0.3})
    assert set(slates(rules, order(FIVE), ONE, NOTHING)) == {("c0",), ("c1",), ("c2",)}


def test_candidates_beyond_the_pool_are_never_drawn() -> None:
    small: Sequence[Scored] = order(FIVE)
    rules = policy({"kind": "softmax", "temperature": 10, "k": 2})
    assert set(slates(rules, small, ONE, NOTHING)) == {("c0",), ("c1",)}
    assert dataclasses.is_dataclass(small[0])
