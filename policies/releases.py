"""What a round releases, and under which line it is charged. Owns the form of every user-level release. Pure.

Device and server both ask here, so that they cannot disagree about segments, lengths or costs.
"""

from __future__ import annotations

from typing import NamedTuple

from common.errors import PolicyError
from common.model.sizes import CALIBRATION_LENGTH, CLIP_BIT_LENGTH, evaluation_length
from common.privacy.parameters import MechanismUse, UserDpParameters
from common.taxonomy import PrivacyUnit, Profile, ReleaseKind, Task
from policies.schema import BudgetLine, EvaluationRelease, PrivacyBudgetPolicy, UserRelease

_TASK_KINDS = {
    Task.TRAIN: (ReleaseKind.TRAINING_UPDATE, ReleaseKind.CLIP_QUANTILE),
    Task.CALIBRATE: (ReleaseKind.CALIBRATION,),
    Task.EVALUATE: (ReleaseKind.EVALUATION,),
    Task.HISTOGRAM: (ReleaseKind.FEATURE_HISTOGRAM,),
    Task.MEASURE: (ReleaseKind.PLACEMENT_COUNTS,),
}
_PROFILE_UNITS = {
    Profile.RECORD_LOCAL: (PrivacyUnit.RECORD,),
    Profile.USER_DISTRIBUTED: (PrivacyUnit.USER,),
    Profile.LAYERED: (PrivacyUnit.USER, PrivacyUnit.RECORD),
    Profile.NON_PRIVATE: (),
}


class Segment(NamedTuple):
    """One release within the vector of a round: ``length`` coordinates under ``parameters``."""

    kind: ReleaseKind
    parameters: UserDpParameters
    length: int

    @property
    def use(self) -> MechanismUse:
        """What it costs each device, in the accountant's words."""
        return self.parameters.release(self.length)


def releases_of(
    policy: PrivacyBudgetPolicy, task: Task, length: int, *, clipping_norm: float | None = None
) -> tuple[tuple[ReleaseKind, UserDpParameters], ...]:
    """Kinds and parameters of a round's segments, in their order in the vector.

    Args:
        policy: the privacy budget document.
        task: what the round is for.
        length: number of model weights (TRAIN) or of cells (HISTOGRAM, MEASURE); other tasks have their own.
        clipping_norm: bound of the training update in this round; the document's own by default. Only a document with
            a ``clip_quantile`` lets it differ, and only within the bounds it names there.

    Raises:
        PolicyError: the document declares no such release, or does not allow this bound.
    """
    return tuple(segment[:2] for segment in segments_of(policy, task, length, clipping_norm=clipping_norm))


def segments_of(
    policy: PrivacyBudgetPolicy, task: Task, length: int, *, clipping_norm: float | None = None
) -> tuple[Segment, ...]:
    """``releases_of`` with the length of each segment; arguments and errors as there."""
    if length < 1:
        raise PolicyError("a release has at least one coordinate")
    if not is_declared(policy, task):
        raise PolicyError(f"the privacy budget declares no release for the task {task.value}")
    segments = []
    for kind in _TASK_KINDS[task]:
        release = release_of(policy, kind)
        if release is not None:
            parameters = _bounded(policy, release, clipping_norm if kind is ReleaseKind.TRAINING_UPDATE else None)
            segments.append(Segment(kind, parameters, length_of(release, kind, length)))
    return tuple(segments)


def release_of(policy: PrivacyBudgetPolicy, kind: ReleaseKind) -> UserRelease | None:
    """What the document declares about one kind of release; None if devices never make it."""
    release: UserRelease | None = getattr(policy.releases, kind.value, None)
    return release


def is_declared(policy: PrivacyBudgetPolicy, task: Task) -> bool:
    """Whether the document lets devices take part in rounds of this task at all."""
    return release_of(policy, _TASK_KINDS[task][0]) is not None


def length_of(release: UserRelease, kind: ReleaseKind, length: int) -> int:
    """Coordinates of one release: of the model or histogram (``length``), or those its kind always has.

    What each coordinate means: ``common.model.evaluation`` and ``common.model.measurement``.
    """
    if isinstance(release, EvaluationRelease):
        return evaluation_length(release.bins)
    fixed = {ReleaseKind.CLIP_QUANTILE: CLIP_BIT_LENGTH, ReleaseKind.CALIBRATION: CALIBRATION_LENGTH}
    return fixed.get(kind, length)


def _bounded(policy: PrivacyBudgetPolicy, release: UserRelease, clipping_norm: float | None) -> UserDpParameters:
    """The release's parameters under this bound, as plain ``UserDpParameters``."""
    parameters = UserDpParameters.model_validate(
        {name: getattr(release, name) for name in UserDpParameters.model_fields}
    )
    if clipping_norm is None or clipping_norm == parameters.clipping_norm:
        return parameters
    adaptive = policy.releases.clip_quantile
    if adaptive is None or not adaptive.clipping_norm_min <= clipping_norm <= adaptive.clipping_norm_max:
        raise PolicyError("the privacy budget does not allow this clipping norm")
    return parameters.model_copy(update={"clipping_norm": clipping_norm})


# ── lines ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def line_for(policy: PrivacyBudgetPolicy, use: MechanismUse) -> BudgetLine:
    """The line that a release is charged to: same unit, neighbouring relation and trust model.

    Raises:
        PolicyError: the document has no such line, so the release must not happen.
    """
    for line in policy.lines:
        if (line.unit, line.relation, line.trust) == (use.unit, use.relation, use.trust):
            return line
    raise PolicyError("the privacy budget has no line for a release of this unit, relation and trust model")


def line_of_unit(policy: PrivacyBudgetPolicy, unit: PrivacyUnit) -> BudgetLine:
    """The line of a privacy unit.

    Raises:
        PolicyError: the document has none.
    """
    for line in policy.lines:
        if line.unit is unit:
            return line
    raise PolicyError(f"the privacy budget has no line for the unit {unit.value}")


def lines_stated(policy: PrivacyBudgetPolicy, profile: Profile) -> tuple[BudgetLine, ...]:
    """The lines that a training under ``profile`` states, its headline first; none for a training without privacy.

    Raises:
        PolicyError: the document lacks one of them.
    """
    return tuple(line_of_unit(policy, unit) for unit in _PROFILE_UNITS[profile])
