"""Plain SGD of many devices in place. Owns weights stacked contiguously by layer; clips, noises and decides nothing.

Three products do nearly all of a step, each one call for all devices: ``inputs · jointᵀ``, its transpose for the
gradient, and the head's. What numbers add to the logit directly is one more row of ``joint``, and products are added
where the weights lie, so no gradient is ever stored. Biases are no column of it: a width of 33 is slower than 32.
"""

from __future__ import annotations

from typing import Self

import torch

from client.training.ghost import Batch
from client.training.layout import Layout
from client.training.workspace import Workspace


class Stack:
    """K copies of a network's weights, or of sums to be added to them.

    Attributes:
        layout: what is where in the vectors that come and go.
        joint: ``[K, C, I]``: H rows of hidden weights, and below them those of the numbers that reach the logit
            directly. The columns of embeddings hold 0 there, always. C is ``layout.columns``: what is left holds 0.
        bias: ``[K, C]``, that of the logit behind the hidden ones.
        head: ``[K, C]``; behind the units' comes 1 in weights, always, and 0 in sums.
        transposed, bias_row, head_row, head_column: the same memory as ``[K, I, C]``, ``[K, 1, C]`` and, the head's
            once more, ``[K, C, 1]``.
        table: ``[K * R, dim]``, the embeddings.
        cells: ``[K * R]``, the wide table.
    """

    def __init__(self, layout: Layout, parts: tuple[torch.Tensor, ...], *, unit: float) -> None:
        """Args: the layout, the five tensors, and what is always behind the head: 1 in weights, 0 in sums."""
        self.layout, self._parts, self._unit = layout, parts, unit
        self.joint, self.bias, self.head, self.table, self.cells = parts
        self._embedded = self.joint.shape[2] - layout.numbers
        self.transposed, self.bias_row = self.joint.transpose(1, 2), self.bias.unsqueeze(1)
        self.head_row = self.head.unsqueeze(1)
        self.head_column = self.head_row.mT  # not unsqueeze(2): those strides make the product five times as slow
        self._constant = self.head[:, layout.hidden]

    @classmethod
    def zeros(cls, layout: Layout, count: int, space: Workspace, name: str) -> Self:
        """Sums of nothing, in memory of this name."""
        shapes = (
            (count, layout.columns, max(layout.inputs, layout.numbers)),
            (count, layout.columns),
            (count, layout.columns),
            (count * layout.rows, layout.dim),
            (count * layout.rows,),
        )
        parts = (space.take(f"{name} {place}", *shape).zero_() for place, shape in enumerate(shapes))
        return cls(layout, tuple(parts), unit=0.0)

    @classmethod
    def of(cls, layout: Layout, vector: torch.Tensor) -> Self:
        """One copy of the weights of a vector ``[d]``."""
        stack = cls.zeros(layout, 1, Workspace(vector), "")
        stack.receive(vector)
        return stack

    def __len__(self) -> int:
        """Number K of copies."""
        return self.joint.shape[0]

    def copies(self, count: int, space: Workspace) -> Stack:
        """So many copies of a single one."""
        parts = []
        for place, part in enumerate(self._parts):
            copies = space.take(f"weights {place}", count, *part.shape)
            parts.append(copies.copy_(part).view(count * part.shape[0], *part.shape[1:]))
        return Stack(self.layout, tuple(parts), unit=self._unit)

    def first(self, count: int) -> Stack:
        """Views of the first ``count`` copies; a single shared copy stays as it is."""
        if len(self) in (1, count):
            return self
        parts = (part[: part.shape[0] // len(self) * count] for part in self._parts)
        return Stack(self.layout, tuple(parts), unit=self._unit)

    def add(self, other: Stack) -> None:
        """Add sums."""
        for part, more in zip(self._parts, other._parts, strict=True):
            part.add_(more)

    def receive(self, vector: torch.Tensor) -> None:
        """Become the weights of a vector ``[d]``."""
        for place, part in self.places():
            place.copy_(vector[part].view_as(place))
        self._unit = 1.0
        self._constant.fill_(1)

    def vectors(self, result: torch.Tensor, received: Stack | None = None) -> torch.Tensor:
        """All copies as vectors, written to ``[K, d]``; if given, less the single copy that was received."""
        if received is None:
            for place, part in self.places():
                result[:, part].view(place.shape).copy_(place)
            return result
        for (place, part), (before, _) in zip(self.places(), received.places(), strict=True):
            torch.sub(place, before, out=result[:, part].view(place.shape))
        return result

    def places(self) -> tuple[tuple[torch.Tensor, slice], ...]:
        """Views ``[K, …]`` of all weights, and where each lies in a vector."""
        layout, units, copies = self.layout, self.layout.hidden, len(self)
        hidden = slice(2 * units, layout.table)
        places = (
            (self.head[:, :units], slice(units)),
            (self.bias[:, :units], slice(units, 2 * units)),
            (self.joint[:, :units, : layout.inputs], hidden),
            (self.table.view(copies, layout.rows, layout.dim), slice(layout.table, layout.bias)),
            (self.bias[:, units : units + 1], slice(layout.bias, layout.bias + 1)),
            (self.joint[:, units, self._embedded :], slice(layout.bias + 1, layout.wide)),
            (self.cells.view(copies, layout.rows), slice(layout.wide, layout.length)),
        )
        return tuple((place, part) for place, part in places if part.start != part.stop)

    def descend(self, weights: Stack, batch: Batch, between: Between, *, factor: float) -> None:
        """Add ``factor`` times each device's sum of gradients.

        Args:
            weights: as many copies, or one that all devices share; may be this stack itself, read before it is written.
            batch: the records.
            between: for what lies in between, of the batch's shape.
            factor: minus the step size, say.
        """
        layout, embedded, copies = self.layout, self._embedded, len(weights)
        sums, outward, logits = between.sums, between.outward, between.logits
        inputs = batch.numeric.view(batch.devices, -1, layout.numbers)
        rows = batch.categorical + _first_row(layout, copies, batch) if batch.fields else None
        if rows is not None and embedded:
            found = weights.table.index_select(0, rows.view(-1)).view(*inputs.shape[:2], -1)
            inputs = torch.cat([found, inputs], -1, out=between.inputs)
        torch.baddbmm(weights.bias_row, _split(inputs, copies), weights.transposed, out=_split(sums, copies))
        between.hidden.relu_()
        torch.bmm(_split(sums, copies), weights.head_column, out=_split(logits, copies))
        if rows is not None:
            wide = weights.cells.index_select(0, rows.view(-1)).view(*inputs.shape[:2], -1)
            logits.add_(wide.sum(-1, keepdim=True), alpha=layout.scale)
        between.derive(batch)
        # From here on the last column stands for what reaches the logit directly, whose gate is always open.
        between.direct.fill_(1)
        torch.mul(logits, weights.head_row, out=outward)
        torch.ops.aten.threshold_backward.grad_input(outward, sums, 0, grad_input=outward)
        looked_up = None
        if rows is not None and embedded:
            looked_up = torch.bmm(_split(outward, copies), weights.joint[..., :embedded])
        self.joint.baddbmm_(outward.mT, inputs, alpha=factor)
        if embedded:
            self.joint[:, layout.hidden, :embedded] = 0
        # Summed apart: added one by one to a bias many times as large, their last digits would be lost.
        self.bias_row.add_(torch.bmm(between.ones, outward, out=between.summed), alpha=factor)
        self.head_row.baddbmm_(logits.mT, sums, alpha=factor)
        self._constant.fill_(self._unit)
        if rows is None:
            return
        own = rows if copies == len(self) else batch.categorical + _first_row(layout, len(self), batch)
        each = (logits * (layout.scale * factor)).view(-1, 1).expand(-1, batch.fields)
        self.cells.scatter_add_(0, own.view(-1), each.reshape(-1))
        if looked_up is not None:
            self.table.index_add_(0, own.view(-1), looked_up.view(-1, layout.dim), alpha=factor)


class Between:
    """Memory for what lies between the inputs of a step and its gradients.

    Attributes:
        inputs: ``[K, m * V, I]``, where embeddings and numbers are joined; not used without embeddings.
        sums: ``[K, m * V, C]``: the layers' outputs, behind them the logit's share of the numbers.
        hidden, direct: the former, and the latter.
        outward: ``[K, m * V, C]``, derivatives of the logits by them.
        logits: ``[K, m * V, 1]``, then the derivatives by them.
        ones: ``[K, 1, m * V]``.
        summed: ``[K, 1, C]``, the biases' gradients.
    """

    def __init__(self, layout: Layout, batch: Batch, space: Workspace) -> None:
        """Args: the layout, a batch of the shape wanted, and where the memory comes from."""
        shape, units = batch.numeric.shape[:3], layout.hidden
        devices, size = batch.devices, shape[1] * shape[2]
        self.inputs = space.take("inputs", devices, size, layout.inputs if layout.dim and batch.fields else 0)
        self.sums = space.take("hidden sums", devices, size, layout.columns)
        self.hidden, self.direct = self.sums[..., :units], self.sums[..., units]
        self.outward = space.take("outward", devices, size, layout.columns)
        self.logits = space.take("logits", devices, size, 1)
        self._by_view = self.logits.view(shape)
        self.ones = space.take("ones", devices, 1, size).fill_(1)
        self.summed = space.take("summed", devices, 1, layout.columns)

    def derive(self, batch: Batch) -> None:
        """Turn the logits into the derivatives of the records' losses by them."""
        logits = self._by_view.sigmoid_().sub_(batch.labels.unsqueeze(-1))
        if logits.shape[2] > 1:
            logits.mul_(batch.view_weights)
        if not batch.whole:
            logits.mul_(batch.present.unsqueeze(-1))


def _split(rows: torch.Tensor, copies: int) -> torch.Tensor:
    """``[K, n, …]`` as ``[c, K * n / c, …]``: by the copies of weights they meet."""
    return rows if rows.shape[0] == copies else rows.view(copies, -1, rows.shape[-1])


def _first_row(layout: Layout, copies: int, batch: Batch) -> torch.Tensor:
    """Where the tables of each copy begin, int64 ``[copies, 1, 1, 1]``."""
    return (torch.arange(copies, device=batch.labels.device) * layout.rows).view(-1, 1, 1, 1)
