"""SGD without clipping and noise: for profiles that protect the whole update afterwards, and for comparison."""

from __future__ import annotations

import torch
from torch import nn

from client.training.datasets import Records, summed_loss
from common.privacy.parameters import LocalSgdParameters, RecordDpParameters


class PlainSgd:
    """The update rule of ``DpSgd`` less its mechanism, on one network.

    Attributes:
        network: the network trained in place.
        noised_steps: always 0.
    """

    noised_steps = 0

    def __init__(self, network: nn.Module, parameters: RecordDpParameters | LocalSgdParameters) -> None:
        self.network = network.train()
        self._optimizer = torch.optim.SGD(network.parameters(), lr=parameters.learning_rate)
        self._expected_batch_size = parameters.expected_batch_size
        self._piece_size = parameters.physical_batch_size

    def step(self, records: Records) -> None:
        """One step: w ← w - lr/EB · Σ gradient of a record."""
        self._optimizer.zero_grad(set_to_none=False)
        for piece, _ in records.pieces(self._piece_size):
            (summed_loss(self.network, piece) / self._expected_batch_size).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
