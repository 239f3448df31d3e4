"""Scores Y on the device. Owns the way from checked examples to probabilities; decides nothing about placements."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from torch import nn

from common.errors import SpecMismatch
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.network import probabilities


def score(network: nn.Module, examples: Examples, spec: FeatureSpec) -> npt.NDArray[np.float64]:
    """Predicted probability of each example, personal view, float64 ``[n]``. Labels are not read.

    Args:
        network: from ``common.model.network.load_network``: its weights were checked there.
        examples: ``n`` examples of ``spec``.
        spec: the specification the network was built for.

    Raises:
        SpecMismatch: the examples were made by another specification.
        ContractError: the arrays are not as the specification declares (see ``Examples.check``).
    """
    _check(examples, spec)
    return probabilities(network, examples.categorical, examples.numeric)


def score_contextual(network: nn.Module, examples: Examples, spec: FeatureSpec) -> npt.NDArray[np.float64]:
    """The same from the context alone: every personal column is absent, as for people who did not consent."""
    _check(examples, spec)
    return probabilities(network, *spec.contextual(examples.categorical, examples.numeric))


def _check(examples: Examples, spec: FeatureSpec) -> None:
    if examples.spec_digest != spec.digest:
        raise SpecMismatch("the examples were made by another feature specification than the model's")
    examples.check(spec)
