"""The exact value of simple placement policies on held-out slates: every candidate's outcome is known there."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cli.training import Trained
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.network import load_network, probabilities

Floats = npt.NDArray[np.float64]


def slate_values(trained: Sequence[Trained], rows: Examples, spec: FeatureSpec) -> dict[str, float]:
    """Share of slates whose first slot is followed by a purchase, by policy.

    A slate is a run of rows of one moment: the candidates that one basket was shown.
    """
    starts = np.flatnonzero(np.diff(rows.times, prepend=np.nan) != 0)
    labels = rows.labels.astype(np.float64)
    sizes = np.diff(np.append(starts, len(rows)))
    values = {"uniform": float((np.add.reduceat(labels, starts) / sizes).mean())}
    ids, numbers = spec.contextual(rows.categorical, rows.numeric)
    for result in trained:
        network = load_network(result.finished.model, result.finished.manifest.model, spec)
        name = result.plan.name
        values[f"contextual, {name}"] = _first(probabilities(network, ids, numbers), labels, starts)
        values[f"personal, {name}"] = _first(probabilities(network, rows.categorical, rows.numeric), labels, starts)
    values["best possible"] = float(np.maximum.reduceat(labels, starts).mean())
    return values


def _first(scores: Floats, labels: Floats, starts: npt.NDArray[np.intp]) -> float:
    """Mean label of each slate's best-scoring row; the first of equals."""
    edges = [*starts.tolist(), len(scores)]
    best = [a + int(np.argmax(scores[a:b])) for a, b in itertools.pairwise(edges)]
    return float(labels[best].mean())
