"""What one masked round asks of each device. Owns the way from an accepted invitation to segments, charges and header.

Everything follows from the device's own policy document and the signed invitation; the server computes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from common.crypto.signing import PublicKey
from common.measurement.layout import plan_length
from common.model.feature_spec import FeatureSpec
from common.model.sizes import histogram_length, network_length
from common.privacy.distributed import modulus_bits
from common.secagg.terms import SessionTerms
from common.taxonomy import Profile, Purpose, Stage, Task
from common.wire.messages import RoundInvitation
from common.wire.secagg import MaskedMeasurement, MaskedUpdateHeader
from policies.budget import PlannedRelease
from policies.releases import Segment, segments_of
from policies.schema import PrivacyBudgetPolicy

_KINDS: Final = {
    Stage.ADVERTISE: "secagg_advert",
    Stage.SHARE: "secagg_shares",
    Stage.CONFIRM: "secagg_confirmation",
    Stage.REVEAL: "secagg_reveal",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One masked round, as a device's own policy has it.

    Attributes:
        segments: releases inside the vector, in order.
        planned: what each device is charged: the segments, and under LAYERED the record-level noise beside them.
        purpose: of all of them.
        length: coordinates of the vector.
        bits: width of the modulus.
    """

    invitation: RoundInvitation
    policy: PrivacyBudgetPolicy
    segments: tuple[Segment, ...]
    planned: tuple[PlannedRelease, ...]
    purpose: Purpose
    length: int
    bits: int

    @classmethod
    def of(cls, invitation: RoundInvitation, policy: PrivacyBudgetPolicy, spec: FeatureSpec) -> Self:
        """The plan of an accepted invitation.

        Raises:
            PolicyError: the policy has no such release, or no modulus is wide enough for it.
            SpecMismatch: the model was made for another feature specification.
        """
        task = invitation.task
        length = _length(invitation, spec)
        clip = invitation.clipping_norm if task is Task.TRAIN else None
        segments = segments_of(policy, task, length, clipping_norm=clip)
        planned = [PlannedRelease(segment.kind, segment.use) for segment in segments]
        if task is Task.TRAIN and invitation.profile is Profile.LAYERED:
            planned.append(PlannedRelease(segments[0].kind, policy.training.release(Profile.LAYERED)))
        return cls(
            invitation=invitation,
            policy=policy,
            segments=segments,
            planned=tuple(planned),
            purpose=segments[0].kind.purpose,
            length=sum(segment.length for segment in segments),
            bits=modulus_bits([segment.parameters for segment in segments], policy.cohort),
        )

    @property
    def cause(self) -> str:
        """Names the charge: one session is charged once, and never answered twice.

        A day is counted in one session of one device, whoever invites to a second one and under whatever name: the
        charge is named after the day, so that the ledger, on the disk and anchored, remembers it across any crash.
        """
        if self.invitation.measurement is not None:
            return f"measured-day/{self.invitation.measurement.day}"
        return f"{self.invitation.run_id}/{self.invitation.round_number}/{self.invitation.session}"

    @property
    def needs(self) -> Sequence[Purpose]:
        """Every purpose a person must have agreed to for it."""
        return [self.purpose] if self.purpose is Purpose.MEASURE_AGGREGATE else [Purpose.TRAIN_LOCAL, self.purpose]

    def kind(self, stage: Stage) -> str:
        """The kind of message a device answers with at a stage."""
        masked = "masked_measurement" if self.purpose is Purpose.MEASURE_AGGREGATE else "masked_update"
        return _KINDS.get(stage, masked)

    def terms(self, authorities: tuple[PublicKey, ...], now: float) -> SessionTerms:
        """Terms of the session."""
        return SessionTerms(self.invitation.session, self.length, self.bits, self.policy.cohort, authorities, now)

    def header(self, index: int) -> MaskedUpdateHeader | MaskedMeasurement:
        """What stands beside the masked vector of the device with this index."""
        form = MaskedMeasurement if self.purpose is Purpose.MEASURE_AGGREGATE else MaskedUpdateHeader
        invitation = self.invitation
        return form(
            session=invitation.session,
            index=index,
            run_id=invitation.run_id,
            round_number=invitation.round_number,
            task=invitation.task,
            spec_digest=invitation.model.spec_digest,
            base_digest=invitation.arrays_digest,
            length=self.length,
            bits=self.bits,
            releases=tuple(release.use for release in self.planned),
        )


def _length(invitation: RoundInvitation, spec: FeatureSpec) -> int:
    """Cells of what is counted, or weights of the model."""
    if invitation.measurement is not None:
        return plan_length(invitation.measurement)
    return histogram_length(spec) if invitation.task is Task.HISTOGRAM else network_length(invitation.model, spec)
