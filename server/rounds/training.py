"""One federated training from its first round to a registered model. Owns the order of claim, rounds and paid tasks.

Everything that has to last is in the checkpoint's transaction; a killed training is continued by starting it again. A
session that devices were charged for and whose result was not committed is gone: the next one is a new charge.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from flwr.serverapp import Grid

from common.crypto.signing import PublicKey, SigningKey
from common.errors import CheckpointConflict, NonFiniteValue, PolicyError, ReticentError
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.model.network import initial_arrays
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import Profile, Task
from common.wire.messages import ModelManifest, ModelSpec
from policies.loader import LoadedPolicies
from server.ledger.service import ServerLedger
from server.registry.service import register
from server.rounds.accounting import PROTECTED, UNPROTECTED, Costs, disclose
from server.rounds.charges import ChargeBook
from server.rounds.checkpoint import Checkpoint, CheckpointStore, Lease, RoundRecord
from server.rounds.clipping import fraction_within, next_clip
from server.rounds.consent import RoundConsent
from server.rounds.optimiser import OptimiserState, step
from server.rounds.paid import calibrated, evaluated
from server.rounds.plan import Protection
from server.rounds.release_rounds import Outcome, Rounds
from server.rounds.training_config import TrainingConfig
from server.settings import RoundConsentRule
from server.storage import Database
from server.transparency.keys import KeyRing
from server.transparency.service import TransparencyLog

TRAINED_SO_FAR: Final = "a device that took part in every round of this training so far"


@dataclass(frozen=True, slots=True)
class RoundReport:
    """A committed round, for whoever watches.

    Attributes:
        model: global arrays after the round.
        record: who took part and what was refused.
        lines: what training has cost so far a device that took part in every session, user level first.
    """

    run_id: str
    round_number: int
    rounds_total: int
    model: arrays.Arrays
    record: RoundRecord
    lines: tuple[PrivacyStatement, ...]

    @property
    def privacy(self) -> PrivacyStatement:
        """The first line."""
        return self.lines[0]


Observer = Callable[[RoundReport], Mapping[str, float]]
"""Sees every round; the figures it returns for the last one are stored with the model."""


def watch_nothing(_report: RoundReport) -> Mapping[str, float]:
    """The observer that keeps no figures."""
    return {}


@dataclass(frozen=True, slots=True)
class FinishedTraining:
    """A training whose model is registered.

    Attributes:
        lines: what everything together cost a device that took part in all of it, user level first; kind by kind and
            round by round in the manifest.
        figures: what paid calibration and evaluation found, noise included.
        rounds_resumed: rounds that an earlier, interrupted process had committed.
    """

    run_id: str
    manifest: ModelManifest
    model: arrays.Arrays
    lines: tuple[PrivacyStatement, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    rounds_resumed: int = 0

    @property
    def privacy(self) -> PrivacyStatement:
        """The first line."""
        return self.lines[0]


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
    authorities: tuple[PublicKey, ...] = ()
    observer: Observer = watch_nothing
    lease_s: float = 20.0
    round_consent: RoundConsentRule = RoundConsentRule.SERVICE

    def __post_init__(self) -> None:
        """Refuse what every device would refuse anyway."""
        budget = self.policies.policies.privacy_budget
        if self.protection.profile is not Profile.NON_PRIVATE and self.config.num_server_rounds > budget.rounds_max:
            raise PolicyError(f"the privacy budget document declares at most {budget.rounds_max} rounds")

    @property
    def model(self) -> ModelSpec:
        """The network that is trained."""
        return self.config.model(self.spec)

    @property
    def protection(self) -> Protection:
        """How devices are protected."""
        return self.config.protection(self.policies.policies.privacy_budget)

    def run(self, grid: Grid) -> FinishedTraining:
        """Train over the grid, continuing from the checkpoint if there is one, and register the result.

        Raises:
            TooFewSurvivors: a round had too few contributions; its checkpoint stays.
            SumOutOfRange: a round's sum cannot be; likewise.
            CheckpointConflict: another process writes this training.
        """
        store = CheckpointStore(self.database, holder=secrets.token_hex(8), lease_s=self.lease_s)
        digest = self.config.digest(self.spec, self.protection)
        run_id = self.config.run_name or store.unfinished(digest) or f"run-{secrets.token_hex(8)}"
        lease, checkpoint = store.claim(run_id, digest, self._start)
        try:
            return _Run(self, store, lease, self._rounds(grid, store, lease)).finish(checkpoint)
        except (Exception, KeyboardInterrupt) as error:
            with contextlib.suppress(CheckpointConflict):  # then it is another process's training already
                store.abort(lease, error.name if isinstance(error, ReticentError) else type(error).__name__)
            raise

    def _start(self) -> Checkpoint:
        """Public initial weights: zeros and the base rate, or the seed's."""
        model = initial_arrays(self.model, self.spec)
        clip = self.protection.clip_start
        return Checkpoint(0, model, OptimiserState.start(arrays.length(model)), clip)

    def _rounds(self, grid: Grid, store: CheckpointStore, lease: Lease) -> Rounds:
        return Rounds(
            grid=grid,
            run_id=lease.run_id,
            config=self.config,
            model=self.model,
            spec=self.spec,
            protection=self.protection,
            policy_digest=self.policies.digests["privacy_budget"],
            signer=self.signer,
            authorities=self.authorities,
            ledger=ServerLedger(
                self.database,
                self.policies.policies.privacy_budget,
                log=TransparencyLog(self.database, self.signer),
            ),
            book=ChargeBook(self.database, lease.run_id),
            consent=RoundConsent.at(
                self.database,
                rules=self.policies.policies.purposes,
                signer=self.signer,
                rule=self.round_consent,
            ),
            beat=lambda: store.beat(lease),
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """A training whose lease is held."""

    training: Training
    store: CheckpointStore
    lease: Lease
    rounds: Rounds

    @property
    def costs(self) -> Costs:
        protection = self.training.protection
        randomness = UNPROTECTED if protection.profile is Profile.NON_PRIVATE else PROTECTED
        return Costs(protection.policy, randomness)

    def finish(self, checkpoint: Checkpoint) -> FinishedTraining:
        """All rounds that are still due, the paid tasks, the registration."""
        resumed, figures = checkpoint.rounds_done, dict[str, float]()
        while checkpoint.rounds_done < self.training.config.num_server_rounds:
            if not self._may_release(Task.TRAIN):
                break
            checkpoint, record = self._round(checkpoint)
            self.store.commit(self.lease, checkpoint, record)
            figures = dict(self.training.observer(self._report(checkpoint, record)))
        for task, wanted in (
            (Task.CALIBRATE, self.training.config.calibrate),
            (Task.EVALUATE, self.training.config.evaluate),
        ):
            if wanted and task not in checkpoint.tasks and self.training.protection.allows(task):
                checkpoint = self._paid(task, checkpoint)
        return self._register(checkpoint, figures, resumed)

    def _may_release(self, task: Task) -> bool:
        """Whether the policy has a device take part once more, lost sessions of this training included.

        Raises:
            PolicyError: it has not, and there is nothing to go on with.
        """
        if self.training.protection.profile is Profile.NON_PRIVATE:
            return True
        charged, allowed = len(self.rounds.book.all(task)), self.training.protection.releases_max(task)
        if charged < allowed:
            return True
        if task is Task.TRAIN and self.store.history(self.lease.run_id):
            return False  # the model so far is what the budget bought
        raise PolicyError(
            f"this training was charged for {charged} sessions of the task {task.value}, lost ones included; the "
            f"privacy budget document has {allowed}"
        )

    def _round(self, before: Checkpoint) -> tuple[Checkpoint, RoundRecord]:
        """One round: the next checkpoint, not yet committed, and what it was made of."""
        config, number = self.training.config, before.rounds_done + 1
        found = self.rounds.train(number, before.model, before.clipping_norm)
        weights, state = step(
            config.optimiser(),
            arrays.flatten(before.model),
            found.mean,
            before.optimiser,
            round_number=number,
            rounds_total=config.num_server_rounds,
        )
        model = arrays.unflatten(weights, before.model)
        try:
            arrays.check(model, before.model)
        except ReticentError as error:
            raise NonFiniteValue("the round's step leaves the range of sane weights; it is not taken") from error
        clip = self._next_clip(before.clipping_norm, found)
        return Checkpoint(number, model, state, clip), self._record(before.clipping_norm, found)

    def _next_clip(self, clip: float, found: Outcome) -> float:
        policy = self.training.protection.policy.releases.clip_quantile
        if policy is None or len(found.sums) < 2:
            return clip
        return next_clip(clip, fraction_within(float(found.sums[1][0]), found.contributions), policy)

    def _record(self, clip: float, found: Outcome) -> RoundRecord:
        epsilon, delta = self.costs.epsilon(self.rounds.book.all(Task.TRAIN))
        return RoundRecord(
            contributions=found.contributions,
            roster=found.roster,
            nodes=found.nodes,
            invited=found.invited,
            refused=found.refused,
            declined=found.declined,
            epsilon=epsilon,
            delta=delta,
            clipping_norm=clip,
            noise_stddev=found.noise_stddevs[0] / found.contributions,
        )

    def _report(self, checkpoint: Checkpoint, record: RoundRecord) -> RoundReport:
        return RoundReport(
            run_id=self.lease.run_id,
            round_number=checkpoint.rounds_done,
            rounds_total=self.training.config.num_server_rounds,
            model=checkpoint.model,
            record=record,
            lines=self.costs.totals(self.rounds.book.all(Task.TRAIN), TRAINED_SO_FAR),
        )

    def _paid(self, task: Task, before: Checkpoint) -> Checkpoint:
        """One paid task on the trained model, committed."""
        self._may_release(task)
        number = max(1, before.rounds_done)
        found = self.rounds.once(task, number, before.model, before.clipping_norm)
        if task is Task.CALIBRATE:
            model, figures = calibrated(before.model, self.training.model, self.training.spec, found)
        else:
            model, figures = before.model, evaluated(found, self.training.model, self.training.protection.bins)
        after = replace(before, model=model, tasks=(*before.tasks, task), figures=dict(before.figures) | dict(figures))
        self.store.commit_task(self.lease, after)
        return after

    def _register(self, checkpoint: Checkpoint, figures: Mapping[str, float], resumed: int) -> FinishedTraining:
        training, charges = self.training, self.rounds.book.all()
        history = self.store.history(self.lease.run_id)
        manifest = register(
            training.database.sessions,
            run_id=self.lease.run_id,
            model=training.model,
            spec=training.spec,
            arrays=checkpoint.model,
            metrics={"rounds": float(checkpoint.rounds_done)} | dict(figures) | dict(checkpoint.figures),
            privacy=self.costs.statements(charges),
            disclosure=disclose(
                training.protection, charges, [(row.roster, row.contributions) for row in history], self.costs
            ),
            signer=training.signer,
            log=TransparencyLog(training.database, training.signer),
            keys=KeyRing(training.database, training.signer.public),
        )
        self.store.finish(self.lease, manifest.version)
        lines = self.costs.totals(charges)
        return FinishedTraining(self.lease.run_id, manifest, checkpoint.model, lines, checkpoint.figures, resumed)
