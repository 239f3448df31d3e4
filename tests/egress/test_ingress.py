"""What arrives on a device is verified step by step, and each step refuses by its own name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from client.ingress import Terms, accept_round
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
from common.taxonomy import ModelFamily, Profile
from common.wire.documents import seal
from common.wire.messages import Catalogue, ModelSpec, RoundInvitation
from common.wire.signed import INVITATION_TYP, seal_invitation
from policies import loader
from tests.flower.nodes import SPEC

KEY, OTHER = SigningKey.generate(), SigningKey.generate()
LOADED = loader.load()
BUDGET = LOADED.policies.privacy_budget
MODEL = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.2)
ARRAYS = initial_arrays(MODEL, SPEC)
TERMS = Terms(
    keys=key_ring(KEY.public),
    spec=SPEC,
    budget=BUDGET,
    budget_digest=LOADED.digests["privacy_budget"],
    simulation=False,
)
INVITATION = RoundInvitation(
    run_id="run-1",
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
    nobody = Terms(keys={}, spec=SPEC, budget=BUDGET, budget_digest=TERMS.budget_digest, simulation=False)
    with pytest.raises(UnknownSigner):
        accept_round(changed(), ARRAYS, nobody)


def test_a_simulation_accepts_the_non_private_profile() -> None:
    simulated = Terms(keys=TERMS.keys, spec=SPEC, budget=BUDGET, budget_digest=TERMS.budget_digest, simulation=True)
    assert accept_round(changed(profile=Profile.NON_PRIVATE), ARRAYS, simulated)
