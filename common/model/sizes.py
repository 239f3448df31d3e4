"""How many numbers a network has, and a released vector. Pure arithmetic: no torch, so it costs a device nothing."""

from __future__ import annotations

from typing import Final

from common.errors import SpecMismatch
from common.model.feature_spec import FeatureSpec
from common.taxonomy import ModelFamily
from common.wire.messages import ModelSpec

CLIP_BIT_LENGTH: Final = 1
CALIBRATION_LENGTH: Final = 4
_EVALUATION_SUMS: Final = 4


def network_length(model: ModelSpec, spec: FeatureSpec) -> int:
    """Number d of weights of ``model`` over the features of ``spec``; equals ``arrays.length(initial_arrays(…))``.

    Raises:
        SpecMismatch: the model was made for another feature specification.
    """
    if model.spec_digest != spec.digest:
        raise SpecMismatch("the model was made for another feature specification")
    rows, fields, numbers = max(spec.table_rows, 1), len(spec.categorical), max(len(spec.numeric), 1)
    wide = rows + numbers + 1
    match model.family:
        case ModelFamily.LOGISTIC:
            return wide
        case ModelFamily.WIDE_DEEP:
            inputs = fields * model.embedding_dim + numbers
            return wide + rows * model.embedding_dim + (inputs + 1) * model.hidden_width + model.hidden_width


def evaluation_length(bins: int) -> int:
    """Four sums, then a histogram of predictions for each of the two outcomes."""
    return _EVALUATION_SUMS + 2 * bins


def histogram_length(spec: FeatureSpec) -> int:
    """One count per row of the shared table."""
    return spec.table_rows
