"""One paid release beside any training: model quality, feature histograms, results of placements. Owns its order.

The same session, the same charges and the same disclosure as in a training; what comes back is figures, not a model.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flwr.serverapp import Grid

from common.crypto.signing import PublicKey, SigningKey
from common.errors import CheckpointConflict, PolicyError, ReticentError
from common.measurement.layout import Cell, ContributionBounds, read_sum
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.model.measurement import FieldHistogram, read_histogram
from common.model.network import initial_arrays
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import Task
from common.wire.measurement import MeasurementPlan
from common.wire.messages import ModelSpec
from policies.loader import LoadedPolicies
from server.ledger.service import ServerLedger
from server.measurement.known import KnownCatalogues
from server.measurement.planning import plan_of
from server.measurement.repository import DAY_S, StoredDay
from server.measurement.service import MeasurementService, date_of, number_of
from server.registry.service import Registry
from server.rounds.accounting import PROTECTED, Costs
from server.rounds.charges import Charge, ChargeBook
from server.rounds.checkpoint import Checkpoint, CheckpointStore
from server.rounds.consent import RoundConsent
from server.rounds.optimiser import OptimiserState
from server.rounds.paid import evaluated
from server.rounds.plan import Protection
from server.rounds.release_rounds import Outcome, Rounds
from server.rounds.sessions import of_one_device, together
from server.rounds.training_config import TrainingConfig
from server.settings import RoundConsentRule
from server.storage import Database
from server.transparency.keys import KeyRing
from server.transparency.service import TransparencyLog

SCOPE = "a device that took part in this measurement"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a measurement found.

    Attributes:
        figures: of an evaluation, with intervals that include the noise.
        histograms: of features, noisy, by field.
        cells: of a day's placements, noisy; of a day that was measured before, those that are stored.
        devices: in the sum.
        lines: what it cost each of them.
    """

    run_id: str
    task: Task
    devices: int
    lines: tuple[PrivacyStatement, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    histograms: Mapping[str, FieldHistogram] = field(default_factory=dict)
    cells: tuple[Cell, ...] = ()


@dataclass(frozen=True, slots=True)
class Counting:
    """What is counted of a day.

    Attributes:
        bids: lowest bid of each campaign that day, in millionths.
        bounds: on what one device contributes.
    """

    plan: MeasurementPlan
    bids: Mapping[str, int]
    bounds: ContributionBounds


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All that a measurement needs, built by ``server.app``."""

    config: TrainingConfig
    spec: FeatureSpec
    policies: LoadedPolicies
    database: Database
    signer: SigningKey
    authorities: tuple[PublicKey, ...]
    lease_s: float = 20.0
    round_consent: RoundConsentRule = RoundConsentRule.SERVICE

    def run(self, grid: Grid) -> Measured:
        """One session of ``config.task``; of a day's results several, and none where they are stored: they stand.

        Raises:
            PolicyError: the policy has no such release, or the profile does not go through secure aggregation.
            TooFewSurvivors, SumOutOfRange: it failed; its charge stays.
            NotFound: there is no model to evaluate, or no campaign to measure.
        """
        protection = self.config.protection(self.policies.policies.privacy_budget)
        if not protection.allows(self.config.task):
            raise PolicyError(f"the privacy budget document has no release for the task {self.config.task.value}")
        if (held := self._stored()) is not None:
            return held
        counted = self._counted()
        model, weights = self._model()
        store = CheckpointStore(self.database, holder=secrets.token_hex(8), lease_s=self.lease_s)
        run_id = self.config.run_name or self._name()
        start = Checkpoint(0, weights, OptimiserState.start(0), protection.clip_start)
        lease, _ = store.claim(run_id, self.config.digest(self.spec, protection), lambda: start)
        book = ChargeBook(self.database, run_id)
        rounds = Rounds(
            grid=grid,
            run_id=run_id,
            config=self.config,
            model=model,
            spec=self.spec,
            protection=protection,
            policy_digest=self.policies.digests["privacy_budget"],
            signer=self.signer,
            authorities=self.authorities,
            ledger=ServerLedger(
                self.database,
                self.policies.policies.privacy_budget,
                log=TransparencyLog(self.database, self.signer),
            ),
            book=book,
            consent=RoundConsent.at(
                self.database,
                rules=self.policies.policies.purposes,
                signer=self.signer,
                rule=self.round_consent,
            ),
            beat=lambda: store.beat(lease),
            counted=None if counted is None else counted.plan,
            asked=None if counted is None else set(),
        )
        before = book.all()
        try:
            found = together(
                lambda part: rounds.once(self.config.task, 1, weights, protection.clip_start, part=part),
                most=1 if counted is None else self.config.measure_sessions,
                devices_max=protection.policy.cohort.devices_max,
            )
            charges = of_one_device(book.all(), before)
            measured = self._measured(run_id, found, charges, protection=protection, model=model, counted=counted)
            store.finish(lease, None)
        except (Exception, KeyboardInterrupt) as error:
            with contextlib.suppress(CheckpointConflict):
                store.abort(lease, error.name if isinstance(error, ReticentError) else type(error).__name__)
            raise
        return measured

    # ── results of placements ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _day(self) -> int:
        """The day that is measured: the one that is named, else yesterday."""
        if self.config.measure_day:
            return number_of(dt.date.fromisoformat(self.config.measure_day))
        return int(time.time()) // DAY_S - 1

    def _name(self) -> str:
        """A day is measured under its own name, so that no two processes measure it at once."""
        task = self.config.task
        if task is Task.MEASURE:
            return f"{task.value}-{date_of(self._day).isoformat()}"
        return f"{task.value}-{secrets.token_hex(8)}"

    def _results(self) -> MeasurementService:
        return MeasurementService(
            self.database,
            KnownCatalogues(self.database, KeyRing(self.database, self.signer.public)),
            self.policies.policies.privacy_budget.releases.placement_counts,
            log=TransparencyLog(self.database, self.signer),
        )

    def _stored(self) -> Measured | None:
        held = self._results().stored(self._day) if self.config.task is Task.MEASURE else None
        if held is None:
            return None
        return Measured(held.run_id, Task.MEASURE, held.devices, held.statements, cells=held.cells)

    def _counted(self) -> Counting | None:
        rules = self.policies.policies.privacy_budget.releases.placement_counts
        if self.config.task is not Task.MEASURE or rules is None:
            return None
        keys = KeyRing(self.database, self.signer.public)
        return Counting(*plan_of(self._day, self.database, rules, keys), rules.bounds)

    def _kept(
        self, run_id: str, found: Outcome, counted: Counting, lines: tuple[PrivacyStatement, ...]
    ) -> tuple[Cell, ...]:
        """The cells of a day as they are stored for good, before anybody sees them."""
        cells = read_sum(found.sums[0], counted.plan, counted.bounds, noise_stddev=found.noise_stddevs[0])
        results = self._results()
        results.store(
            StoredDay(
                day=counted.plan.day,
                run_id=run_id,
                devices=found.contributions,
                plan=counted.plan,
                bounds=counted.bounds,
                bids=counted.bids,
                statements=lines,
                cells=cells,
            )
        )
        stored = results.stored(counted.plan.day)
        return cells if stored is None else stored.cells

    def _model(self) -> tuple[ModelSpec, arrays.Arrays]:
        """What is evaluated; for histograms any weights will do, so public ones are sent."""
        if self.config.task is Task.EVALUATE:
            registry = Registry(self.database.sessions, KeyRing(self.database, self.signer.public))
            manifest, weights, _ = registry.verified(self.config.model_version or None)
            return manifest.model, weights
        model = self.config.model(self.spec)
        return model, initial_arrays(model, self.spec)

    def _measured(
        self,
        run_id: str,
        found: Outcome,
        charges: Sequence[Charge],
        *,
        protection: Protection,
        model: ModelSpec,
        counted: Counting | None,
    ) -> Measured:
        task, devices = self.config.task, found.contributions
        lines = Costs(protection.policy, PROTECTED).totals(charges, SCOPE)
        if task is Task.EVALUATE:
            return Measured(run_id, task, devices, lines, figures=evaluated(found, model, protection.bins))
        if counted is not None:
            return Measured(run_id, task, devices, lines, cells=self._kept(run_id, found, counted, lines))
        histograms = read_histogram(found.sums[0], self.spec, devices=devices, noise_stddev=found.noise_stddevs[0])
        return Measured(run_id, task, devices, lines, histograms=histograms)
