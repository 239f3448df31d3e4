"""The configuration of one training. Owns the keys of pyproject's ``[tool.flwr.app.config]`` and what they mean.

The server chooses these; a device accepts only what its own policy documents allow. Privacy parameters therefore come
from the policy. The ``local-*`` keys exist for non-private simulations alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import MalformedInput
from common.model.feature_spec import FeatureSpec
from common.taxonomy import ModelFamily, Profile, ServerOptimiser, Task
from common.wire.codec import describe
from common.wire.messages import ModelSpec
from policies.schema import PrivacyBudgetPolicy
from server.rounds.optimiser import OptimiserSettings
from server.rounds.plan import Protection


def _kebab(name: str) -> str:
    return name.replace("_", "-")


class TrainingConfig(BaseModel):
    """Run-config keys, in kebab case there.

    Attributes:
        run_name: names a training, and continues it; empty: continue the latest unfinished one, else start anew.
        task: train; or one paid release and nothing else: evaluate (of a registered model), histogram (of features) or
            measure (results of one day's placements).
        measure_day: which UTC day is measured, as 2026-11-21; empty: yesterday.
        measure_sessions: secure aggregations that one day may take; each holds the policy's ``devices_max`` at most,
            and a further one is held only where devices were left over.
        model_version: which model is evaluated; 0: the newest.
        profile: empty: the policy's.
        calibrate, evaluate: paid releases after the last round, where the profile and the policy have them.
        nodes_per_round: 0: all that are connected.
        min_nodes: nodes to wait for before a round.
        min_contributions: devices that a round needs; with fewer it aborts by name. Secure aggregation has the
            policy's own bound beside it.
        round_attempts: sessions a round may take; each further one is a new charge.
        round_deadline_s: of a whole round; the stages of a secure aggregation share it.
        local_steps, local_learning_rate, local_expected_batch_size: 0: the policy's; non-private simulations only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=_kebab, populate_by_name=True)
    num_server_rounds: int = Field(default=3, ge=1, le=10_000)
    run_name: str = Field(default="", max_length=100, pattern=r"^[A-Za-z0-9._-]*$")
    task: Literal[Task.TRAIN, Task.EVALUATE, Task.HISTOGRAM, Task.MEASURE] = Task.TRAIN
    measure_day: str = Field(default="", pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$")
    measure_sessions: int = Field(default=16, ge=1, le=1000)
    model_version: int = Field(default=0, ge=0)
    profile: Profile | None = None
    calibrate: bool = True
    evaluate: bool = True
    model_family: ModelFamily = ModelFamily.LOGISTIC
    model_seed: int = Field(default=0, ge=0)
    base_rate: float = Field(default=0.1, gt=0, lt=1)
    contextual_weight: float = Field(default=0.3, ge=0, lt=1)
    wide_scale: float = Field(default=1.0, gt=0, le=10)
    hidden_width: int = Field(default=64, ge=1)
    embedding_dim: int = Field(default=4, ge=1)
    server_optimiser: ServerOptimiser = ServerOptimiser.FEDAVG
    server_learning_rate: float = Field(default=1.0, gt=0)
    server_learning_rate_decay: float = Field(default=0.0, ge=0, le=1)
    server_momentum: float = Field(default=0.9, ge=0, lt=1)
    server_second_moment: float = Field(default=0.99, ge=0, lt=1)
    server_damping: float = Field(default=1e-3, gt=0)
    nodes_per_round: int = Field(default=0, ge=0)
    min_nodes: int = Field(default=1, ge=1)
    min_contributions: int = Field(default=1, ge=1)
    contributions_per_node_max: int = Field(default=5000, ge=1)
    round_attempts: int = Field(default=1, ge=1, le=10)
    round_deadline_s: float = Field(default=600.0, gt=0)
    node_wait_s: float = Field(default=60.0, ge=0)
    local_steps: int = Field(default=0, ge=0)
    local_learning_rate: float = Field(default=0.0, ge=0)
    local_expected_batch_size: float = Field(default=0.0, ge=0)
    simulation_nodes_dir: str = ""

    @staticmethod
    def from_run_config(values: Mapping[str, object]) -> TrainingConfig:
        """Read Flower's run-config; the empty string means "not given".

        Raises:
            MalformedInput: unknown keys or values out of range, named without their values.
        """
        given = {key: value for key, value in values.items() if value != ""}
        try:
            return TrainingConfig.model_validate(given)
        except ValidationError as error:
            raise MalformedInput(f"run-config: {describe(error)}") from None

    def model(self, spec: FeatureSpec) -> ModelSpec:
        """The network this training trains."""
        return ModelSpec(
            family=self.model_family,
            spec_digest=spec.digest,
            base_rate=self.base_rate,
            contextual_weight=self.contextual_weight,
            wide_scale=self.wide_scale,
            hidden_width=self.hidden_width,
            embedding_dim=self.embedding_dim,
            seed=self.model_seed,
        )

    def optimiser(self) -> OptimiserSettings:
        """The server's step."""
        return OptimiserSettings(
            kind=self.server_optimiser,
            learning_rate=self.server_learning_rate,
            decay=self.server_learning_rate_decay,
            momentum=self.server_momentum,
            second_moment=self.server_second_moment,
            damping=self.server_damping,
        )

    def protection(self, policy: PrivacyBudgetPolicy) -> Protection:
        """How devices are protected: by the policy's parameters alone, unless nothing is protected.

        Raises:
            MalformedInput: ``local-*`` keys with a private profile.
        """
        profile = self.profile or policy.profile
        given = {
            "local_steps": self.local_steps,
            "learning_rate": self.local_learning_rate,
            "expected_batch_size": self.local_expected_batch_size,
        }
        changes = {name: value for name, value in given.items() if value}
        if changes and profile is not Profile.NON_PRIVATE:
            raise MalformedInput("run-config: local-* keys are for the non_private profile; the policy sets the others")
        return Protection(policy, profile, policy.training.model_copy(update=changes))

    def digest(self, spec: FeatureSpec, protection: Protection) -> str:
        """SHA-256 of everything that shapes the result: a checkpoint is continued only under the same."""
        waiting = {
            "run_name",
            "measure_day",
            "measure_sessions",
            "evaluate",
            "round_attempts",
            "round_deadline_s",
            "node_wait_s",
            "simulation_nodes_dir",
        }
        text = self.model_dump_json(exclude=waiting) + protection.parameters.model_dump_json() + spec.digest
        if protection.secure:
            policy = protection.policy
            text += policy.user_training.model_dump_json() + policy.releases.model_dump_json()
            text += policy.cohort.model_dump_json()
        return hashlib.sha256(text.encode()).hexdigest()
