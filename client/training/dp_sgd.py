"""DP-SGD on one device. Owns the clipped, noised step; the sole importer of opacus.

Recipe A: per-record gradients by Opacus hooks, Opacus's clipping, and public constants for everything else. Never
``PrivacyEngine.make_private``: its sampling rate, step count and normaliser follow the private number of records and
show in the released update. Noise comes from ``common.privacy.randomness``, never from a torch generator.

Source: Abadi et al., "Deep learning with differential privacy" (CCS 2016), algorithm 1.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from opacus.grad_sample import GradSampleModule
from opacus.optimizers import DPOptimizer
from torch import nn

from client.training.bounds import clip_bound
from client.training.datasets import Records, summed_loss
from common.model.network import sorted_parameters
from common.privacy.parameters import RecordDpParameters
from common.privacy.randomness import NoiseSource


class SourcedNoiseOptimizer(DPOptimizer):  # type: ignore[misc]  # opacus ships no types
    """Opacus's optimiser with its noise replaced: one draw from our source per step, σ = ``noise_stddev``.

    Attributes:
        noised_steps: how many times noise was drawn.
    """

    def __init__(self, weights: list[nn.Parameter], parameters: RecordDpParameters, rng: NoiseSource) -> None:
        super().__init__(
            torch.optim.SGD(weights, lr=parameters.learning_rate),
            noise_multiplier=parameters.noise_multiplier,
            max_grad_norm=clip_bound(parameters.clipping_norm, weights[0].dtype),
            expected_batch_size=parameters.expected_batch_size,
        )
        self.noised_steps = 0
        self._noise_stddev = parameters.noise_stddev
        self._rng = rng

    def add_noise(self) -> None:
        """Put the clipped sum plus fresh noise into ``grad``. Opacus calls it once per step, after the last piece.

        Privacy:
            Noise is dense: weights nobody touched get theirs too, or the support would show what was touched.
        """
        weights = self.params
        sizes = [weight.numel() for weight in weights]
        noise = torch.empty(sum(sizes), dtype=weights[0].dtype)
        self._rng.gaussian_into(noise.numpy(), self._noise_stddev)
        noise = noise.to(weights[0].device)
        for weight, part in zip(weights, torch.split(noise, sizes), strict=True):
            weight.grad = weight.summed_grad.view_as(weight) + part.view_as(weight)
        self.noised_steps += 1


class DpSgd:
    """Takes DP-SGD steps on one network; reusable across devices by resetting the network's weights in place.

    Attributes:
        network: the network trained in place.
    """

    def __init__(self, network: nn.Module, parameters: RecordDpParameters, rng: NoiseSource) -> None:
        """Hook the network; it must hold nothing but Embedding and Linear layers."""
        self.network = network.train()
        self._module = GradSampleModule(network, loss_reduction="sum")
        self._optimizer = SourcedNoiseOptimizer(sorted_parameters(network), parameters, rng)
        self._piece_size = parameters.physical_batch_size

    @property
    def noised_steps(self) -> int:
        """How many times noise was drawn so far."""
        return self._optimizer.noised_steps

    def step(self, records: Records) -> None:
        """One step: w ← w - lr/EB · (Σ clip(gradient of a record, C) + N(0, (zC)²)). No records is fine: pure noise.

        Args:
            records: the Poisson sample, or everything; held in memory ``physical_batch_size`` at a time.

        Privacy:
            One use of the (subsampled) Gaussian mechanism on records, whatever their number and the piece size.
        """
        with warnings.catch_warnings():
            # The first layer's input is ids and numbers, which need no gradient: torch says so at every step.
            warnings.filterwarnings("ignore", "Full backward hook is firing", UserWarning)
            for piece, last in records.pieces(self._piece_size):
                self._optimizer.zero_grad(set_to_none=True)
                summed_loss(self._module, piece).backward()  # type: ignore[no-untyped-call]
                self._optimizer.signal_skip_step(do_skip=not last)
                self._optimizer.step()

    def clipped_sum(self) -> torch.Tensor:
        """The noiseless clipped sum ``[d]`` of the last step, for audits. Private: it must never leave the device."""
        return _flat(weight.summed_grad for weight in self._optimizer.params)

    def close(self) -> None:
        """Take the hooks off the network."""
        self._module.remove_hooks()


def _flat(parts: Iterable[torch.Tensor]) -> torch.Tensor:
    return torch.cat([part.detach().reshape(-1) for part in parts])
