"""Training records as tensors. Owns the two views of a record and its loss; knows no privacy mechanism.

One record is one labelled exposure. Its personal view (everything the device knows) and its contextual view (personal
columns absent) lie side by side on the middle dimension, so the record has one loss, one gradient and one clip: two
separately clipped gradients would double what a record can move.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from common.errors import InvalidLabel, SpecMismatch
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec


@dataclass(frozen=True, slots=True)
class Records:
    """``n`` records in ``V`` views on one torch device.

    Attributes:
        categorical: int64 ``[n, V, F]``.
        numeric: floating ``[n, V, D]``.
        labels: floating ``[n]``.
        view_weights: floating ``[V]``, sum 1.
    """

    categorical: torch.Tensor
    numeric: torch.Tensor
    labels: torch.Tensor
    view_weights: torch.Tensor

    def __len__(self) -> int:
        """Number of records."""
        return int(self.labels.shape[0])

    def select(self, chosen: npt.NDArray[np.bool_]) -> Records:
        """The records a mask ``[n]`` picks."""
        return self.take(np.flatnonzero(chosen))

    def take(self, numbers: npt.NDArray[np.int64]) -> Records:
        """The records of these numbers."""
        rows = torch.from_numpy(numbers).to(self.labels.device)
        return Records(self.categorical[rows], self.numeric[rows], self.labels[rows], self.view_weights)

    def pieces(self, size: int) -> Iterator[tuple[Records, bool]]:
        """Consecutive pieces of at most ``size`` records, and whether it is the last; one empty piece if none."""
        for start in range(0, max(len(self), 1), size):
            rows = slice(start, start + size)
            piece = Records(self.categorical[rows], self.numeric[rows], self.labels[rows], self.view_weights)
            yield piece, start + size >= len(self)


def to_records(
    examples: Examples,
    spec: FeatureSpec,
    *,
    contextual_weight: float,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Records:
    """Lay out checked examples for training.

    Args:
        examples: labelled examples of ``spec``; none at all is fine.
        spec: the specification that says which columns are personal.
        contextual_weight: share w of the loss given to the contextual view; 0 leaves that view out.
        device: where the tensors go.
        dtype: floating type of the network.

    Raises:
        SpecMismatch: the examples were made by another specification.
        InvalidLabel: labels are missing or outside {0, 1}.
        ContractError: arrays are not as the specification declares (see ``Examples.check``).
    """
    check_labelled(examples, spec)
    return lay_out(examples, spec, contextual_weight=contextual_weight, device=device, dtype=dtype)


def lay_out(
    examples: Examples,
    spec: FeatureSpec,
    *,
    contextual_weight: float,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Records:
    """``to_records`` of examples that were checked before; may share their memory, so nobody writes to records."""
    views = [(examples.categorical, examples.numeric)]
    if contextual_weight > 0:
        views.append(spec.contextual(examples.categorical, examples.numeric))
    weights = [1 - contextual_weight, contextual_weight][: len(views)]
    return Records(
        categorical=_side_by_side([ids for ids, _ in views]).to(device),
        numeric=_side_by_side([numbers for _, numbers in views]).to(device, dtype),
        labels=torch.tensor(examples.labels, device=device, dtype=dtype),
        view_weights=torch.tensor(weights, device=device, dtype=dtype),
    )


def _side_by_side(views: list[npt.NDArray[Any]]) -> torch.Tensor:
    """``[n, V, …]``. A single view stays where it is, if torch may have it: it wants no read-only memory."""
    whole = views[0][:, None] if len(views) == 1 else np.stack(views, axis=1)
    return torch.from_numpy(np.require(whole, requirements=["C", "W"]))


def check_labelled(examples: Examples, spec: FeatureSpec) -> None:
    """Raise unless these are labelled examples of ``spec``.

    Raises:
        SpecMismatch, InvalidLabel, ContractError: see ``to_records``.
    """
    if examples.spec_digest != spec.digest:
        raise SpecMismatch("the examples were made by another feature specification than the model's")
    examples.check(spec)
    if len(examples.labels) != len(examples) or not ((examples.labels == 0) | (examples.labels == 1)).all():
        raise InvalidLabel("training needs a label of 0 or 1 for every example")


def summed_loss(network: nn.Module, records: Records) -> torch.Tensor:
    """Sum over records of the weighted cross-entropy of their views: (1-w)·BCE(personal) + w·BCE(contextual)."""
    logits: torch.Tensor = network(records.categorical, records.numeric)
    labels = records.labels.unsqueeze(1).expand_as(logits)
    losses = binary_cross_entropy_with_logits(logits, labels, reduction="none")
    return (losses * records.view_weights).sum()
