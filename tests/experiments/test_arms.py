"""Arms: a stable hash, the declared shares, independent of other experiments; drawn on the device, and kept there."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from pydantic import ValidationError

from client.experiments import drawn, opened
from common.crypto.signing import SigningKey
from common.errors import DigestMismatch, InvariantViolated, TrustError
from common.wire.documents import seal
from common.wire.experiments import SHARES, ExperimentArm
from policies.experiments.arms import arm_of, bucket_of, runs
from policies.experiments.report import Counts, split
from tests.experiments.made import OWN, arm, document

SEEDS = [f"device-{i}" for i in range(20_000)]


def test_the_bucket_is_the_hash_that_the_docs_name() -> None:
    digest = hashlib.sha256(f"5:trial32:{'00' * 16}3:abc".encode()).digest()
    assert bucket_of(document(5000, 5000), "abc") == int.from_bytes(digest) % SHARES


@pytest.mark.parametrize("shares", [(5000, 5000), (9000, 1000), (2000, 3000, 5000)])
def test_arms_have_their_shares(shares: tuple[int, ...]) -> None:
    """20,000 seeds, fixed; a sound split is called broken with probability 0.001. Control: other shares are caught."""
    here = document(*shares)
    counts = [Counts(sum(arm_of(here, seed).name == one.name for seed in SEEDS), 0, 0) for one in here.arms]
    assert not split(counts, [share / SHARES for share in shares]).broken
    other = [share / SHARES for share in shares]
    other[0], other[1] = other[0] - 0.03, other[1] + 0.03
    assert split(counts, other).broken


def test_arms_of_two_experiments_are_independent() -> None:
    """Correlation over 20,000 devices: 4 standard errors are 0.028. Control: same salt and name, same arm."""
    first = np.array([arm_of(document(5000, 5000), seed).name == "arm0" for seed in SEEDS])
    for other in (document(5000, 5000, salt="11" * 16), document(5000, 5000, experiment_id="another")):
        second = np.array([arm_of(other, seed).name == "arm0" for seed in SEEDS])
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.028
    again = np.array([arm_of(document(5000, 5000), seed).name == "arm0" for seed in SEEDS])
    assert (first == again).all()


def test_a_document_that_could_not_be_judged_is_none() -> None:
    for bad in ((5000, 4000), (10_000,), (4000, 4000, 4000)):
        with pytest.raises(ValidationError):
            document(*bad)
    with pytest.raises(ValidationError, match="digest"):
        ExperimentArm(name="a", share=1, policy_digest="0" * 64, policy_text=OWN)
    assert [runs(document(5000, 5000), now) for now in (99, 100, 199, 200)] == [False, True, True, False]


def test_a_device_draws_its_arm_from_its_own_key() -> None:
    key, here = SigningKey.generate(), document(5000, 5000)
    held = opened(seal(here, key), {key.public.kid: key.public})
    assert held == here
    arms = [drawn(held, here.digest, bytes([i]) * 32) for i in range(64)]
    names = {one.name for one in arms if one is not None}
    assert names == {"arm0", "arm1"}
    assert drawn(held, here.digest, bytes(32)) == drawn(held, here.digest, bytes(32))
    assert drawn(held, None, bytes(32)) is None  # this decision is in no experiment
    assert opened("", {}) is None
    for other in (None, document(9000, 1000)):
        with pytest.raises(DigestMismatch):
            drawn(other, here.digest, bytes(32))


def test_a_device_takes_no_experiment_that_is_forged_or_denies_too_little() -> None:
    key, stranger = SigningKey.generate(), SigningKey.generate()
    with pytest.raises(TrustError):
        opened(seal(document(5000, 5000), stranger), {key.public.kid: key.public})
    lax = OWN.replace("    - religion\n", "")
    here = document(5000, 5000).model_copy(update={"arms": (arm("a", 5000), arm("b", 5000, lax))})
    with pytest.raises(InvariantViolated):
        opened(seal(here, key), {key.public.kid: key.public})
