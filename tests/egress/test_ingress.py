"""What arrives on a device is verified step by step, and each step refuses by its own name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from client.ingress import DAY_S, MEASURED_DAYS_MAX, Terms, accept_invitation, accept_round, is_masked
from common.crypto.signing import SigningKey, key_ring, sign
from common.errors import (
    DigestMismatch,
    DtypeMismatch,
    MalformedInput,
    NonFiniteValue,
    OutOfRange,
    PolicyError,
    ReticentError,
    ShapeMismatch,
    SpecMismatch,
    TrustError,
    UnknownSigner,
)
from common.model import arrays
from common.model.network import initial_arrays
from common.taxonomy import Dimension, ModelFamily, Profile, Task
from common.wire.documents import seal
from common.wire.measurement import Cut, MeasurementPlan
from common.wire.messages import Catalogue, ModelSpec, RoundInvitation
from common.wire.signed import INVITATION_TYP, seal_invitation
from policies import loader
from policies.schema import ClipQuantile
from tests.flower.nodes import SPEC

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
NOW = 1_800_000_000.0
TODAY = int(NOW // DAY_S)
PLAN = MeasurementPlan(day=TODAY - 1, cuts=(Cut(dimension=Dimension.CAMPAIGN, labels=("acme",)),))
LOADED = loader.load()
MASKED_BUDGET = LOADED.policies.privacy_budget
BUDGET = MASKED_BUDGET.model_copy(update={"profile": Profile.RECORD_LOCAL})
MODEL = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.2)
ARRAYS = initial_arrays(MODEL, SPEC)
TERMS = Terms(
    keys=key_ring(KEY.public),
    spec=SPEC,
    budget=BUDGET,
    budget_digest=LOADED.digests["privacy_budget"],
    simulation=False,
    now=NOW,
)
MASKED_TERMS = dataclasses.replace(TERMS, budget=MASKED_BUDGET)
INVITATION = RoundInvitation(
    run_id="run-1",
    session="5" * 64,
    task=Task.TRAIN,
    expires_at=int(NOW) + 60,
    clipping_norm=MASKED_BUDGET.releases.training_update.clipping_norm,
    round_number=1,
    rounds_total=3,
    deadline_s=60,
    model=MODEL,
    arrays_digest=arrays.digest(ARRAYS),
    profile=BUDGET.profile,
    parameters=BUDGET.training,
    budget_policy_digest=LOADED.digests["privacy_budget"],
)


def changed(**changes: object) -> str:
    return seal_invitation(INVITATION.model_copy(update=changes), KEY)


def tampered(jws: str) -> str:
    head, payload, signature = jws.split(".")
    return f"{head}.{payload[:-4]}{'AAAA' if payload[-4:] != 'AAAA' else 'BBBB'}.{signature}"


def test_a_genuine_invitation_is_accepted() -> None:
    accepted = accept_round(changed(), ARRAYS, TERMS)
    assert accepted.invitation == INVITATION
    assert np.array_equal(accepted.start, arrays.flatten(ARRAYS))


@pytest.mark.parametrize(
    ("jws", "error"),
    [
        (seal_invitation(INVITATION, OTHER), UnknownSigner),
        (tampered(changed()), TrustError),
        ("", TrustError),
        ("a.b.c", TrustError),
        (seal(Catalogue(version=1, creatives=()), KEY), TrustError),
        (sign({"kind": "round_invitation"}, KEY, INVITATION_TYP), MalformedInput),
        (sign(INVITATION.model_dump(mode="json") | {"note": "x"}, KEY, INVITATION_TYP), MalformedInput),
        (changed(round_number=4), OutOfRange),
        (changed(budget_policy_digest="0" * 64), PolicyError),
        (changed(parameters=BUDGET.training.model_copy(update={"noise_multiplier": 0.1})), PolicyError),
        (changed(parameters=BUDGET.training.model_copy(update={"clipping_norm": 1e6})), PolicyError),
        (changed(profile=Profile.NON_PRIVATE), PolicyError),
        (changed(profile=Profile.USER_DISTRIBUTED), PolicyError),
        (changed(profile=Profile.LAYERED), PolicyError),
        (changed(task=Task.EVALUATE), PolicyError),  # by this one message
        (changed(expires_at=int(NOW) - 1), PolicyError),
        (changed(expires_at=int(NOW) + 30 * 86_400), PolicyError),
        (changed(session="short"), MalformedInput),
        (changed(rounds_total=BUDGET.rounds_max + 1), PolicyError),
        (changed(model=MODEL.model_copy(update={"spec_digest": "0" * 64})), SpecMismatch),
        (changed(arrays_digest="0" * 64), DigestMismatch),
        (changed(model=MODEL.model_copy(update={"family": ModelFamily.WIDE_DEEP})), SpecMismatch),
    ],
)
def test_a_bad_invitation_is_refused_by_name(jws: str, error: type[ReticentError]) -> None:
    with pytest.raises(ReticentError) as caught:
        accept_round(jws, ARRAYS, TERMS)
    assert type(caught.value) is error


def first(change: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    name = min(ARRAYS)
    return {**ARRAYS, name: change(ARRAYS[name].copy())}


def poisoned(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({}, SpecMismatch),
        ({**ARRAYS, "more": np.zeros(1, np.float32)}, SpecMismatch),
        (first(lambda a: a.astype(np.float64)), DtypeMismatch),
        (first(lambda a: a.reshape(-1)[:-1]), ShapeMismatch),
        (first(poisoned(float("nan"))), NonFiniteValue),
        (first(poisoned(float("inf"))), NonFiniteValue),
        (first(poisoned(1e9)), OutOfRange),
        (first(poisoned(0.5)), DigestMismatch),
    ],
)
def test_bad_arrays_are_refused_by_name(named: dict[str, np.ndarray], error: type[ReticentError]) -> None:
    with pytest.raises(ReticentError) as caught:
        accept_round(changed(), named, TERMS)
    assert type(caught.value) is error


def test_nobody_is_trusted_without_pins() -> None:
    with pytest.raises(UnknownSigner):
        accept_round(changed(), ARRAYS, dataclasses.replace(TERMS, keys={}))


def test_a_simulation_accepts_the_non_private_profile() -> None:
    simulated = dataclasses.replace(TERMS, simulation=True)
    assert accept_round(changed(profile=Profile.NON_PRIVATE), ARRAYS, simulated)


# ── masked rounds ────────────────────────────────────────────────────────────────────────────────────────────────────

CLIP = MASKED_BUDGET.releases.training_update.clipping_norm


def with_clip(quantile: ClipQuantile | None) -> Terms:
    releases = MASKED_BUDGET.releases.model_copy(update={"clip_quantile": quantile})
    return dataclasses.replace(MASKED_TERMS, budget=MASKED_BUDGET.model_copy(update={"releases": releases}))


FIXED_TERMS = with_clip(None)
ADAPTIVE_TERMS = with_clip(
    ClipQuantile(
        clipping_norm=0.5,
        noise_multiplier=30,
        releases_max=20,
        target_quantile=0.5,
        learning_rate=0.2,
        clipping_norm_min=0.01,
        clipping_norm_max=10,
    )
)


@pytest.mark.parametrize("task", list(Task))
def test_every_task_of_the_document_is_accepted_and_masked(task: Task) -> None:
    counted = PLAN if task is Task.MEASURE else None
    jws = changed(profile=MASKED_BUDGET.profile, task=task, measurement=counted)
    assert is_masked(accept_invitation(jws, MASKED_TERMS))


@pytest.mark.parametrize("age", [-1, 0, MEASURED_DAYS_MAX + 1, TODAY])
def test_a_day_that_is_not_over_or_is_long_past_is_not_measured(age: int) -> None:
    plan = PLAN.model_copy(update={"day": TODAY - age})
    with pytest.raises(PolicyError):
        accept_invitation(changed(profile=MASKED_BUDGET.profile, task=Task.MEASURE, measurement=plan), MASKED_TERMS)


@pytest.mark.parametrize(("task", "counted"), [(Task.MEASURE, False), (Task.TRAIN, True), (Task.HISTOGRAM, True)])
def test_what_is_counted_belongs_to_a_measurement_and_to_nothing_else(task: Task, *, counted: bool) -> None:
    jws = changed(profile=MASKED_BUDGET.profile, task=task, measurement=PLAN if counted else None)
    with pytest.raises(MalformedInput):
        accept_invitation(jws, MASKED_TERMS)


@pytest.mark.parametrize(
    ("terms", "clip", "accepted"),
    [
        (FIXED_TERMS, CLIP, True),
        (FIXED_TERMS, CLIP * 1.01, False),
        (FIXED_TERMS, CLIP * 0.99, False),
        (ADAPTIVE_TERMS, 0.01, True),
        (ADAPTIVE_TERMS, 10.0, True),
        (ADAPTIVE_TERMS, 0.009, False),
        (ADAPTIVE_TERMS, 10.1, False),
    ],
)
def test_the_clip_is_the_documents_unless_it_lets_it_adapt(terms: Terms, clip: float, accepted: bool) -> None:
    jws = changed(profile=MASKED_BUDGET.profile, clipping_norm=clip)
    if accepted:
        assert accept_invitation(jws, terms).clipping_norm == clip
    else:
        with pytest.raises(PolicyError):
            accept_invitation(jws, terms)


def test_a_release_that_the_document_does_not_name_is_not_made() -> None:
    releases = MASKED_BUDGET.releases.model_copy(update={"feature_histogram": None})
    terms = dataclasses.replace(MASKED_TERMS, budget=MASKED_BUDGET.model_copy(update={"releases": releases}))
    with pytest.raises(PolicyError):
        accept_invitation(changed(profile=MASKED_BUDGET.profile, task=Task.HISTOGRAM), terms)
