"""Segments of a round, their lengths and bounds, and the line each release is charged to."""

import pytest

from common.errors import PolicyError
from common.privacy.parameters import UserDpParameters
from common.taxonomy import PrivacyUnit, Profile, ReleaseKind, Task, TrustModel
from policies import loader
from policies.releases import (
    is_declared,
    line_for,
    line_of_unit,
    lines_stated,
    release_of,
    releases_of,
    segments_of,
)
from policies.schema import ClipQuantile, PrivacyBudgetPolicy

SHIPPED = PrivacyBudgetPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "privacy_budget.yaml"))
ADAPTIVE = ClipQuantile(
    clipping_norm=0.5,
    noise_multiplier=30.0,
    releases_max=20,
    target_quantile=0.5,
    learning_rate=0.2,
    clipping_norm_min=0.01,
    clipping_norm_max=10.0,
)
POLICY = SHIPPED.model_copy(update={"releases": SHIPPED.releases.model_copy(update={"clip_quantile": ADAPTIVE})})
BINS = POLICY.releases.evaluation.bins if POLICY.releases.evaluation else 0


def without(kind: ReleaseKind) -> PrivacyBudgetPolicy:
    return POLICY.model_copy(update={"releases": POLICY.releases.model_copy(update={kind.value: None})})


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (Task.TRAIN, [(ReleaseKind.TRAINING_UPDATE, 361), (ReleaseKind.CLIP_QUANTILE, 1)]),
        (Task.CALIBRATE, [(ReleaseKind.CALIBRATION, 4)]),
        (Task.EVALUATE, [(ReleaseKind.EVALUATION, 2 * BINS + 4)]),
        (Task.HISTOGRAM, [(ReleaseKind.FEATURE_HISTOGRAM, 361)]),
    ],
)
def test_segments_in_their_order(task: Task, expected: list[tuple[ReleaseKind, int]]) -> None:
    segments = segments_of(POLICY, task, 361)
    assert [(segment.kind, segment.length) for segment in segments] == expected
    assert [(kind, one) for kind, one, _ in segments] == list(releases_of(POLICY, task, 361))
    for segment in segments:
        declared = release_of(POLICY, segment.kind)
        assert declared is not None
        assert type(segment.parameters) is UserDpParameters
        assert segment.parameters.noise_multiplier == declared.noise_multiplier
        assert (segment.use.dimension, segment.use.levels) == (segment.length, declared.levels)


def test_what_is_not_declared_is_never_released() -> None:
    kinds = [kind for kind, _ in releases_of(without(ReleaseKind.CLIP_QUANTILE), Task.TRAIN, 5)]
    assert kinds == [ReleaseKind.TRAINING_UPDATE]
    assert is_declared(POLICY, Task.CALIBRATE)
    assert not is_declared(without(ReleaseKind.CALIBRATION), Task.CALIBRATE)
    with pytest.raises(PolicyError, match="no release for the task calibrate"):
        segments_of(without(ReleaseKind.CALIBRATION), Task.CALIBRATE, 5)
    with pytest.raises(PolicyError, match="at least one coordinate"):
        segments_of(POLICY, Task.TRAIN, 0)


def test_the_clip_moves_within_its_bounds_only() -> None:
    """A moved clip costs the same: noise follows it."""
    plain, moved = (segments_of(POLICY, Task.TRAIN, 5, clipping_norm=norm) for norm in (None, 2.5))
    assert moved[0].parameters.clipping_norm == 2.5
    assert moved[0].parameters.noise_stddev == 2.5 * plain[0].parameters.noise_multiplier
    assert moved[0].use == plain[0].use
    assert moved[1] == plain[1]
    for norm in (0.001, 1e6):
        with pytest.raises(PolicyError, match="does not allow this clipping norm"):
            segments_of(POLICY, Task.TRAIN, 5, clipping_norm=norm)
    fixed = without(ReleaseKind.CLIP_QUANTILE)
    assert segments_of(fixed, Task.TRAIN, 5, clipping_norm=plain[0].parameters.clipping_norm) == plain[:1]
    with pytest.raises(PolicyError, match="does not allow this clipping norm"):
        segments_of(fixed, Task.TRAIN, 5, clipping_norm=2.5)


def test_every_release_has_its_line() -> None:
    user = segments_of(POLICY, Task.TRAIN, 5)[0].use
    record = POLICY.training.release(Profile.RECORD_LOCAL)
    assert line_for(POLICY, user) is line_of_unit(POLICY, PrivacyUnit.USER)
    assert line_for(POLICY, record) is line_of_unit(POLICY, PrivacyUnit.RECORD)
    with pytest.raises(PolicyError, match="no line for a release"):
        line_for(POLICY, user.model_copy(update={"trust": TrustModel.CENTRAL}))
    alone = POLICY.model_copy(update={"lines": (line_of_unit(POLICY, PrivacyUnit.USER),)})
    with pytest.raises(PolicyError, match="no line for the unit record"):
        lines_stated(alone, Profile.LAYERED)


def test_lines_stated_by_profile() -> None:
    units = {profile: [line.unit for line in lines_stated(POLICY, profile)] for profile in Profile}
    assert units == {
        Profile.RECORD_LOCAL: [PrivacyUnit.RECORD],
        Profile.USER_DISTRIBUTED: [PrivacyUnit.USER],
        Profile.LAYERED: [PrivacyUnit.USER, PrivacyUnit.RECORD],
        Profile.NON_PRIVATE: [],
    }
