"""The documents prove what they declare, and the messages name figures that would."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from common.errors import InvariantViolated
from common.taxonomy import EventKind, Profile, Purpose, TrustModel
from common.wire.messages import Outbound
from policies import invariants, loader
from policies.schema import EgressPolicy, PolicySet, PrivacyBudgetPolicy, PurposesPolicy, RetentionPolicy

READ = {
    name: loader.read_yaml(loader.DOCUMENTS / f"{name}.yaml")
    for name in ("privacy_budget", "purposes", "egress", "retention")
}
SHIPPED = PrivacyBudgetPolicy.model_validate(READ["privacy_budget"])
# Figures of the tests' own, so that tuning the document does not change what is tested: 20 rounds cost 4.983.
BUDGET = SHIPPED.model_copy(
    update={
        "epsilon_declared": 5.0,
        "epsilon_cap": 10.0,
        "rounds_max": 20,
        "delta": 1e-5,
        "training": SHIPPED.training.model_copy(
            update={"noise_multiplier": 4.0, "sampling_rate": 1.0, "local_steps": 1}
        ),
    }
)


def policies(**changes: object) -> PolicySet:
    parts: dict[str, Any] = {
        "privacy_budget": BUDGET,
        "purposes": PurposesPolicy.model_validate(READ["purposes"]),
        "egress": EgressPolicy.model_validate(READ["egress"]),
        "retention": RetentionPolicy.model_validate(READ["retention"]),
    }
    return PolicySet.model_construct(**(parts | changes))


def budget(**changes: object) -> PrivacyBudgetPolicy:
    noise: Any = changes.pop("training", {})
    return BUDGET.model_copy(update=changes | {"training": BUDGET.training.model_copy(update=noise)})


def test_the_documents_that_ship_hold() -> None:
    invariants.prove(policies(privacy_budget=SHIPPED))
    cost = invariants.epsilon_of_rounds(SHIPPED, SHIPPED.rounds_max)
    assert SHIPPED.epsilon_declared * 0.9 < cost <= SHIPPED.epsilon_declared  # the claim holds and is no fancy figure
    invariants.prove(policies())
    assert invariants.epsilon_of_rounds(BUDGET, 20) == pytest.approx(4.983, abs=1e-3)


@pytest.mark.parametrize(
    "broken",
    [budget(training={"noise_multiplier": 2.0}), budget(rounds_max=60), budget(epsilon_declared=1.0)],
    ids=["noise", "rounds", "claim"],
)
def test_the_figures_named_would_satisfy(broken: PrivacyBudgetPolicy) -> None:
    with pytest.raises(InvariantViolated) as caught:
        invariants.prove_budget(broken)
    text = str(caught.value)
    multiplier, rounds, claim = (
        float(re.search(pattern, text).group(1))  # type: ignore[union-attr]
        for pattern in (r"noise_multiplier ≥ ([\d.]+)", r"rounds_max ≤ (\d+)", r"epsilon_declared ≥ ([\d.]+)")
    )
    invariants.prove_budget(broken.model_copy(update={"epsilon_declared": claim, "epsilon_cap": claim}))
    mended = broken.training.model_copy(update={"noise_multiplier": multiplier * 1.0005})
    invariants.prove_budget(broken.model_copy(update={"training": mended}))
    if rounds:
        invariants.prove_budget(broken.model_copy(update={"rounds_max": int(rounds)}))
    # and they are not far too careful: a little less does not satisfy
    less = broken.training.model_copy(update={"noise_multiplier": multiplier * 0.99})
    for slightly in ({"training": less}, {"rounds_max": int(rounds) + 1}, {"epsilon_declared": claim - 0.01}):
        with pytest.raises(InvariantViolated):
            invariants.prove_budget(broken.model_copy(update=slightly))


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (budget(epsilon_declared=11.0), "epsilon_declared 11 is above epsilon_cap 10"),
        (budget(profile=Profile.NON_PRIVATE), "non_private proves nothing"),
        (budget(trust=TrustModel.CENTRAL), "profile record_local can only state"),
        (budget(training={"noise_multiplier": 0.0}), "cost ε = inf"),
    ],
)
def test_claims_that_cannot_be_made(broken: PrivacyBudgetPolicy, said: str) -> None:
    with pytest.raises(InvariantViolated, match=said):
        invariants.prove(policies(privacy_budget=broken))


Rows = list[dict[str, Any]]


def drop(index: int) -> Callable[[Rows], Rows]:
    return lambda rows: rows[:index] + rows[index + 1 :]


def edit(index: int, **changes: object) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows[:index], rows[index] | changes, *rows[index + 1 :]]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        (drop(2), "does not list the outbound message consent_change"),
        (lambda rows: [*rows, rows[0]], "lists twice training_contribution"),
        (edit(1, message="raw_events"), "subject_enrolment|raw_events"),
        (lambda rows: [*rows, rows[1] | {"message": "raw_events"}], "does not exist: raw_events"),
        (edit(1, charged=True), "charges without a purpose: subject_enrolment"),
        (edit(0, charged=False), "training_contribution must be charged"),
        (edit(0, purpose=Purpose.TRAIN_LOCAL), "must be charged and have the purpose train.contribute"),
    ],
)
def test_egress_lists_exactly_what_can_leave(how: Callable[[Rows], Rows], said: str) -> None:
    document: Any = READ["egress"]
    changed = EgressPolicy.model_validate(document | {"messages": how(document["messages"])})
    with pytest.raises(InvariantViolated, match=said):
        invariants.prove(policies(egress=changed))


def test_outbound_kinds_are_those_of_the_union() -> None:
    assert "training_contribution" in invariants.outbound_kinds()
    assert len(invariants.outbound_kinds()) == str(Outbound).count("messages.") >= 6


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
    held: Any = READ["retention"]
    days = {kind: days for kind, days in held["retention_days"].items() if kind != EventKind.SEARCH}
    with pytest.raises(InvariantViolated, match="no limit for search"):
        invariants.prove(policies(retention=RetentionPolicy.model_validate(held | {"retention_days": days})))
