"""Where each weight of a network lies in a vector. Owns the families a cohort covers, as flat buffers of K copies.

A buffer row is the vector of ``arrays.flatten`` behind a few unused cells, so that the embedding table of every copy
starts at a multiple of its width: tables of all copies are then one table, and looking up a row is one index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import nn

from common.model.network import HashedLogistic, WideDeep


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Offsets into the vector ``[length]`` of one network; ``hidden`` and ``dim`` are 0 in the logistic family.

    Attributes:
        rows: rows R of the tables.
        numbers: inputs D of the numeric layer, at least 1.
        dim: width of the embedding table.
        hidden: hidden units H.
        inputs: inputs I of the hidden layer, the looked-up embeddings first.
        scale: factor on the wide table's output.
    """

    rows: int
    numbers: int
    dim: int
    hidden: int
    inputs: int
    scale: float

    @classmethod
    def of(cls, network: nn.Module) -> Self | None:
        """The layout of exactly the two known families; None for anything else, subclasses included."""
        if type(network) is HashedLogistic:
            rows, numbers = network.table.num_embeddings, network.numeric.in_features
            return cls(rows=rows, numbers=numbers, dim=0, hidden=0, inputs=0, scale=network.scale)
        if type(network) is not WideDeep:
            return None
        return cls(
            rows=network.table.num_embeddings,
            numbers=network.wide.numeric.in_features,
            dim=network.table.embedding_dim,
            hidden=network.hidden.out_features,
            inputs=network.hidden.in_features,
            scale=network.wide.scale,
        )

    @property
    def columns(self) -> int:
        """Hidden units and the logit's share of the numbers; if many, rounded up to what products do best."""
        return self.hidden + 1 if self.hidden < 16 else self.hidden + 1 + -(self.hidden + 1) % 4

    @property
    def table(self) -> int:
        """Offset of the embedding table: behind head, hidden bias and hidden weights."""
        return self.hidden * (2 + self.inputs)

    @property
    def bias(self) -> int:
        """Offset of the output's bias; numeric weights and wide table follow."""
        return self.table + self.rows * self.dim

    @property
    def wide(self) -> int:
        """Offset of the wide table."""
        return self.bias + 1 + self.numbers

    @property
    def length(self) -> int:
        """Number d of weights."""
        return self.wide + self.rows

    @property
    def pad(self) -> int:
        """Unused cells before the vector."""
        return -self.table % max(self.dim, 1)

    @property
    def stride(self) -> int:
        """Cells from one copy to the next."""
        used = self.pad + self.length
        return used + -used % max(self.dim, 1)


class Copies:
    """K copies of a network's weights (or of their gradients) in one buffer, as views by layer.

    Attributes:
        layout: offsets.
        buffer: ``[K, stride]``.
        flat: ``[K, length]``, the vectors.
        head, hidden_bias: ``[K, H]``.
        hidden: ``[K, H, I]``.
        bias: ``[K]``.
        numeric: ``[K, D]``.
        table: ``[K * stride / dim, dim]``; row ``r`` of copy ``k`` lies at ``table_row(k) + r``.
        cells: ``[K * stride]``; wide weight ``r`` of copy ``k`` lies at ``wide_cell(k) + r``.
    """

    def __init__(self, layout: Layout, buffer: torch.Tensor) -> None:
        self.layout, self.buffer = layout, buffer
        count, units = buffer.shape[0], layout.hidden
        self.flat = buffer[:, layout.pad : layout.pad + layout.length]
        self.head = self.flat[:, :units]
        self.hidden_bias = self.flat[:, units : 2 * units]
        self.hidden = self.flat[:, 2 * units : layout.table].view(count, units, layout.inputs)
        self.bias = self.flat[:, layout.bias]
        self.numeric = self.flat[:, layout.bias + 1 : layout.wide]
        self.cells = buffer.view(-1)
        self.table = buffer.view(-1, max(layout.dim, 1))

    @classmethod
    def zeros(cls, layout: Layout, count: int, like: torch.Tensor) -> Self:
        """Copies of nothing, of the dtype and on the device of ``like``."""
        return cls(layout, like.new_zeros(count, layout.stride))

    def __len__(self) -> int:
        """Number K of copies."""
        return self.buffer.shape[0]

    def first(self, count: int) -> Copies:
        """Views of the first ``count`` copies; a single shared copy stays as it is."""
        return self if len(self) in (1, count) else Copies(self.layout, self.buffer[:count])

    def table_row(self, copies: torch.Tensor) -> torch.Tensor:
        """First table row of the given copies."""
        stride, dim = self.layout.stride, max(self.layout.dim, 1)
        return copies * (stride // dim) + (self.layout.pad + self.layout.table) // dim

    def wide_cell(self, copies: torch.Tensor) -> torch.Tensor:
        """First cell of the wide table of the given copies."""
        return copies * self.layout.stride + (self.layout.pad + self.layout.wide)
