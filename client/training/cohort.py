"""Local training of many devices at once. Owns the steps of a cohort; every device has its own sample, clip and noise.

The update rule is that of ``DpSgd`` (private) or ``PlainSgd`` (not private), device by device; only the arithmetic is
shared. With one step all devices start from the same weights and no copies are made; with more, each has its own.

A device's coins and noise are drawn before the next device's, in the order in which training it alone draws them: the
same seeded source gives the same updates, however the devices are grouped.

Source: Abadi et al., "Deep learning with differential privacy" (CCS 2016), algorithm 1, once per device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from client.training.bounds import clip_bound
from client.training.datasets import Records
from client.training.ghost import add_gradients
from client.training.layout import Copies, Layout
from client.training.packing import IntArray, MemoryPlan, Pack, Sample, Walk
from common.errors import PolicyError, ShapeMismatch
from common.model.arrays import Vector
from common.model.feature_spec import FeatureSpec
from common.privacy.parameters import LocalSgdParameters, RecordDpParameters
from common.privacy.randomness import NoiseSource

# Noise is made in pieces that fit a processor's cache.
NOISE_PIECE = 1 << 15
Samples = Callable[[int], Sample]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What one device learnt.

    Attributes:
        vector: trained minus received weights, float64 ``[d]``. Private unless noised.
        noised_steps: how many of its steps drew noise.
    """

    vector: Vector
    noised_steps: int


class Cohort:
    """Trains the devices of a window together, in bounded memory.

    Attributes:
        plan: what fits.
    """

    def __init__(
        self,
        network: nn.Module,
        parameters: RecordDpParameters | LocalSgdParameters,
        rng: NoiseSource,
        *,
        spec: FeatureSpec,
        views: int,
        private: bool,
        memory_bytes_max: int,
        walks: bool = False,
    ) -> None:
        """Prepare for windows of devices.

        Args:
            network: of a known family, on the device and in the precision to train in; only its form is kept.
            parameters: public constants.
            rng: where noise and coins come from.
            spec: the features.
            views: how many views a record has.
            private: whether each record is clipped and each step noised.
            memory_bytes_max: bound on the working memory of a window.
            walks: a step takes a device's next records in an order of chance rather than a Poisson sample. Not for
                private training: the accountant knows only the latter.

        Raises:
            ShapeMismatch: the network belongs to no family the cohort covers (see ``Layout.of``).
            PolicyError: private training with anything but Poisson samples.
        """
        layout = Layout.of(network)
        if layout is None:
            raise ShapeMismatch("a cohort trains only the families whose gradients it knows in closed form")
        weight = next(network.parameters())
        self._parameters, self._rng = parameters, rng
        self._dp = parameters if private and isinstance(parameters, RecordDpParameters) else None
        self._rate = parameters.sampling_rate if isinstance(parameters, RecordDpParameters) else 1.0
        self._like = weight.detach().new_empty(0)
        self._spare: torch.Tensor | None = None
        self._factor = -parameters.learning_rate / parameters.expected_batch_size
        self._walks = walks and self._rate < 1
        if self._walks and private:
            raise PolicyError("record-level privacy is accounted for Poisson samples only")
        steps = parameters.local_steps
        self.plan = MemoryPlan(
            layout=layout,
            fields=len(spec.categorical),
            views=views,
            item_bytes=weight.element_size(),
            vectors=1 if steps == 1 else 2 + (steps if self._dp else 0),
            coins=steps if self._rate < 1 else 0,
            bytes_max=memory_bytes_max,
        )

    def learn(self, start: Vector, records: Records, counts: Sequence[int]) -> Iterator[Learnt]:
        """Train every device of a window from the same weights.

        Args:
            start: received weights, float64 ``[d]``.
            records: all devices' records behind each other.
            counts: how many each device has.

        Returns:
            One result per device, in the order they came.

        Raises:
            ShapeMismatch: the weights are not one per parameter of the network.

        Privacy:
            With DP: per device, ``local_steps`` uses of the (subsampled) Gaussian mechanism on its records, with noise
            of its own. Without: nothing is protected.
        """
        layout = self.plan.layout
        if start.shape != (layout.length,):
            raise ShapeMismatch(f"expected a vector of {layout.length} weights, got shape {start.shape}")
        shared = Copies.zeros(layout, 1, self._like)
        shared.flat[0] = torch.from_numpy(start).to(self._like.device, self._like.dtype)
        pack = Pack(records, np.asarray(counts, np.int64))
        train = self._many_steps if len(pack) > 1 else self._noised_steps_alone
        delta, noised = (self._one_step if self._parameters.local_steps == 1 else train)(shared, pack)
        rows = delta.flat.cpu().numpy()
        try:
            for rank, count in zip(pack.rank, noised, strict=True):
                yield Learnt(rows[rank].astype(np.float64), int(count))
        finally:
            self._spare = delta.buffer

    def _one_step(self, shared: Copies, pack: Pack) -> tuple[Copies, IntArray]:
        """The only step of each device: no copies of the weights, and the noise goes straight into the result."""
        delta = self._zeros(len(pack))
        samples, noised = self._draw_ahead(pack, delta.flat.unsqueeze(0), steps=1)
        self._descend(delta, shared, samples(0))
        return delta, noised

    def _many_steps(self, shared: Copies, pack: Pack) -> tuple[Copies, IntArray]:
        """Several steps: each device has weights of its own, from the second on."""
        layout, steps = self.plan.layout, self._parameters.local_steps
        weights = self._zeros(len(pack))
        noise = weights.buffer.new_zeros(steps, *weights.buffer.shape) if self._dp else None
        rows = None if noise is None else noise[:, :, layout.pad : layout.pad + layout.length]
        samples, noised = self._draw_ahead(pack, rows, steps=steps)
        for step in range(steps):
            self._descend(weights, weights if step else shared, samples(step))
            if noise is not None:
                weights.buffer.add_(noise[step])
            if not step:
                weights.buffer.add_(shared.buffer)
        weights.buffer.sub_(shared.buffer)
        return weights, noised

    def _noised_steps_alone(self, shared: Copies, pack: Pack) -> tuple[Copies, IntArray]:
        """Several steps of a single device, which needs no noise drawn ahead."""
        parameters = self._dp
        if parameters is None:
            return self._many_steps(shared, pack)
        weights, noised = self._zeros(1), np.zeros(1, np.int64)
        weights.buffer.add_(shared.buffer)
        sample = pack.sample(None)
        for _ in range(parameters.local_steps):
            if self._rate < 1:
                sample = pack.sample(self._rng.bernoulli(self._rate, int(pack.counts[0])))
            self._descend(weights, weights, sample)
            self._add_noise(weights.flat[0], parameters)
            noised += 1
        weights.buffer.sub_(shared.buffer)
        return weights, noised

    def _zeros(self, count: int) -> Copies:
        """Copies of nothing, in the memory of the last window if it is free: new pages cost more than the zeros."""
        spare, self._spare = self._spare, None
        if spare is None or len(spare) < count:
            return Copies.zeros(self.plan.layout, count, self._like)
        return Copies(self.plan.layout, spare[:count].zero_())

    def _descend(self, target: Copies, weights: Copies, sample: Sample) -> None:
        """Add minus the step of every device to ``target``, which may be ``weights`` itself."""
        width = self.plan.width(len(target), self._parameters.physical_batch_size)
        # Weights must not change before the last piece of a step has been read from them.
        apart = target is weights and sample.longest > width
        total = Copies.zeros(self.plan.layout, len(target), self._like) if apart else target
        bound = clip_bound(self._dp.clipping_norm, self._like.dtype) if self._dp else None
        for batch in sample.batches(width):
            here, own = total.first(batch.devices), weights.first(batch.devices)
            add_gradients(here, own, batch, factor=self._factor, clipping_bound=bound)
        if apart:
            target.buffer.add_(total.buffer)

    def _draw_ahead(self, pack: Pack, noise: torch.Tensor | None, *, steps: int) -> tuple[Samples, IntArray]:
        """Draw what decides about records, and add noise to ``[steps, K, d]``: device by device, each step by step.

        Returns:
            What each step takes; and how often each device drew noise, in the order they came.
        """
        noised = np.zeros(len(pack), np.int64)
        if self._dp is None or noise is None:
            return self._samples_alone(pack, steps), noised
        coins = np.empty((steps, len(pack.owner)), np.bool_) if self._rate < 1 else None
        for device, (start, count) in enumerate(zip(pack.starts, pack.counts, strict=True)):
            for step in range(steps):
                if coins is not None:
                    coins[step, start : start + count] = self._rng.bernoulli(self._rate, int(count))
                self._add_noise(noise[step, pack.rank[device]], self._dp)
                noised[device] += 1
        whole = pack.sample(None)
        return (lambda step: whole if coins is None else pack.sample(coins[step])), noised

    def _samples_alone(self, pack: Pack, steps: int) -> Samples:
        """What each step takes where no noise is drawn in between: all coins at once, in the same order."""
        whole, records = pack.sample(None), len(pack.owner)
        if self._rate == 1:
            return lambda _: whole
        if self._walks:
            return Walk(pack, self._rng.uniform(records), self._rate).sample
        drawn = self._rng.bernoulli(self._rate, steps * records)
        starts, counts = pack.starts[pack.owner], pack.counts[pack.owner]
        first = steps * starts + np.arange(records) - starts
        return lambda step: pack.sample(drawn[first + counts * step])

    def _add_noise(self, row: torch.Tensor, parameters: RecordDpParameters) -> None:
        """Add one device's noise of one step to ``[d]``: dense, or the support would show what was touched."""
        scale = self._factor * parameters.noise_stddev
        piece = NOISE_PIECE if row.device.type == "cpu" else 1 << 20
        for start in range(0, row.numel(), piece):
            part = row[start : start + piece]
            part.add_(torch.from_numpy(self._rng.gaussian(part.numel())).to(part), alpha=scale)
