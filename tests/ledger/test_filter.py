"""The pure filter: caps first, quotas second, lines never mixed."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import ContractError, PolicyError
from common.privacy import accountant
from common.privacy.parameters import MechanismUse
from common.taxonomy import Mechanism, PrivacyUnit, Purpose, ReleaseKind, TrustModel
from policies import budget
from policies.budget import PlannedRelease
from tests.ledger.worlds import (
    CALIBRATION,
    DELTA,
    GAUSSIAN,
    HISTOGRAM,
    NOISELESS,
    POLICY,
    RECORD_LINE,
    RECORD_ROUND,
    ROUND,
    USER_LINE,
    USER_ROUND,
    skellam,
)

Spent = list[tuple[Purpose, MechanismUse]]
TRAIN, MEASURE = Purpose.TRAIN_CONTRIBUTE, Purpose.MEASURE_AGGREGATE


def spent_on(release: PlannedRelease, times: int) -> Spent:
    return [(release.purpose, release.use)] * times


def test_what_fits_is_allowed_and_one_more_is_not() -> None:
    most = next(k for k in range(100) if budget.allows(USER_LINE, spent_on(USER_ROUND, k), [USER_ROUND]))
    assert (
        accountant.epsilon([USER_ROUND.use] * most, DELTA)
        <= 4.0
        < accountant.epsilon([USER_ROUND.use] * (most + 1), DELTA)
    )
    over = budget.allows(USER_LINE, spent_on(USER_ROUND, most), [USER_ROUND])
    assert over is not None
    assert (over.quota, over.bound, over.epsilon_max) == (TRAIN, "train.contribute", 4.0)
    assert over.epsilon_would_be > 4.0


def test_the_cap_comes_before_the_quotas() -> None:
    tight = USER_LINE.model_copy(update={"epsilon_cap": 3.0})
    over = budget.allows(tight, spent_on(USER_ROUND, 30), [USER_ROUND])
    assert over is not None
    assert (over.quota, over.bound) == (None, "cap")


def test_several_planned_releases_are_weighed_together() -> None:
    spent = spent_on(USER_ROUND, 12)
    alone = [budget.allows(USER_LINE, spent, [one]) for one in (USER_ROUND, HISTOGRAM)]
    assert alone == [None, None]
    assert budget.allows(USER_LINE, spent, [USER_ROUND] * 40) is not None


def test_lines_are_never_mixed() -> None:
    spent = spent_on(RECORD_ROUND, 20)
    assert budget.over(POLICY, spent, [USER_ROUND], made={}) is None
    over = budget.over(POLICY, spent, ROUND, made={})
    assert over is not None
    assert over.line is RECORD_LINE
    assert budget.uses_on(USER_LINE, spent) == []
    assert budget.headline(POLICY) is USER_LINE


def test_a_quota_counts_its_own_purpose_alone_and_the_cap_counts_all() -> None:
    trained = spent_on(USER_ROUND, 20)  # 3.85 of a quota of 4
    assert budget.allows(USER_LINE, trained, [HISTOGRAM]) is None
    both = trained + spent_on(HISTOGRAM, 12)
    over = budget.allows(USER_LINE, both, [HISTOGRAM])
    assert over is not None
    assert over.bound == "cap"


def test_nothing_without_noise_passes_on_a_real_device() -> None:
    silent = PlannedRelease(ReleaseKind.TRAINING_UPDATE, NOISELESS)
    over = budget.over(POLICY, [], [silent], made={})
    assert over is not None
    assert over.epsilon_would_be == math.inf
    assert budget.over(POLICY, [], [silent], made={}, simulation=True) is None
    assert budget.over(POLICY, [(TRAIN, NOISELESS)], [RECORD_ROUND], made={}, simulation=True) is None
    assert budget.over(POLICY, [(TRAIN, NOISELESS)], [RECORD_ROUND], made={}) is not None


def test_what_cannot_be_charged_is_named() -> None:
    with pytest.raises(ContractError, match="at least one"):
        budget.check(POLICY, [])
    stranger = GAUSSIAN.model_copy(update={"trust": TrustModel.CENTRAL})
    with pytest.raises(PolicyError, match="no line"):
        budget.check(POLICY, [USER_ROUND, PlannedRelease(ReleaseKind.TRAINING_UPDATE, stranger)])
    amplified = skellam().model_copy(
        update={
            "mechanism": Mechanism.POISSON_SUBSAMPLED_GAUSSIAN,
            "sampling_rate": 0.01,
            "levels": None,
            "dimension": None,
        }
    )
    with pytest.raises(ContractError, match="no amplification"):
        budget.check(POLICY, [PlannedRelease(ReleaseKind.TRAINING_UPDATE, amplified)])
    budget.check(POLICY, [RECORD_ROUND, USER_ROUND, CALIBRATION, HISTOGRAM])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([USER_ROUND, CALIBRATION, HISTOGRAM, RECORD_ROUND]), max_size=60),
    st.lists(st.sampled_from([USER_ROUND, CALIBRATION, HISTOGRAM, RECORD_ROUND]), min_size=1, max_size=4),
)
def test_what_is_allowed_never_passes_a_bound(before: list[PlannedRelease], planned: list[PlannedRelease]) -> None:
    spent = [(release.purpose, release.use) for release in before]
    after = spent + [(release.purpose, release.use) for release in planned]
    made, more = (Counter((one.kind, one.use.unit) for one in each) for each in (before, planned))
    over = budget.over(POLICY, spent, planned, made=made)
    touched = [line for line in POLICY.lines if any(release.use.unit is line.unit for release in planned)]
    fits = all(
        accountant.epsilon(budget.uses_on(line, after), line.delta) <= line.epsilon_cap
        and all(
            accountant.epsilon(budget.uses_on(line, [pair for pair in after if pair[0] is purpose]), line.delta)
            <= quota
            for purpose, quota in line.quotas.items()
            if any(release.purpose is purpose for release in planned)
        )
        for line in touched
    )
    most = {ReleaseKind.TRAINING_UPDATE: 40, ReleaseKind.CALIBRATION: 2, ReleaseKind.FEATURE_HISTOGRAM: 40}
    few = all(
        made[kind, unit] + count <= (POLICY.rounds_max if unit is PrivacyUnit.RECORD else most[kind])
        for (kind, unit), count in more.items()
    )
    assert (over is None) == (fits and few)
    if over is not None:
        assert (over.too_many is None) == (not fits)  # ε first


def adversary(allowed: list[object], seed: int) -> Spent:
    """Spend adaptively: at each step whatever purpose is still allowed, at the finest noise that still passes."""
    rng = random.Random(seed)
    spent: Spent = []
    menu = [
        PlannedRelease(kind, skellam(z, length=length))
        for z in (2.0, 4.0, 8.0, 16.0)
        for kind, length in ((ReleaseKind.TRAINING_UPDATE, 400), (ReleaseKind.FEATURE_HISTOGRAM, 64))
    ]
    while True:
        open_to_it = [release for release in menu if all(rule(spent, release) for rule in allowed)]  # type: ignore[operator]
        if not open_to_it:
            return spent
        best = min(open_to_it, key=lambda release: (release.use.noise_multiplier, rng.random()))
        spent.append((best.purpose, best.use))


def test_an_adversary_across_purposes_breaks_quotas_alone_and_not_the_cap() -> None:
    """The control is a ledger with a budget for each purpose and no cap over all of them (arXiv 2506.05290)."""

    def per_purpose(spent: Spent, release: PlannedRelease) -> bool:
        mine = [use for purpose, use in spent if purpose is release.purpose]
        return accountant.epsilon([*mine, release.use], DELTA) <= USER_LINE.epsilon_cap

    def ours(spent: Spent, release: PlannedRelease) -> bool:
        return budget.allows(USER_LINE, spent, [release]) is None

    for seed in range(3):
        broken = adversary([per_purpose], seed)
        assert {purpose for purpose, _ in broken} == {TRAIN, MEASURE}
        assert accountant.epsilon([use for _, use in broken], DELTA) > 1.3 * USER_LINE.epsilon_cap
        kept = adversary([ours], seed)
        assert accountant.epsilon([use for _, use in kept], DELTA) <= USER_LINE.epsilon_cap
        for purpose, quota in USER_LINE.quotas.items():
            assert accountant.epsilon([use for owner, use in kept if owner is purpose], DELTA) <= quota
    assert all(use.unit is PrivacyUnit.USER for _, use in kept)
