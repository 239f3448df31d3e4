"""The document's section on private picks: proved at load, with figures that would satisfy; a line of its own."""

from __future__ import annotations

import re

import pytest

from common.errors import InvariantViolated, PolicyError
from common.privacy.accountant import epsilon
from common.privacy.top_m import TopM
from common.taxonomy import NeighbouringRelation, PrivacyUnit, Purpose, ReleaseKind, TrustModel
from policies import budget, loader, picks
from policies.invariants import prove_budget
from policies.releases import line_for
from policies.schema import PickRules, PrivacyBudgetPolicy, SlotGroup

POLICY = loader.load(prove=False).policies.privacy_budget
RULES = picks.rules_of(POLICY)
DAY = 86_400


def changed(**changes: object) -> PrivacyBudgetPolicy:
    return POLICY.model_copy(update={"placement": RULES.model_copy(update=changes)})


def test_the_shipped_document_holds_its_cap_of_four_in_twenty_eight_days() -> None:
    picks.prove_picks(POLICY)
    assert (picks.draws_of_period(RULES), picks.epsilon_of_period(RULES)) == (4, 4.0)
    assert (RULES.epsilon_cap, RULES.period_days, RULES.candidates_max) == (4.0, 28, 4)


BROKEN: list[dict[str, object]] = [
    {"epsilon": 1.1},
    {"epoch_days": 4},
    {"slot_groups": (SlotGroup(name="a", slots=("a*",)), SlotGroup(name="b", slots=("*",)))},
    {"epsilon_cap": 3.0},
]


@pytest.mark.parametrize("changes", BROKEN)
def test_a_document_that_would_pass_its_cap_is_refused_with_figures_that_hold(changes: dict[str, object]) -> None:
    with pytest.raises(InvariantViolated) as caught:
        prove_budget(changed(**changes))
    said = str(caught.value)
    least = re.search(r"epsilon ≤ ([\d.]+)", said)
    most = re.search(r"epsilon_cap ≥ ([\d.]+)", said)
    assert least
    assert most
    picks.prove_picks(changed(**changes | {"epsilon": float(least[1])}))
    picks.prove_picks(changed(**changes | {"epsilon_cap": float(most[1])}))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"epoch_days": 5}, "period_days = 30"),
        ({"slot_groups": (SlotGroup(name="a", slots=("*",)),) * 2, "epsilon": 0.1}, "twice"),
        ({"chosen": 7, "candidates_max": 7}, "below candidates_max"),
    ],
)
def test_other_faults_are_named(changes: dict[str, object], named: str) -> None:
    with pytest.raises(InvariantViolated, match=named):
        picks.prove_picks(changed(**changes))


def test_the_line_is_pure_local_and_replace_one_and_the_other_ledger_knows_nothing_of_it() -> None:
    line = picks.line_of_picks(RULES)
    assert (line.unit, line.relation, line.trust, line.delta) == (
        PrivacyUnit.USER,
        NeighbouringRelation.REPLACE,
        TrustModel.LOCAL,
        0.0,
    )
    release = picks.planned(picks.mechanism(RULES, 4))
    assert (release.kind, release.purpose) == (ReleaseKind.PRIVATE_PICK, Purpose.PLACE_PERSONALISED)
    with pytest.raises(PolicyError):
        line_for(POLICY, release.use)
    with pytest.raises(PolicyError):
        budget.check(POLICY, [release])
    own = picks.pick_budget(POLICY)
    assert line_for(own, release.use) == line
    update = POLICY.releases.training_update.release(10)
    with pytest.raises(PolicyError):
        line_for(own, update)


def test_four_draws_fit_and_a_fifth_does_not() -> None:
    own, release = picks.pick_budget(POLICY), picks.planned(picks.mechanism(RULES, 4))
    spent = [(release.purpose, release.use)] * 3
    assert budget.over(own, spent, [release], made={}) is None
    found = budget.over(own, [*spent, *spent[:1]], [release], made={})
    assert found is not None
    assert (found.bound, found.epsilon_would_be, found.epsilon_max) == ("cap", 5.0, 4.0)
    assert epsilon([use for _, use in spent], 0.0) == 3.0


def test_epochs_never_straddle_periods() -> None:
    for day in range(0, 400, 3):
        now = day * DAY + 12.0
        epoch = picks.epoch_of(RULES, now)
        first, last = epoch * RULES.epoch_days, (epoch + 1) * RULES.epoch_days - 1
        assert first <= day <= last
        assert first // RULES.period_days == last // RULES.period_days == picks.period_of_picks(RULES, now)
        assert picks.epoch_ends_at(RULES, epoch) == (last + 1) * DAY


def test_m_is_public_and_less_than_the_list_is_long() -> None:
    assert picks.mechanism(RULES, 4) == TopM(candidates=4, chosen=1, epsilon=1.0)
    wide = RULES.model_copy(update={"candidates_max": 8, "chosen": 2})
    assert picks.mechanism(wide, 8) == TopM(candidates=8, chosen=2, epsilon=1.0)
    assert picks.mechanism(wide, 2).chosen == 1
    for length in (0, 1, 5):
        with pytest.raises(PolicyError):
            picks.mechanism(RULES, length)


def test_slots_belong_to_the_first_group_that_fits() -> None:
    groups = (SlotGroup(name="feed", slots=("feed-*", "top")), SlotGroup(name="rest", slots=("side*",)))
    rules = RULES.model_copy(update={"slot_groups": groups})
    found = {slot: picks.group_of(rules, slot) for slot in ("feed-3", "top", "top2", "sidebar", "other")}
    assert found == {"feed-3": "feed", "top": "feed", "top2": None, "sidebar": "rest", "other": None}


def test_without_the_section_there_are_no_picks() -> None:
    bare = POLICY.model_copy(update={"placement": None})
    picks.prove_picks(bare)
    with pytest.raises(PolicyError):
        picks.rules_of(bare)


@pytest.mark.parametrize(
    "changes", [{"candidates_max": 9}, {"epsilon": 0}, {"epsilon": 9}, {"slot_groups": ()}, {"x": 1}]
)
def test_what_is_no_section(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        PickRules.model_validate(RULES.model_dump() | changes)
