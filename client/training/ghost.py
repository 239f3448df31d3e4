"""Clipped sums of many devices' gradients, in closed form. Owns the tensor arithmetic; knows neither noise nor rounds.

No gradient of a single record is ever formed. The gradient of a linear layer is an outer product d·hᵀ, so its squared
norm over the views of a record is the sum over pairs of views of ⟨d, d'⟩⟨h, h'⟩; that of a table is the sum over pairs
of look-ups of the same row of ⟨g, g'⟩, duplicates and other views included. The clipped sum is then one product per
device. One record is all its views: one gradient, one norm, one clip.

Source: Goodfellow, "Efficient per-example gradient computations" (arXiv 1510.01799); Li et al., "Large language models
can be strong differentially private learners" (ICLR 2022), ghost clipping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from client.training.layout import Copies
from client.training.workspace import Workspace

# Cancellation between the two views of a record may hide part of its norm from rounded sums. This many units in the
# last place of what was summed are added, so a computed norm is never below the true one by more than rounding.
NORM_ULPS = 64
# Table rows of up to so many numbers are added column by column.
COLUMNS_MAX = 8
# Opacus adds it to every norm before it divides.
NORM_FLOOR = 1e-6


@dataclass(frozen=True, slots=True)
class Batch:
    """``m`` records of each of ``K`` devices, padded.

    Attributes:
        categorical: int64 ``[K, m, V, F]``.
        numeric: floating ``[K, m, V, D + 1]``, a 1 for the biases behind the numbers; without it if nothing is clipped.
        labels: floating ``[K, m]``.
        present: floating ``[K, m]``: 1 for a record, 0 for padding.
        view_weights: floating ``[V]``.
        whole: whether all is present.
        distinct_fields: no two fields ever hold the same id, so only the same field in two views can.
    """

    categorical: torch.Tensor
    numeric: torch.Tensor
    labels: torch.Tensor
    present: torch.Tensor
    view_weights: torch.Tensor
    whole: bool
    distinct_fields: bool

    @property
    def devices(self) -> int:
        """Number K of devices."""
        return self.labels.shape[0]

    def split(self, count: int) -> list[Batch]:
        """As so many batches of equally many devices."""
        each = count, self.devices // count
        parts = self.categorical, self.numeric, self.labels, self.present
        split = (part.view(*each, *part.shape[1:]).unbind() for part in parts)
        return [
            Batch(ids, numbers, labels, present, self.view_weights, self.whole, self.distinct_fields)
            for ids, numbers, labels, present in zip(*split, strict=True)
        ]

    @property
    def fields(self) -> int:
        """Number F of categorical fields."""
        return self.categorical.shape[-1]


@dataclass(frozen=True, slots=True)
class Signals:
    """What a forward and a backward pass leave: every layer's inputs and the loss's derivatives by its outputs.

    Attributes:
        outward: ``[K, m, V, H + 1]``: last, by the logit; before it the same where a hidden unit is open and 0 where it
            is shut, which times the head's weight is the derivative by the unit's sum. H is 0 in the logistic family.
        inputs: ``[K, m, V, F * dim + D + 1]``, what the hidden layer saw; in the logistic family the numbers.
        rectified: ``[K, m, V, H]``, what the head saw; None in the logistic family.
        looked_up: ``[K, m, V, F, dim]``, by the embeddings; None without any.
    """

    outward: torch.Tensor
    inputs: torch.Tensor
    rectified: torch.Tensor | None = None
    looked_up: torch.Tensor | None = None

    @property
    def output(self) -> torch.Tensor:
        """``[K, m, V]``, by the logit."""
        return self.outward[..., -1]


def add_gradients(
    target: Copies, weights: Copies, batch: Batch, *, factor: float, clipping_bound: float, space: Workspace
) -> None:
    """Add ``factor`` times each device's sum of clipped gradients to its row of ``target``.

    Args:
        target: K rows; may be ``weights`` itself, which is read first and written last.
        weights: K copies, or one that all devices share.
        batch: the records.
        factor: minus the step size, say.
        clipping_bound: L2 bound of one record's gradient.
        space: for what lies in between.
    """
    signals = _signals(weights, batch, space)
    norms = squared_norms(signals, weights, batch).sqrt_()
    scale = (clipping_bound / norms.add_(NORM_FLOOR)).clamp_(max=1.0).mul_(batch.present * factor)
    signals.outward.mul_(scale[..., None, None])
    if signals.looked_up is not None:
        signals.looked_up.mul_(scale[..., None, None, None])
    _add(target, weights, signals, batch, space)


def _signals(weights: Copies, batch: Batch, space: Workspace) -> Signals:
    """Forward and backward to the layers' outputs in one pass over all records."""
    layout, copies = weights.layout, len(weights)
    shape = batch.numeric.shape[:3]
    numeric = batch.numeric.view(copies, -1, layout.numbers + 1)
    logits = _times(numeric[..., :-1], weights.numeric).add_(weights.bias.view(-1, 1, 1))
    if batch.fields:
        cells = (batch.categorical + _own(weights.wide_cell, copies, batch)).view(-1)
        found = weights.cells.index_select(0, cells).view(*logits.shape[:2], -1)
        logits.add_(found.sum(-1, keepdim=True), alpha=layout.scale)
    if not layout.hidden:
        return Signals(_by_logit(logits.view(shape), batch).unsqueeze(-1), batch.numeric)
    inputs = numeric
    if batch.fields:
        rows = (batch.categorical + _own(weights.table_row, copies, batch)).view(-1)
        found = weights.table.index_select(0, rows).view(*logits.shape[:2], -1)
        joined = space.take("inputs", *logits.shape[:2], found.shape[-1] + numeric.shape[-1])
        inputs = torch.cat([found, numeric], -1, out=joined)
    rectified = _hidden_sums(inputs, weights, space.take("hidden sums", *logits.shape[:2], layout.hidden)).relu_()
    logits.add_(_times(rectified, weights.head))
    outward = space.take("outward", *logits.shape[:2], layout.hidden + 1)
    _by_logit(logits.view(shape), batch)
    outward[..., -1:] = logits
    gates = outward[..., :-1]
    torch.ops.aten.threshold_backward.grad_input(logits.expand_as(gates), rectified, 0, grad_input=gates)
    looked_up = None
    if batch.fields:
        embedded = weights.hidden[:, :, : layout.inputs - layout.numbers]
        looked_up = space.take("looked up", *logits.shape[:2], embedded.shape[-1])
        torch.bmm(gates, embedded * weights.head.unsqueeze(-1), out=looked_up)
        looked_up = looked_up.view(*batch.categorical.shape, layout.dim)
    outward, inputs, rectified = (part.view(*shape, part.shape[-1]) for part in (outward, inputs, rectified))
    return Signals(outward, inputs, rectified, looked_up)


def _hidden_sums(inputs: torch.Tensor, weights: Copies, result: torch.Tensor) -> torch.Tensor:
    """``[c, n, H]``; the bias comes with the product where joining it to the weights is cheap: to one copy of them."""
    if len(weights) == 1:
        joined = torch.cat([weights.hidden, weights.hidden_bias.unsqueeze(-1)], -1)
        return torch.bmm(inputs, joined.transpose(1, 2), out=result)
    hidden = weights.hidden.transpose(1, 2)
    return torch.baddbmm(weights.hidden_bias.unsqueeze(1), inputs[..., :-1], hidden, out=result)


def _times(rows: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """``[c, n, 1]``: rows ``[c, n, k]`` times a vector ``[c, k]`` each; many small products are quicker by elements."""
    if len(vectors) == 1:
        return torch.bmm(rows, vectors.unsqueeze(-1))
    return (rows * vectors.unsqueeze(1)).sum(-1, keepdim=True)


def _own(first: Callable[[torch.Tensor], torch.Tensor], copies: int, batch: Batch) -> torch.Tensor:
    """Where a table begins for each device, int64 ``[copies, 1, 1, 1]``."""
    return first(torch.arange(copies, device=batch.labels.device)).view(-1, 1, 1, 1)


def _by_logit(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Derivative of a record's loss by the logits ``[K, m, V]`` of its views; overwrites them."""
    return logits.sigmoid_().sub_(batch.labels.unsqueeze(-1)).mul_(batch.view_weights)


def squared_norms(signals: Signals, weights: Copies, batch: Batch) -> torch.Tensor:
    """Squared L2 norm of every record's gradient over all weights, ``[K, m]``, padding included."""
    total = torch.zeros_like(batch.labels)
    own = torch.zeros_like(batch.labels)
    views = batch.view_weights.shape[0]
    for one in range(views):
        for other in range(one, views):
            term = _inner(signals, weights, batch, (one, other))
            total.add_(term, alpha=1 if one == other else 2)
            if one == other:
                own.add_(term)
    # By Cauchy and Schwarz all that was added up is at most V times the sum over views of their own squared norms.
    margin = NORM_ULPS * torch.finfo(total.dtype).eps * views if views > 1 else 0.0
    return total.clamp_(min=0).add_(own, alpha=margin)


def _inner(signals: Signals, weights: Copies, batch: Batch, views: tuple[int, int]) -> torch.Tensor:
    """Inner product of the gradients of two views of every record, ``[K, m]``."""
    met, lookups = _in_tables(signals, batch, views)
    numbers = _dot(batch.numeric, views)
    layer = numbers + weights.layout.scale**2 * met
    if signals.rectified is not None:
        layer.add_(_dot(signals.rectified, views))
    one, other = views
    inner = layer.mul_(signals.output[:, :, one]).mul_(signals.output[:, :, other])
    if signals.rectified is None:
        return inner
    gates = signals.outward[:, :, one, :-1] * signals.outward[:, :, other, :-1]
    squares = _times(gates.view(len(weights), -1, gates.shape[-1]), weights.head.square())
    if lookups is not None:
        # The inputs are what was looked up, and the numbers.
        numbers.add_(_dot(signals.inputs[..., : -batch.numeric.shape[-1]], views))
        inner.add_(lookups)
    inner.addcmul_(squares.view(inner.shape), numbers)
    return inner


def _in_tables(
    signals: Signals, batch: Batch, views: tuple[int, int]
) -> tuple[torch.Tensor | float, torch.Tensor | None]:
    """Over the pairs of look-ups of one row: how many, ``[K, m]``, and the sum of their gradients' inner products."""
    looked_up = signals.looked_up
    if batch.distinct_fields and views[0] == views[1]:  # each look-up meets itself alone
        return float(batch.fields), None if looked_up is None else _dot(looked_up.flatten(3), views)
    matches = _same(batch, views)
    met = matches.sum((-2, -1))
    if looked_up is None:
        return met, None
    first, second = (looked_up[:, :, view] for view in views)
    if not batch.distinct_fields:
        return met, (first @ second.transpose(-1, -2)).mul_(matches).sum((-2, -1))
    # A product with ones sums each look-up's few numbers much quicker than ``sum`` does.
    fields, dim = looked_up.shape[-2:]
    ones = torch.eye(fields, dtype=looked_up.dtype, device=looked_up.device).repeat_interleave(dim, 0)
    return met, ((first * second).view(-1, fields * dim) @ ones).view_as(matches).mul_(matches).sum((-2, -1))


def _dot(values: torch.Tensor, views: tuple[int, int]) -> torch.Tensor:
    """Inner products over the last dimension of two views of ``[K, m, V, n]``, ``[K, m]``."""
    return (values[:, :, views[0]] * values[:, :, views[1]]).sum(-1)


def _same(batch: Batch, views: tuple[int, int]) -> torch.Tensor:
    """1 where two look-ups are of one row: ``[K, m, F, F]``, or its diagonal ``[K, m, 1, F]`` if the rest is 0."""
    first, second = (batch.categorical[:, :, view] for view in views)
    if batch.distinct_fields:
        return (first == second).unsqueeze(2).to(batch.labels.dtype)
    return (first.unsqueeze(-1) == second.unsqueeze(-2)).to(batch.labels.dtype)


def _add(target: Copies, weights: Copies, signals: Signals, batch: Batch, space: Workspace) -> None:
    """Add every device's sum over records of the gradients that the signals stand for."""
    devices, layout = batch.devices, target.layout
    outward = signals.outward.view(devices, -1, layout.hidden + 1)
    inputs = signals.inputs.view(devices, outward.shape[1], -1)
    # Products go through a contiguous result: only then does one call do all devices.
    products = space.take("products", devices, outward.shape[-1], inputs.shape[-1])
    torch.bmm(outward.transpose(1, 2), inputs, out=products)
    if signals.rectified is not None:
        target.hidden_bias.addcmul_(products[:, :-1, -1], weights.head)
        target.hidden.addcmul_(products[:, :-1, :-1], weights.head.unsqueeze(-1))
        rectified = signals.rectified.view(devices, -1, layout.hidden)
        target.head.add_(torch.bmm(outward[..., -1:].transpose(1, 2), rectified).squeeze(1))
    target.bias.add_(products[:, -1, -1])
    target.numeric.add_(products[:, -1, -1 - layout.numbers : -1])
    if not batch.fields:
        return
    cells = (batch.categorical + _own(target.wide_cell, devices, batch)).view(-1)
    each = (signals.output * layout.scale).unsqueeze(-1).expand(batch.categorical.shape)
    target.cells.scatter_add_(0, cells, each.reshape(-1))
    if signals.looked_up is not None:
        rows = (batch.categorical + _own(target.table_row, devices, batch)).view(-1)
        _add_rows(target.table, rows, signals.looked_up.view(-1, layout.dim))


def _add_rows(table: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    """Add ``values`` ``[n, dim]`` to rows of a table, repeated ones included.

    ``index_add_`` sorts the rows and then waits for one after the other; narrow rows are quicker column by column.
    """
    if table.shape[1] > COLUMNS_MAX or table.device.type != "cpu":
        table.index_add_(0, rows, values)
        return
    for column in range(table.shape[1]):
        table[:, column].scatter_add_(0, rows, values[:, column])
