"""One round of one training, from sampled nodes to a mean update or a noisy sum. Owns invitations and when to charge.

The order is fixed: the charge is durable, on this server's ledger and in the training's own book, before any device is
asked for what it releases; a session that fails keeps its charge, and a retry is another session with another charge.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from flwr.serverapp import Grid

from common.crypto.signing import PublicKey, SigningKey
from common.errors import ReticentError, TooFewSurvivors
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.privacy.distributed import decode_sum
from common.privacy.parameters import UserDpParameters
from common.privacy.updates import Vector
from common.secagg.terms import SessionTerms
from common.taxonomy import Masking, Purpose, Task
from common.wire.measurement import MeasurementPlan
from common.wire.messages import ModelSpec, RoundInvitation
from common.wire.signed import seal_invitation
from policies.budget import PlannedRelease
from server.ledger.service import ServerLedger
from server.rounds.aggregation import Expected, mean_update
from server.rounds.charges import CHARGED, RELEASED, Charge, ChargeBook
from server.rounds.consent import RoundConsent
from server.rounds.plan import Protection, header_of, new_session
from server.rounds.secagg import SecureTally, Session, aggregate
from server.rounds.strategy import Patience, run_round, sample_nodes
from server.rounds.training_config import TrainingConfig

EXPIRES_AFTER_S: Final = 60.0
_DRAW: Final = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one session gave.

    Attributes:
        sums: noisy sum over devices per segment, in its own units; the update's is first.
        noise_stddevs: standard deviation of the noise on each sum; 0 where it is not the server's to know.
        contributions: devices in the sums.
        roster: devices asked.
        refused, declined: counts by closed names.
    """

    sums: tuple[Vector, ...]
    noise_stddevs: tuple[float, ...]
    contributions: int
    roster: int
    nodes: int
    invited: int
    refused: Mapping[str, int] = field(default_factory=dict)
    declined: Mapping[str, int] = field(default_factory=dict)

    @property
    def mean(self) -> Vector:
        """Mean of the first sum over the devices in it."""
        return self.sums[0] / self.contributions


@dataclass(frozen=True, slots=True, kw_only=True)
class Rounds:
    """The rounds of one training.

    Attributes:
        authorities: keys that certify the devices of a secure aggregation.
        policy_digest: of the privacy budget document; devices compare it with their own.
        ledger: the server's, by device.
        book: the training's charged sessions.
        consent: the service's own records, asked when a round starts and before an update is accepted.
        beat: keeps the checkpoint's lease.
        counted: what a measurement counts.
        asked: devices that this measurement has charged so far: none of them is in a second session of it. None for
            what asks the same devices again and again.
    """

    grid: Grid
    run_id: str
    config: TrainingConfig
    model: ModelSpec
    spec: FeatureSpec
    protection: Protection
    policy_digest: str
    signer: SigningKey
    authorities: tuple[PublicKey, ...]
    ledger: ServerLedger
    book: ChargeBook
    consent: RoundConsent
    beat: Callable[[], None]
    counted: MeasurementPlan | None = None
    asked: set[bytes] | None = None

    def train(self, number: int, model: arrays.Arrays, clip: float) -> Outcome:
        """Training round ``number``: the mean update and, where the clip adapts, the count beside it.

        Raises:
            TooFewSurvivors: every attempt had too few contributions.
            SumOutOfRange: a sum that cannot be.
        """
        for attempt in range(self.config.round_attempts):
            try:
                return self.once(Task.TRAIN, number, model, clip)
            except TooFewSurvivors:
                if attempt + 1 == self.config.round_attempts:
                    raise
        raise TooFewSurvivors("no attempt was made")

    def once(self, task: Task, number: int, model: arrays.Arrays, clip: float, *, part: int = 0) -> Outcome:
        """One session of one task.

        Args:
            task: what for.
            number: of the round.
            model: what goes out.
            clip: C of an update.
            part: of a round that takes several sessions; each draws its nodes anew.

        Raises:
            TooFewSurvivors, SumOutOfRange: it failed; its charge stays.
            PolicyError: the policy does not have this task.
            ConsentRefused: a privacy officer has stopped what it is for; what was charged stays charged.
        """
        purposes = _purposes(task)
        self.consent.check(purposes)
        patience = Patience(self.config.round_deadline_s, self.config.node_wait_s, beat=self.beat)
        nodes = sample_nodes(
            self.grid,
            nodes_min=self.config.min_nodes,
            nodes_wanted=self.config.nodes_per_round,
            seed=(self.config.model_seed, number + part),
            patience=patience,
        )
        invitation = self._invitation(task, number, model, clip)
        run = self._secure if self.protection.secure else self._plain
        try:
            found = run(nodes, invitation, model, patience)
            self.consent.check(purposes)  # what was stopped meanwhile is not accepted
        except ReticentError as error:
            self.book.close(invitation.session, error.name)
            raise
        self.book.close(invitation.session, RELEASED, found.contributions)
        return found

    def _invitation(self, task: Task, number: int, model: arrays.Arrays, clip: float) -> RoundInvitation:
        deadline = self.config.round_deadline_s
        return RoundInvitation(
            run_id=self.run_id,
            session=new_session(),
            task=task,
            round_number=number,
            rounds_total=self.config.num_server_rounds,
            deadline_s=deadline,
            expires_at=int(time.time() + deadline + EXPIRES_AFTER_S),
            model=self.model,
            arrays_digest=arrays.digest(model),
            profile=self.protection.profile,
            parameters=self.protection.parameters,
            clipping_norm=clip,
            budget_policy_digest=self.policy_digest,
            measurement=self.counted if task is Task.MEASURE else None,
        )

    # ── without masks: every device adds its own noise ───────────────────────────────────────────────────────────────

    def _plain(
        self, nodes: Sequence[int], invitation: RoundInvitation, model: arrays.Arrays, patience: Patience
    ) -> Outcome:
        planned = self.protection.planned(Task.TRAIN, ())
        self.enter(invitation, planned, charged=0)
        if not self.protection.noiseless:
            self.ledger.charge_unnamed(self.run_id, invitation.session, planned)
        tally = run_round(
            self.grid,
            nodes,
            invitation=seal_invitation(invitation, self.signer),
            model=model,
            expected=Expected(
                run_id=invitation.run_id,
                round_number=invitation.round_number,
                spec_digest=self.spec.digest,
                base_digest=invitation.arrays_digest,
                length=arrays.length(model),
                release=planned[0].use,
                masking=Masking.NONE,
                contributions_max=self.config.contributions_per_node_max,
            ),
            patience=patience,
        )
        if not self.protection.noiseless:
            self.ledger.charge_unnamed(self.run_id, invitation.session, planned, tally.contributions)
        mean = mean_update(tally, self.config.min_contributions)
        return Outcome(
            sums=(mean * tally.contributions,),
            noise_stddevs=(0.0,),
            contributions=tally.contributions,
            roster=tally.contributions,
            nodes=len(tally.nodes),
            invited=len(nodes),
            refused={fault.value: count for fault, count in tally.refused.items()},
            declined=dict(tally.declined),
        )

    # ── secure aggregation ───────────────────────────────────────────────────────────────────────────────────────────

    def _secure(
        self, nodes: Sequence[int], invitation: RoundInvitation, model: arrays.Arrays, patience: Patience
    ) -> Outcome:
        cohort = self.protection.policy.cohort
        segments = self.protection.segments(
            invitation.task, model, self.spec, invitation.clipping_norm, invitation.measurement
        )
        planned = self.protection.planned(invitation.task, segments)
        length, bits = sum(segment.length for segment in segments), self.protection.bits(segments)
        tally = SecureTally()
        session = Session(
            terms=SessionTerms(invitation.session, length, bits, cohort, self.authorities, time.time()),
            invitation=seal_invitation(invitation, self.signer),
            model=model,
            header=header_of(invitation, planned, length=length, bits=bits),
            group=str(invitation.round_number),
            devices_per_node_max=self.config.contributions_per_node_max,
            limit=lambda roster: self.protection.limit(segments, roster),
            draw=lambda offered, wanted: _draw(offered, wanted, (self.config.model_seed, invitation.round_number)),
            refused=lambda identities: self.consent.refused(identities, _purposes(invitation.task)),
            elsewhere=frozenset(self.asked or ()),
        )
        charging = _Charging(self, invitation, planned)
        total = aggregate(self.grid, nodes, session, charging=charging, patience=patience, tally=tally)
        self.ledger.settle(invitation.session, total.identities)
        if tally.survivors < self.config.min_contributions:
            raise TooFewSurvivors(
                f"{tally.survivors} contributions arrived, at least {self.config.min_contributions} are needed"
            )
        sums = decode_sum(total.vector, [(segment.length, segment.parameters) for segment in segments])
        honest = cohort.honest_min(tally.roster)
        return Outcome(
            sums=tuple(sums),
            noise_stddevs=tuple(noise_stddev(s.parameters, tally.survivors, honest) for s in segments),
            contributions=tally.survivors,
            roster=tally.roster,
            nodes=tally.nodes,
            invited=len(nodes),
            refused=dict(tally.refused),
            declined=dict(tally.declined),
        )

    def enter(self, invitation: RoundInvitation, planned: tuple[PlannedRelease, ...], *, charged: int) -> None:
        """Write a charge into the training's own book."""
        self.book.open(
            Charge(
                session=invitation.session,
                task=invitation.task,
                round_number=invitation.round_number,
                releases=planned,
                clipping_norm=invitation.clipping_norm,
                charged=charged,
                survivors=0,
                outcome=CHARGED,
            )
        )


@dataclass(frozen=True, slots=True)
class _Charging:
    """The server's ledger and the training's book, for one session."""

    rounds: Rounds
    invitation: RoundInvitation
    planned: tuple[PlannedRelease, ...]

    def barred(self, identities: Sequence[bytes]) -> Mapping[bytes, str]:
        refusals = self.rounds.ledger.refusals(self.planned, identities)
        return {identity: over.refusal().name for identity, over in refusals.items()}

    def charge(self, identities: Sequence[bytes]) -> Collection[bytes]:
        self.rounds.enter(self.invitation, self.planned, charged=len(identities))
        if self.rounds.asked is not None:
            self.rounds.asked.update(identities)
        return self.rounds.ledger.reserve(self.rounds.run_id, self.invitation.session, self.planned, identities)


def _purposes(task: Task) -> frozenset[Purpose]:
    """What a person must have agreed to for a task."""
    return frozenset({task.purpose})


def noise_stddev(parameters: UserDpParameters, survivors: int, honest_min: int) -> float:
    """Standard deviation of the noise on a sum to which every survivor added its share, in the vector's units.

    Each share is sized so that ``honest_min`` of them reach z·C; more survivors mean more noise than was promised.
    """
    return float(parameters.noise_stddev * np.sqrt(max(survivors, honest_min) / honest_min))


def _draw(offered: list[bytes], wanted: int, seed: tuple[int, int]) -> list[bytes]:
    """That many devices, uniformly without replacement; no privacy is claimed for the draw."""
    chosen = np.random.default_rng((*seed, _DRAW)).choice(len(offered), wanted, replace=False)
    return [offered[i] for i in sorted(chosen)]
