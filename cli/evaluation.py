"""Measures a model on held-out rows of a simulated population: AUC, log loss, calibration, both views.

Only a simulation can do this, because it owns every device. A deployment sees none of these rows; its evaluation would
be a paid, noisy release of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sklearn.metrics import log_loss, roc_auc_score

from client.device import Node
from client.features.cache import Part, load_examples
from client.settings import Settings
from common.errors import OneClassData
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.network import load_network, probabilities
from common.wire.messages import ModelSpec

Floats = npt.NDArray[np.float64]
Weights = Mapping[str, npt.NDArray[np.float32]]
BINS = 10


@dataclass(frozen=True, slots=True)
class Quality:
    """How good predictions are on ``n`` rows.

    Attributes:
        calibration: mean prediction divided by the rate of positives; 1 is right.
        reliability: (mean prediction, rate of positives, rows) of ten groups of equal size, lowest predictions first.
    """

    n: int
    positives: int
    auc: float
    log_loss: float
    base_log_loss: float
    calibration: float
    reliability: tuple[tuple[float, float, int], ...]


@dataclass(frozen=True, slots=True)
class Holdouts:
    """Held-out rows of a population: later weeks of trained devices, and later weeks of devices never seen."""

    seen: Examples
    unseen: Examples


def gather(directories: Sequence[Path], spec: FeatureSpec, part: Part) -> Examples:
    """All rows of one part over all devices of the given nodes."""
    parts: list[Examples] = []
    for directory in directories:
        with Node.open(directory, Settings(simulation=True), prove=False) as node:
            parts += [load_examples(node, device, part) for device in node.vault.devices()]
    return Examples.concatenate(parts, spec)


def quality(predictions: Floats, labels: npt.NDArray[np.float32]) -> Quality:
    """Measure predictions ``[n]`` against labels ``[n]``.

    Raises:
        OneClassData: all labels are equal, so there is nothing to rank.
    """
    positives = int(labels.sum())
    if positives in (0, len(labels)):
        raise OneClassData(f"all {len(labels)} held-out labels are equal: AUC is not defined; hold out more rows")
    rate = positives / len(labels)
    clipped = np.clip(predictions, 1e-7, 1 - 1e-7)
    order = np.array_split(np.argsort(predictions, kind="stable"), BINS)
    groups = tuple((float(predictions[i].mean()), float(labels[i].mean()), len(i)) for i in order if len(i))
    return Quality(
        n=len(labels),
        positives=positives,
        auc=float(roc_auc_score(labels, predictions)),
        log_loss=float(log_loss(labels, clipped)),
        base_log_loss=float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate))),
        calibration=float(predictions.mean() / rate),
        reliability=groups,
    )


def evaluate(weights: Weights, model: ModelSpec, spec: FeatureSpec, rows: Examples) -> dict[str, Quality]:
    """Quality of the personal and of the contextual view of one model on the same rows."""
    network = load_network(weights, model, spec)
    ids, numbers = spec.contextual(rows.categorical, rows.numeric)
    return {
        "personal": quality(probabilities(network, rows.categorical, rows.numeric), rows.labels),
        "contextual": quality(probabilities(network, ids, numbers), rows.labels),
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half width of the 95 % Student interval over seeds (0 width for a single seed)."""
    from scipy.stats import t

    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, 0.0
    return mean, float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
