"""A small privacy budget with two lines, and releases that cost round figures."""

from __future__ import annotations

from common.privacy.parameters import MechanismUse, UserDpParameters
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, Profile, Purpose, ReleaseKind, TrustModel
from policies.budget import PlannedRelease
from policies.schema import BudgetLine, PrivacyBudgetPolicy

DAY = 86_400.0
NOW = 1_800_000_000.0
DELTA = 1e-5
RECORD = {
    "unit": PrivacyUnit.RECORD, "relation": NeighbouringRelation.ADD_REMOVE, "trust": TrustModel.LOCAL,
}  # fmt: skip
USER = {
    "unit": PrivacyUnit.USER, "relation": NeighbouringRelation.ADD_REMOVE, "trust": TrustModel.DISTRIBUTED,
}  # fmt: skip
QUOTAS = {Purpose.TRAIN_CONTRIBUTE: 4.0, Purpose.MEASURE_AGGREGATE: 4.0}


def user_release(z: float, **more: object) -> dict[str, object]:
    return {"clipping_norm": 1.0, "noise_multiplier": z, "levels": 1024, "releases_max": 40} | more


def policy(**changes: object) -> PrivacyBudgetPolicy:
    document: dict[str, object] = {
        "version": 2,
        "profile": Profile.LAYERED,
        "rounds_max": 20,
        "budget_period_days": 100,
        "lines": [
            USER | {"delta": DELTA, "epsilon_declared": 4.0, "epsilon_cap": 5.0, "quotas": QUOTAS},
            RECORD | {"delta": DELTA, "epsilon_declared": 4.0, "epsilon_cap": 5.0},
        ],
        "training": {
            "clipping_norm": 1.0, "noise_multiplier": 4.0, "sampling_rate": 1.0, "local_steps": 1,
            "expected_batch_size": 64, "learning_rate": 1.0,
        },
        "user_training": {"local_steps": 1, "expected_batch_size": 64, "learning_rate": 1.0},
        "releases": {
            "training_update": user_release(5.0),
            "calibration": user_release(10.0, releases_max=2),
            "feature_histogram": user_release(5.0),
        },
        "cohort": {"devices_min": 3, "devices_max": 100, "dropout_fraction_max": 0.3, "corrupt_fraction_max": 0.1},
    }  # fmt: skip
    return PrivacyBudgetPolicy.model_validate(document | changes)


POLICY = policy()
USER_LINE, RECORD_LINE = POLICY.lines
GAUSSIAN = POLICY.training.release(Profile.LAYERED)
NOISELESS = POLICY.training.release(Profile.NON_PRIVATE)
RECORD_ROUND = PlannedRelease(ReleaseKind.TRAINING_UPDATE, GAUSSIAN)


def skellam(z: float = 5.0, *, length: int = 400, levels: int = 1024) -> MechanismUse:
    return UserDpParameters(clipping_norm=1.0, noise_multiplier=z, levels=levels).release(length)


USER_ROUND = PlannedRelease(ReleaseKind.TRAINING_UPDATE, skellam())
CALIBRATION = PlannedRelease(ReleaseKind.CALIBRATION, skellam(10.0, length=2))
HISTOGRAM = PlannedRelease(ReleaseKind.FEATURE_HISTOGRAM, skellam(length=64))
ROUND = (USER_ROUND, RECORD_ROUND)
"""What a layered round costs: a line of each kind."""


def line_without(line: BudgetLine, **changes: object) -> BudgetLine:
    return line.model_copy(update=changes)


assert GAUSSIAN.mechanism is Mechanism.GAUSSIAN
