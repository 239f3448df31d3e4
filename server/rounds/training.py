"""One federated training from its first round to a registered model. Owns the order: claim, invite, add, step, commit.

Everything that has to last is in the checkpoint's transaction; a killed training is continued by starting it again.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from flwr.serverapp import Grid

from common.crypto.signing import SigningKey
from common.errors import CheckpointConflict, NonFiniteValue, PolicyError, ReticentError
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.model.network import initial_arrays
from common.privacy.parameters import MechanismUse, PrivacyStatement, RecordDpParameters
from common.taxonomy import Masking, Profile
from common.wire.messages import ModelManifest, ModelSpec, RoundInvitation
from common.wire.signed import seal_invitation
from policies.loader import LoadedPolicies
from server.registry.service import register
from server.rounds import accounting
from server.rounds.aggregation import Expected, Tally, mean_update
from server.rounds.checkpoint import Checkpoint, CheckpointStore, Lease, RoundRecord
from server.rounds.optimiser import OptimiserState, step
from server.rounds.strategy import Patience, run_round, sample_nodes
from server.rounds.training_config import TrainingConfig
from server.storage import Database

UNPROTECTED: Final = "none: the non-private profile draws no noise"
PROTECTED: Final = "each device's own generator, keyed by its operating system (seeded in simulations that say so)"


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A committed round, for whoever watches.

    Attributes:
        model: global arrays after the round.
        record: who took part and what was refused.
        privacy: what it has cost so far a device that took part in every round.
    """

    run_id: str
    round_number: int
    rounds_total: int
    model: arrays.Arrays
    record: RoundRecord
    privacy: PrivacyStatement


Observer = Callable[[RoundReport], Mapping[str, float]]
"""Sees every round; the figures it returns for the last one are stored with the model."""


def watch_nothing(_report: RoundReport) -> Mapping[str, float]:
    """The observer that keeps no figures."""
    return {}


@dataclass(frozen=True, slots=True)
class FinishedTraining:
    """A training whose model is registered.

    Attributes:
        privacy: what all rounds together cost a device that took part in each; round by round in the manifest.
        rounds_resumed: rounds that an earlier, interrupted process had committed.
    """

    run_id: str
    manifest: ModelManifest
    model: arrays.Arrays
    privacy: PrivacyStatement
    rounds_resumed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """All that a training needs, built by ``server.app``.

    Raises:
        PolicyError: on construction, if more rounds are asked for than the privacy budget document declares.
    """

    config: TrainingConfig
    spec: FeatureSpec
    policies: LoadedPolicies
    database: Database
    signer: SigningKey
    observer: Observer = watch_nothing
    lease_s: float = 20.0

    def __post_init__(self) -> None:
        """Refuse what every device would refuse anyway."""
        budget = self.policies.policies.privacy_budget
        if self.protection[0] is not Profile.NON_PRIVATE and self.config.num_server_rounds > budget.rounds_max:
            raise PolicyError(f"the privacy budget document declares at most {budget.rounds_max} rounds")

    @property
    def model(self) -> ModelSpec:
        """The network that is trained."""
        return self.config.model(self.spec)

    @property
    def protection(self) -> tuple[Profile, RecordDpParameters]:
        """Profile and local parameters."""
        return self.config.privacy(self.policies.policies.privacy_budget)

    @property
    def release(self) -> MechanismUse:
        """What one round costs each device that takes part."""
        profile, parameters = self.protection
        return parameters.release(profile)

    def run(self, grid: Grid) -> FinishedTraining:
        """Train over the grid, continuing from the checkpoint if there is one, and register the result.

        Raises:
            TooFewSurvivors: a round had too few contributions; its checkpoint stays.
            CheckpointConflict: another process writes this training.
        """
        store = CheckpointStore(self.database, holder=secrets.token_hex(8), lease_s=self.lease_s)
        digest = self.config.digest(self.spec, self.protection[1])
        run_id = self.config.run_name or store.unfinished(digest) or f"run-{secrets.token_hex(8)}"
        lease, checkpoint = store.claim(run_id, digest, self._start)
        try:
            return self._finish(grid, store, lease, checkpoint)
        except (Exception, KeyboardInterrupt) as error:
            with contextlib.suppress(CheckpointConflict):  # then it is another process's training already
                store.abort(lease, error.name if isinstance(error, ReticentError) else type(error).__name__)
            raise

    def _start(self) -> Checkpoint:
        """Public initial weights: zeros and the base rate, or the seed's."""
        model = initial_arrays(self.model, self.spec)
        return Checkpoint(0, model, OptimiserState.start(arrays.length(model)))

    def _finish(self, grid: Grid, store: CheckpointStore, lease: Lease, checkpoint: Checkpoint) -> FinishedTraining:
        resumed, figures = checkpoint.rounds_done, dict[str, float]()
        while checkpoint.rounds_done < self.config.num_server_rounds:
            checkpoint, tally, invited = self._round(grid, store, lease, checkpoint)
            record = self._record(checkpoint.rounds_done, tally, invited)
            store.commit(lease, checkpoint, record)
            figures = dict(self.observer(self._report(lease.run_id, checkpoint, record)))
        privacy = accounting.privacy_lines(self.release, checkpoint.rounds_done, **self._wording)
        manifest = register(
            self.database.sessions,
            run_id=lease.run_id,
            model=self.model,
            spec=self.spec,
            arrays=checkpoint.model,
            metrics={"rounds": float(checkpoint.rounds_done)} | figures,
            privacy=privacy,
            signer=self.signer,
        )
        store.finish(lease, manifest.version)
        return FinishedTraining(lease.run_id, manifest, checkpoint.model, privacy[0], resumed)

    def _round(
        self, grid: Grid, store: CheckpointStore, lease: Lease, before: Checkpoint
    ) -> tuple[Checkpoint, Tally, int]:
        """One round: the next checkpoint, not yet committed, what it was made of, and how many were asked."""
        config, number = self.config, before.rounds_done + 1
        patience = Patience(config.round_deadline_s, config.node_wait_s, beat=lambda: store.beat(lease))
        nodes = sample_nodes(
            grid,
            nodes_min=config.min_nodes,
            nodes_wanted=config.nodes_per_round,
            seed=(config.model_seed, number),
            patience=patience,
        )
        invitation = self._invitation(lease.run_id, number, before.model)
        tally = run_round(
            grid,
            nodes,
            invitation=seal_invitation(invitation, self.signer),
            model=before.model,
            expected=self._expected(invitation, before.model),
            patience=patience,
        )
        mean = mean_update(tally, config.min_contributions)
        weights, state = step(
            config.optimiser(),
            arrays.flatten(before.model),
            mean,
            before.optimiser,
            round_number=number,
            rounds_total=config.num_server_rounds,
        )
        model = arrays.unflatten(weights, before.model)
        try:
            arrays.check(model, before.model)
        except ReticentError as error:
            raise NonFiniteValue("the round's step leaves the range of sane weights; it is not taken") from error
        return Checkpoint(number, model, state), tally, len(nodes)

    def _invitation(self, run_id: str, number: int, model: arrays.Arrays) -> RoundInvitation:
        profile, parameters = self.protection
        return RoundInvitation(
            run_id=run_id,
            round_number=number,
            rounds_total=self.config.num_server_rounds,
            deadline_s=self.config.round_deadline_s,
            model=self.model,
            arrays_digest=arrays.digest(model),
            profile=profile,
            parameters=parameters,
            budget_policy_digest=self.policies.digests["privacy_budget"],
        )

    def _expected(self, invitation: RoundInvitation, model: arrays.Arrays) -> Expected:
        return Expected(
            run_id=invitation.run_id,
            round_number=invitation.round_number,
            spec_digest=self.spec.digest,
            base_digest=invitation.arrays_digest,
            length=arrays.length(model),
            release=self.release,
            masking=Masking.NONE,
            contributions_max=self.config.contributions_per_node_max,
        )

    def _record(self, number: int, tally: Tally, invited: int) -> RoundRecord:
        delta = self.policies.policies.privacy_budget.delta
        return RoundRecord(
            contributions=tally.contributions,
            nodes=len(tally.nodes),
            invited=invited,
            refused={fault.value: count for fault, count in tally.refused.items()},
            declined=dict(tally.declined),
            epsilon=accounting.epsilon_after(self.release, number, delta),
            delta=delta,
        )

    @property
    def _wording(self) -> accounting.Wording:
        unprotected = self.protection[0] is Profile.NON_PRIVATE
        delta = self.policies.policies.privacy_budget.delta
        return {"delta": delta, "randomness": UNPROTECTED if unprotected else PROTECTED}

    def _report(self, run_id: str, checkpoint: Checkpoint, record: RoundRecord) -> RoundReport:
        return RoundReport(
            run_id=run_id,
            round_number=checkpoint.rounds_done,
            rounds_total=self.config.num_server_rounds,
            model=checkpoint.model,
            record=record,
            privacy=accounting.privacy_line(self.release, checkpoint.rounds_done, **self._wording),
        )
