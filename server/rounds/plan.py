"""What one round asks of devices. Owns the way from profile and policy to planned releases, modulus and header.

Devices are charged for exactly what is planned here; both sides compute it from the same policy document
(``policies.releases``).
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from common.measurement.layout import plan_length
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.model.sizes import histogram_length
from common.privacy.distributed import modulus_bits, sum_limit
from common.privacy.parameters import RecordDpParameters
from common.taxonomy import Mechanism, Profile, Purpose, ReleaseKind, Task
from common.wire.measurement import MeasurementPlan
from common.wire.messages import RoundInvitation
from common.wire.secagg import MaskedMeasurement, MaskedUpdateHeader
from policies.budget import PlannedRelease
from policies.releases import Segment, segments_of
from policies.schema import PrivacyBudgetPolicy

SECURE = frozenset({Profile.USER_DISTRIBUTED, Profile.LAYERED})
Segments = tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Protection:
    """How the devices of one training are protected.

    Attributes:
        parameters: of DP-SGD on the device (record_local, layered), or of plain training (non_private).
    """

    policy: PrivacyBudgetPolicy
    profile: Profile
    parameters: RecordDpParameters

    @property
    def secure(self) -> bool:
        """True if rounds go through secure aggregation."""
        return self.profile in SECURE

    @property
    def noiseless(self) -> bool:
        """True for the non-private profile of simulations."""
        return self.parameters.release(self.profile).mechanism is Mechanism.NONE

    @property
    def clip_start(self) -> float:
        """C of the first round: of the whole update where that is clipped, else of one record's gradient."""
        return self.policy.releases.training_update.clipping_norm if self.secure else self.parameters.clipping_norm

    @property
    def bins(self) -> int:
        """Of an evaluation's histograms; 0 where there is none."""
        return self.policy.releases.evaluation.bins if self.policy.releases.evaluation else 0

    def allows(self, task: Task) -> bool:
        """Whether devices make the releases of this task at all."""
        kinds = {
            Task.CALIBRATE: ReleaseKind.CALIBRATION,
            Task.EVALUATE: ReleaseKind.EVALUATION,
            Task.HISTOGRAM: ReleaseKind.FEATURE_HISTOGRAM,
            Task.MEASURE: ReleaseKind.PLACEMENT_COUNTS,
        }
        return task is Task.TRAIN or (self.secure and getattr(self.policy.releases, kinds[task].value) is not None)

    def releases_max(self, task: Task) -> int:
        """How many sessions of this task the policy has one device be part of."""
        releases = self.policy.releases
        limits = {
            Task.TRAIN: self.policy.rounds_max,
            Task.CALIBRATE: releases.calibration.releases_max if releases.calibration else 0,
            Task.EVALUATE: releases.evaluation.releases_max if releases.evaluation else 0,
            Task.HISTOGRAM: releases.feature_histogram.releases_max if releases.feature_histogram else 0,
            Task.MEASURE: releases.placement_counts.releases_max if releases.placement_counts else 0,
        }
        return limits[task]

    def segments(
        self,
        task: Task,
        model: arrays.Arrays,
        spec: FeatureSpec,
        clip: float,
        counted: MeasurementPlan | None = None,
    ) -> Segments:
        """The releases of one secure aggregation, in the order of its vector.

        Raises:
            PolicyError: the policy document does not allow this task or this clip.
        """
        if counted is not None:
            length = plan_length(counted)
        else:
            length = histogram_length(spec) if task is Task.HISTOGRAM else arrays.length(model)
        return segments_of(self.policy, task, length, clipping_norm=clip)

    def planned(self, task: Task, segments: Segments) -> tuple[PlannedRelease, ...]:
        """What a device that takes part is charged, user level first."""
        planned = [PlannedRelease(segment.kind, segment.use) for segment in segments]
        if task is Task.TRAIN and self.profile is not Profile.USER_DISTRIBUTED:
            planned.append(PlannedRelease(ReleaseKind.TRAINING_UPDATE, self.parameters.release(self.profile)))
        return tuple(planned)

    def bits(self, segments: Segments) -> int:
        """Width of the modulus.

        Raises:
            PolicyError: no modulus in use is wide enough.
        """
        return modulus_bits([segment.parameters for segment in segments], self.policy.cohort)

    def limit(self, segments: Segments, roster: int) -> int:
        """Bound on every coordinate of an honest sum, noise included."""
        return sum_limit([segment.parameters for segment in segments], self.policy.cohort, roster)


def header_of(
    invitation: RoundInvitation, planned: Sequence[PlannedRelease], *, length: int, bits: int
) -> MaskedUpdateHeader | MaskedMeasurement:
    """What every masked vector of a round must declare; the index is each device's own."""
    counts = invitation.task.purpose is Purpose.MEASURE_AGGREGATE
    kind = MaskedMeasurement if counts else MaskedUpdateHeader
    return kind(
        session=invitation.session,
        index=0,
        run_id=invitation.run_id,
        round_number=invitation.round_number,
        task=invitation.task,
        spec_digest=invitation.model.spec_digest,
        base_digest=invitation.arrays_digest,
        length=length,
        bits=bits,
        releases=tuple(release.use for release in planned),
    )


def new_session() -> str:
    """A fresh session id: 32 random bytes in hex."""
    return secrets.token_hex(32)
