"""What is done with the paid releases after a training: the output bias is mended, quality is told. Post-processing.

Reading the sums is ``common.model``'s. The names given here go into the signed manifest: all begin with ``paid_``, and
every noisy figure stands with the ends of its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.errors import OneClassData
from common.model import arrays
from common.model.evaluation import Estimate, read_evaluation
from common.model.feature_spec import FeatureSpec
from common.model.measurement import bias_correction
from common.model.network import with_view_shifts
from common.wire.messages import ModelSpec
from server.rounds.release_rounds import Outcome

Figures = dict[str, float]


def calibrated(
    model: arrays.Arrays, spec: ModelSpec, features: FeatureSpec, found: Outcome
) -> tuple[arrays.Arrays, Figures]:
    """The model with its biases moved so that in each view its mean prediction is the rate, and what was found.

    Where the noise hides the predictions themselves, the model stays as it is, and no figure says otherwise.

    Args:
        model: as trained.
        spec: which network.
        features: what it reads; with a personal intercept, each view is moved by its own shift.
        found: the noisy sums of a calibration over devices.

    Raises:
        ContractError: a shift leaves the range of sane weights.

    **Privacy:** post-processing of a release that was paid for.
    """
    figures = {"paid_calibration_devices": float(found.contributions)}
    try:
        correction = bias_correction(found.sums[0], noise_stddev=found.noise_stddevs[0])
    except OneClassData:
        return model, figures
    moved = with_view_shifts(
        model,
        spec.family,
        features,
        personal=correction.shift.value,
        contextual=correction.contextual_shift.value,
    )
    arrays.check(moved, model)
    for name, estimate in (
        ("calibration_shift", correction.shift),
        ("calibration_ratio", correction.ratio),
        ("calibration_contextual_shift", correction.contextual_shift),
        ("calibration_contextual_ratio", correction.contextual_ratio),
    ):
        figures |= _interval(name, estimate)
    return moved, figures


def evaluated(found: Outcome, model: ModelSpec, bins: int) -> Figures:
    """Quality figures with intervals; none where the noise hides that there are examples of both outcomes.

    Args:
        found: the noisy sums of an evaluation over devices.
        model: what was evaluated.
        bins: of either histogram.
    """
    figures = {"paid_evaluation_devices": float(found.contributions)}
    try:
        quality = read_evaluation(
            found.sums[0], bins=bins, base_rate=model.base_rate, noise_stddev=found.noise_stddevs[0]
        )
    except OneClassData:
        return figures
    estimates: Mapping[str, Estimate] = {
        "auc": quality.auc,
        "log_loss": quality.log_loss,
        "prediction_mean": quality.prediction_mean,
        "rate": quality.rate,
        "calibration": quality.calibration,
    }
    for name, estimate in estimates.items():
        figures |= _interval(f"evaluation_{name}", estimate)
    return figures


def _interval(name: str, estimate: Estimate) -> Figures:
    return {
        f"paid_{name}": estimate.value,
        f"paid_{name}_low": estimate.low,
        f"paid_{name}_high": estimate.high,
    }
