"""Policies small enough to audit in a second, and an order to audit a build under one of them."""

from cli.audit.build import Build
from cli.audit.run import Effort, Order
from common.taxonomy import NeighbouringRelation, PrivacyUnit, Profile, TrustModel
from policies.schema import PrivacyBudgetPolicy

FAST = Effort(record_scores=4_000, user_scores=500, deviation_runs=120, residual_runs=12)


def make_policy(*, rounds: int = 2, training: dict | None = None, release: dict | None = None) -> PrivacyBudgetPolicy:
    """Loud enough noise to be a mechanism, quiet enough that a test of a second sees an error."""
    return PrivacyBudgetPolicy.model_validate(
        {
            "version": 1,
            "profile": Profile.LAYERED,
            "rounds_max": rounds,
            "budget_period_days": 365,
            "lines": [
                {
                    "unit": unit,
                    "relation": NeighbouringRelation.ADD_REMOVE,
                    "trust": trust,
                    "delta": 1e-5,
                    "epsilon_declared": 12.0,
                    "epsilon_cap": 20.0,
                }
                for unit, trust in (
                    (PrivacyUnit.USER, TrustModel.DISTRIBUTED),
                    (PrivacyUnit.RECORD, TrustModel.LOCAL),
                )
            ],
            "training": {
                "clipping_norm": 0.5,
                "noise_multiplier": 2.0,
                "sampling_rate": 1.0,
                "local_steps": 1,
                "expected_batch_size": 64.0,
                "learning_rate": 1.0,
            }
            | (training or {}),
            "user_training": {"local_steps": 1, "expected_batch_size": 64.0, "learning_rate": 1.0},
            "releases": {
                "training_update": {"clipping_norm": 0.5, "noise_multiplier": 2.0, "levels": 1024, "releases_max": 20}
                | (release or {})
            },
            "cohort": {
                "devices_min": 10,
                "devices_max": 1000,
                "dropout_fraction_max": 0.3,
                "corrupt_fraction_max": 0.1,
            },
        }
    )


def make_order(
    profile: Profile = Profile.RECORD_LOCAL,
    *,
    seed: int | None = 1,
    build: Build | None = None,
    effort: Effort = FAST,
    policy: PrivacyBudgetPolicy | None = None,
) -> Order:
    return Order(
        policy=policy or make_policy(),
        profile=profile,
        policy_digest="0" * 64,
        seed=seed,
        effort=effort,
        build=build or Build(),
    )


TINY = Effort(record_scores=1_500, user_scores=120, deviation_runs=24, residual_runs=6)
SAMPLED = {"sampling_rate": 0.5, "local_steps": 2, "noise_multiplier": 1.0}
