"""The documents prove what they declare, and the messages name figures that would."""

import math
import re
import typing
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.errors import InvariantViolated
from common.privacy import accountant
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import EventKind, NeighbouringRelation, PrivacyUnit, Profile, Purpose, Task, TrustModel
from common.wire.messages import Outbound
from policies import invariants, loader
from policies.releases import line_for, segments_of
from policies.schema import (
    BudgetLine,
    ClipQuantile,
    EgressPolicy,
    PlacementPolicy,
    PolicySet,
    PrivacyBudgetPolicy,
    PurposesPolicy,
    Releases,
    RetentionPolicy,
    UserRelease,
)

READ = {
    name: loader.read_yaml(loader.DOCUMENTS / f"{name}.yaml")
    for name in ("privacy_budget", "purposes", "egress", "retention", "placement")
}
SHIPPED = PrivacyBudgetPolicy.model_validate(READ["privacy_budget"])
ADAPTIVE = ClipQuantile(
    clipping_norm=0.5,
    noise_multiplier=30.0,
    releases_max=20,
    target_quantile=0.5,
    learning_rate=0.2,
    clipping_norm_min=0.01,
    clipping_norm_max=10.0,
)
LINES = {line.unit: line for line in SHIPPED.lines}
USER, RECORD = PrivacyUnit.USER, PrivacyUnit.RECORD


def line(unit: PrivacyUnit, **changes: object) -> BudgetLine:
    return LINES[unit].model_copy(update={"epsilon_declared": 5.0, "epsilon_cap": 10.0, "quotas": {}} | changes)


def release(kind: str, **changes: object) -> UserRelease:
    declared: UserRelease = ADAPTIVE if kind == "clip_quantile" else getattr(SHIPPED.releases, kind)
    return declared.model_copy(update=changes)


def releases(**changes: object) -> Releases:
    nothing = dict.fromkeys(("clip_quantile", "calibration", "evaluation", "feature_histogram", "placement_counts"))
    update = release("training_update", noise_multiplier=4.0, releases_max=100)
    return SHIPPED.releases.model_copy(update=nothing | {"training_update": update} | changes)


# Figures of the tests' own, so that tuning the document does not change what is tested: 20 rounds cost 4.983 on either
# line, and nothing else is released.
BUDGET = SHIPPED.model_copy(
    update={
        "lines": (line(USER), line(RECORD)),
        "rounds_max": 20,
        "training": SHIPPED.training.model_copy(
            update={"noise_multiplier": 4.0, "sampling_rate": 1.0, "local_steps": 1}
        ),
        "releases": releases(
            training_update=release("training_update", clipping_norm=1.0, noise_multiplier=4.0, releases_max=20)
        ),
    }
)


def policies(**changes: object) -> PolicySet:
    parts: dict[str, Any] = {
        "privacy_budget": BUDGET,
        "purposes": PurposesPolicy.model_validate(READ["purposes"]),
        "egress": EgressPolicy.model_validate(READ["egress"]),
        "retention": RetentionPolicy.model_validate(READ["retention"]),
        "placement": PlacementPolicy.model_validate(READ["placement"]),
    }
    return PolicySet.model_construct(**(parts | changes))


def budget(unit: PrivacyUnit, **options: object) -> PrivacyBudgetPolicy:
    """A document with the line of ``unit`` alone; ``noise_multiplier`` is that of its training."""
    changes: dict[str, Any] = dict(options)
    multiplier = changes.pop("noise_multiplier", 4.0)
    rounds = changes.get("rounds_max", 20)
    update = release("training_update", noise_multiplier=multiplier, releases_max=rounds)
    parts: dict[str, Any] = {
        "lines": (line(unit, **changes.pop("line", {})),),
        "profile": Profile.RECORD_LOCAL if unit is RECORD else Profile.USER_DISTRIBUTED,
        "training": BUDGET.training.model_copy(update={"noise_multiplier": multiplier}),
        "releases": BUDGET.releases.model_copy(update={"training_update": update}),
    }
    return BUDGET.model_copy(update=parts | changes)


def test_the_documents_that_ship_hold() -> None:
    invariants.prove(policies(privacy_budget=SHIPPED))
    for declared in SHIPPED.lines:  # the claims hold and are no fancy figures
        cost = invariants.epsilon_of_rounds(SHIPPED, declared.unit, SHIPPED.rounds_max)
        assert declared.epsilon_declared * 0.9 < cost <= declared.epsilon_declared
        everything = invariants.epsilon_of_everything(SHIPPED, declared.unit)
        assert cost <= everything <= declared.epsilon_cap
    assert invariants.epsilon_of_rounds(SHIPPED, RECORD, 20) == pytest.approx(3.125, abs=1e-3)
    invariants.prove(policies())
    for unit in PrivacyUnit:
        assert invariants.epsilon_of_rounds(BUDGET, unit, 20) == pytest.approx(4.983, abs=1e-3)


def test_every_release_of_the_documents_that_ship_has_its_line_and_fits() -> None:
    total = [
        segment.use.model_copy(update={"count": getattr(SHIPPED.releases, segment.kind.value).releases_max})
        for task in Task
        for segment in segments_of(SHIPPED, task, 361)
    ]
    assert {line_for(SHIPPED, use).unit for use in total} == {USER}
    assert accountant.epsilon(total, 1e-5) == pytest.approx(invariants.epsilon_of_everything(SHIPPED, USER))
    assert recompute_epsilon(total, 1e-5) <= LINES[USER].epsilon_cap


BROKEN: list[dict[str, Any]] = [{"noise_multiplier": 2.0}, {"rounds_max": 60}, {"line": {"epsilon_declared": 1.0}}]


@pytest.mark.parametrize("unit", PrivacyUnit)
@pytest.mark.parametrize("broken", BROKEN, ids=["noise", "rounds", "claim"])
def test_the_figures_named_would_satisfy(unit: PrivacyUnit, broken: dict[str, Any]) -> None:
    with pytest.raises(InvariantViolated) as caught:
        invariants.prove_budget(budget(unit, **broken))
    text = str(caught.value)
    assert f"the {unit.value} line" in text
    multiplier, rounds, claim = (
        float(re.search(pattern, text).group(1))  # type: ignore[union-attr]
        for pattern in (r"noise_multiplier ≥ ([\d.]+)", r"rounds_max ≤ (\d+)", r"epsilon_declared ≥ ([\d.]+)")
    )
    declared = broken.get("line", {}).get("epsilon_declared", 5.0)
    invariants.prove_budget(budget(unit, **broken | {"line": {"epsilon_declared": claim, "epsilon_cap": claim}}))
    invariants.prove_budget(budget(unit, **broken | {"noise_multiplier": multiplier}))
    if rounds:
        invariants.prove_budget(budget(unit, **broken | {"rounds_max": int(rounds)}))
    # and they are not far too careful: a little less does not satisfy
    for slightly in (
        {"noise_multiplier": multiplier * 0.998},
        {"rounds_max": int(rounds) + 1},
        {"line": {"epsilon_declared": claim - 0.01, "epsilon_cap": 1000.0}},
    ):
        with pytest.raises(InvariantViolated):
            invariants.prove_budget(budget(unit, **broken | slightly))
    assert declared == 5.0 or rounds == invariants.rounds_affordable(budget(unit, **broken), unit)


def test_multipliers_for_other_claims() -> None:
    """What a document would have to declare; clip bits are paid before the training."""
    wanted = {1.0: 16.69, 2.0: 8.917, 4.0: 4.836, 8.0: 2.685}
    assert {e: invariants.multiplier_min(BUDGET, USER, epsilon=e, rounds=20) for e in wanted} == wanted
    with_bits = BUDGET.model_copy(update={"releases": releases(clip_quantile=release("clip_quantile"))})
    assert invariants.multiplier_min(with_bits, USER, epsilon=8.0, rounds=20) == 2.696
    dear = releases(clip_quantile=release("clip_quantile", noise_multiplier=1.0))
    assert invariants.multiplier_min(BUDGET.model_copy(update={"releases": dear}), USER) == math.inf
    with pytest.raises(InvariantViolated, match="no noise_multiplier of training_update, its clip bits alone"):
        invariants.prove_budget(BUDGET.model_copy(update={"releases": dear, "lines": (line(USER),)}))


def test_the_shipped_document_says_how_to_switch_adaptive_clipping_on() -> None:
    """The commented lines, uncommented: everything is still proved, and the figure beside them is theirs."""
    text = (loader.DOCUMENTS / "privacy_budget.yaml").read_text("utf-8")
    switched = re.sub(r"(?m)^  # (clip_quantile: |  target_quantile: )", r"  \1", text)
    adaptive = PrivacyBudgetPolicy.model_validate(yaml.safe_load(switched))
    assert SHIPPED.releases.clip_quantile is None
    assert adaptive.releases.clip_quantile is not None
    invariants.prove_budget(adaptive)
    cost = invariants.epsilon_of_rounds(adaptive, USER, adaptive.rounds_max)
    assert f"then cost {math.ceil(cost * 1000) / 1000:g}." in text
    assert adaptive.model_copy(update={"releases": SHIPPED.releases}) == SHIPPED


def cohort(**changes: object) -> dict[str, Any]:
    return {"cohort": SHIPPED.cohort.model_copy(update=changes)}


def with_release(**changes: object) -> PrivacyBudgetPolicy:
    return BUDGET.model_copy(update={"releases": BUDGET.releases.model_copy(update=changes)})


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (budget(RECORD, line={"epsilon_declared": 11.0}), "epsilon_declared 11 is above epsilon_cap 10"),
        (
            budget(USER, line={"quotas": {Purpose.TRAIN_CONTRIBUTE: 12.0}}),
            r"the quota for train\.contribute 12 is above epsilon_cap 10",
        ),
        (
            budget(USER, line={"quotas": {Purpose.TRAIN_CONTRIBUTE: 4.0}}),
            r"for train\.contribute cost ε = 4\.983, more than their quota 4\. It holds with a quota ≥ 4\.98",
        ),
        (budget(USER, profile=Profile.NON_PRIVATE), "non_private proves nothing"),
        (budget(USER, profile=Profile.LAYERED), "profile layered lacks one of its lines"),
        (budget(RECORD, profile=Profile.USER_DISTRIBUTED), "profile user_distributed lacks"),
        (budget(USER, lines=(line(USER), line(USER))), "a unit has two lines"),
        (
            budget(RECORD, line={"trust": TrustModel.CENTRAL}),
            "the record line can only state: add_or_remove_one, local",
        ),
        (
            budget(USER, line={"trust": TrustModel.LOCAL}),
            "the user line can only state: add_or_remove_one, distributed",
        ),
        (budget(USER, line={"relation": NeighbouringRelation.REPLACE}), "can only state"),
        (budget(RECORD, noise_multiplier=0.0), "cost ε = inf.*no epsilon_declared: there is no noise"),
        (budget(USER, noise_multiplier=0.0), "cost ε = inf.*noise_multiplier ≥ 3.98"),
        (
            with_release(calibration=release("calibration", noise_multiplier=1.0, releases_max=4)),
            r"all releases it allows cost ε = [\d.]+, more than epsilon_cap 10\. It holds with epsilon_cap ≥ ",
        ),
        (
            with_release(training_update=release("training_update", noise_multiplier=4.0, releases_max=19)),
            "training_update happens in each of 20 rounds. It holds with releases_max ≥ 20 or rounds_max ≤ 19",
        ),
        (
            with_release(clip_quantile=release("clip_quantile", noise_multiplier=90.0, clipping_norm_min=2.0)),
            "clipping_norm 1 lies outside clip_quantile's 2 to 10",
        ),
        (budget(USER, **cohort(devices_min=9, devices_max=8)), "devices_min 9 is above devices_max 8"),
        (
            budget(USER, **cohort(dropout_fraction_max=0.49, corrupt_fraction_max=0.1)),
            r"dropout_fraction_max ≤ 0\.449 or corrupt_fraction_max ≤ 0\.019",
        ),
        (
            with_release(training_update=release("training_update", noise_multiplier=4.0, levels=1 << 20)),
            r"train: a sum over 4096 devices needs more than 32 bits; it fits with levels ≤ \d+ or devices_max ≤ \d+",
        ),
    ],
)
def test_claims_that_cannot_be_made(broken: PrivacyBudgetPolicy, said: str) -> None:
    with pytest.raises(InvariantViolated, match=said):
        invariants.prove(policies(privacy_budget=broken))


@given(
    roster=st.integers(3, 5000),
    dropout=st.floats(0, 0.4999),
    corrupt=st.floats(0, 0.4999),
)
def test_a_proved_cohort_confirms_one_sum_only(roster: int, dropout: float, corrupt: float) -> None:
    """Two sets of survivors of one roster share an honest device, which confirms one of them."""
    changes = cohort(devices_min=3, devices_max=5000, dropout_fraction_max=dropout, corrupt_fraction_max=corrupt)
    proved = budget(USER, **changes)
    try:
        invariants.prove_budget(proved)
    except InvariantViolated:
        assert 2 * dropout + corrupt > 1 - 1e-5
        return
    assert 2 * proved.cohort.survivors_min(roster) > roster + proved.cohort.corrupt_max(roster)
    assert proved.cohort.honest_min(roster) >= 1


Rows = list[dict[str, Any]]


def drop(index: int) -> Callable[[Rows], Rows]:
    return lambda rows: rows[:index] + rows[index + 1 :]


def edit(index: int, **changes: object) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows[:index], rows[index] | changes, *rows[index + 1 :]]


def message(name: str, **changes: object) -> Callable[[Rows], Rows]:
    return lambda rows: [row | changes if row["message"] == name else row for row in rows]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (
            lambda rows: [row for row in rows if row["message"] != "consent_change"],
            "not list the outbound message consent",
        ),
        (lambda rows: [*rows, rows[0]], "lists twice training_contribution"),
        (message("subject_enrolment", message="raw_events"), "subject_enrolment|raw_events"),
        (lambda rows: [*rows, rows[0] | {"message": "raw_events"}], "does not exist: raw_events"),
        (message("subject_enrolment", charged=True), "charges without a purpose: subject_enrolment"),
        (message("training_contribution", charged=False), "training_contribution must be charged"),
        (message("masked_update", charged=False), "masked_update must be charged"),
        (message("masked_update", purpose=Purpose.MEASURE_AGGREGATE), r"masked_update .* purpose train\.contribute"),
        (
            message("masked_measurement", purpose=Purpose.TRAIN_CONTRIBUTE),
            r"masked_measurement .* purpose measure\.aggregate",
        ),
    ],
)
def test_egress_lists_exactly_what_can_leave(how: Callable[[Rows], Rows], said: str) -> None:
    document: Any = READ["egress"]
    changed = EgressPolicy.model_validate(document | {"messages": how(document["messages"])})
    with pytest.raises(InvariantViolated, match=said):
        invariants.prove(policies(egress=changed))


def test_outbound_kinds_are_those_of_the_union() -> None:
    assert {"training_contribution", "masked_update", "secagg_reveal"} <= invariants.outbound_kinds()
    assert len(invariants.outbound_kinds()) == len(typing.get_args(typing.get_args(Outbound)[0])) >= 12


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (drop(3), r"no rule for measure\.aggregate"),
        (edit(0, requires=[Purpose.PLACE_PERSONALISED]), "run in a circle among"),
        (edit(3, requires=[Purpose.MEASURE_AGGREGATE]), r"in a circle among measure\.aggregate"),
        (edit(2, requires=[]), r"place\.personalised must require train\.local"),
        (edit(1, title={"en": "only English"}), r"train\.contribute lacks a title or text in en or zh-CN"),
    ],
)
def test_purposes_are_complete_and_acyclic(how: Callable[[Rows], Rows], said: str) -> None:
    document: Any = READ["purposes"]
    changed = PurposesPolicy.model_validate(document | {"purposes": how(document["purposes"])})
    with pytest.raises(InvariantViolated, match=said):
        invariants.prove(policies(purposes=changed))


def test_validity_and_retention() -> None:
    document: Any = READ["purposes"]
    longer = PurposesPolicy.model_validate(document | {"validity_days_max": 90})
    with pytest.raises(InvariantViolated, match="validity_days_default 180 is above validity_days_max 90"):
        invariants.prove(policies(purposes=longer))
    abroad = PurposesPolicy.model_validate(
        document
        | {"validity_days_max": 200, "jurisdictions": [{"code": "US", "validity_days": 201, "adult_age_years": 18}]}
    )
    with pytest.raises(InvariantViolated, match="in US a grant would outlive validity_days_max"):
        invariants.prove(policies(purposes=abroad))
    held: Any = READ["retention"]
    days = {kind: days for kind, days in held["retention_days"].items() if kind != EventKind.SEARCH}
    with pytest.raises(InvariantViolated, match="no limit for search"):
        invariants.prove(policies(retention=RetentionPolicy.model_validate(held | {"retention_days": days})))
