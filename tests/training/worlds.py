"""Small worlds for training tests: specifications, models, parameters and examples from a seed."""

import numpy as np

from common.model import arrays
from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays
from common.privacy.parameters import RecordDpParameters
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.messages import ModelSpec


def make_spec(*, fields: int = 3, buckets: int = 4, numbers: int = 5) -> FeatureSpec:
    """Fields and numbers alternate between personal and contextual."""
    block = (FeatureBlock.PERSONAL, FeatureBlock.CONTEXT)
    return FeatureSpec(
        name="small world",
        version=1,
        categorical=tuple(CategoricalField(name=f"c{i}", block=block[i % 2], buckets=buckets) for i in range(fields)),
        numeric=tuple(NumericField(name=f"x{i}", block=block[i % 2]) for i in range(numbers)),
    )


def make_model(spec: FeatureSpec, family: ModelFamily = ModelFamily.LOGISTIC, **changes: object) -> ModelSpec:
    fields = {"family": family, "spec_digest": spec.digest, "base_rate": 0.1, "hidden_width": 6, "embedding_dim": 3}
    return ModelSpec.model_validate(fields | changes)


def make_parameters(**changes: object) -> RecordDpParameters:
    fields = {
        "clipping_norm": 0.5,
        "noise_multiplier": 2.0,
        "sampling_rate": 1.0,
        "local_steps": 1,
        "expected_batch_size": 40.0,
        "learning_rate": 0.1,
    }
    return RecordDpParameters.model_validate(fields | changes)


def make_examples(spec: FeatureSpec, n: int, seed: int = 0) -> Examples:
    rng = np.random.default_rng(seed)
    ids = np.zeros((n, len(spec.categorical)), np.int64)
    for j, field in enumerate(spec.categorical):
        ids[:, j] = spec.offsets[j] + rng.integers(0, field.buckets, n)
    numbers = rng.normal(size=(n, len(spec.numeric))).clip(-3, 3).astype(np.float32)
    labels = (rng.random(n) < 0.3).astype(np.float32)
    return Examples(ids, numbers, labels, np.arange(n, dtype=np.float64), spec.digest)


def start_vector(model: ModelSpec, spec: FeatureSpec, seed: int | None = None) -> arrays.Vector:
    """The initial weights, or (with a seed) random ones, exactly representable in float32."""
    start = arrays.flatten(initial_arrays(model, spec))
    if seed is not None:
        start = np.random.default_rng(seed).normal(0, 0.5, start.shape)
    return start.astype(np.float32).astype(np.float64)
