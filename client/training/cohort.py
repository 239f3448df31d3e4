"""Local training of many devices at once. Owns the steps of a cohort; every device has its own sample, clip and noise.

The update rule is that of ``DpSgd`` (private) or ``PlainSgd`` (not private), device by device; only the arithmetic is
shared. With one step all devices start from the same weights and no copies are made; with more, each has its own.

A device's coins and noise are drawn before the next device's, in the order in which training it alone draws them: the
same seeded source gives the same updates, however the devices are grouped.

Source: Abadi et al., "Deep learning with differential privacy" (CCS 2016), algorithm 1, once per device.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from client.training.bounds import clip_bound
from client.training.datasets import Records
from client.training.ghost import add_gradients
from client.training.layout import Copies, Layout
from client.training.packing import IntArray, MemoryPlan, Pack, Sample, Walk
from client.training.stacked import Between, Stack
from client.training.workspace import Workspace
from common.errors import PolicyError, ShapeMismatch
from common.model.arrays import Vector
from common.model.feature_spec import FeatureSpec
from common.privacy.gaussians import Floats
from common.privacy.parameters import LocalSgdParameters, RecordDpParameters
from common.privacy.randomness import NoiseSource

# A single device's noise is added in pieces that fit a processor's cache.
NOISE_PIECE = 1 << 15
Samples = Callable[[int], Sample]
Row = Callable[[int], Floats]
# What all devices' memory was lent as, what the device of a rank learnt, and how often each drew noise.
Trained = tuple[torch.Tensor, Row, IntArray]


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
        self._space = Workspace(self._like)
        self._last: tuple[torch.Tensor, Stack] | None = None
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
            vectors=3 if self._dp is None else 1 if steps == 1 else 2 + steps,
            coins=steps if self._rate < 1 else 0,
            step_bytes=0 if self._dp else self._step_bytes(layout, views),
            bytes_max=memory_bytes_max,
        )

    def _step_bytes(self, layout: Layout, views: int) -> int:
        """Inputs, hidden sums and derivatives of the share of a record that a plain step takes."""
        numbers = max(layout.inputs, layout.numbers) + 2 * (layout.hidden + 1)
        return int(views * numbers * self._like.element_size() * self._rate)

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
        pack = Pack(records, np.asarray(counts, np.int64), with_one=self._dp is not None)
        received = torch.from_numpy(start).to(self._like.device, self._like.dtype)
        if self._dp is None:
            learnt = self._plain(received, pack)
            rows = learnt.cpu().numpy()
            yield from self._handed_out("rows", learnt, rows.__getitem__, zip(pack.rank.tolist(), itertools.repeat(0)))
            return
        shared = Copies.zeros(layout, 1, self._like)
        shared.flat[0] = received
        train = self._several_steps if len(pack) > 1 else self._steps_alone
        lent, row, noised = (self._one_step if self._parameters.local_steps == 1 else train)(shared, pack, self._dp)
        yield from self._handed_out("weights", lent, row, zip(pack.rank.tolist(), noised.tolist(), strict=True))

    def _handed_out(
        self, name: str, lent: torch.Tensor, row: Row, ranked: Iterable[tuple[int, int]]
    ) -> Iterator[Learnt]:
        """Copies of the rows of what was learnt, each with its number of noised steps; then the memory is free."""
        try:
            for rank, noised in ranked:
                yield Learnt(row(rank).astype(np.float64), noised)
        finally:
            self._space.give_back(name, lent)

    def _plain(self, received: torch.Tensor, pack: Pack) -> torch.Tensor:
        """What each device learnt without clip and noise, ``[K, d]``, by size."""
        layout, steps, devices, space = self.plan.layout, self._parameters.local_steps, len(pack), self._space
        shared = self._shared_stack(received)
        weights = Stack.zeros(layout, devices, space, "weights") if steps == 1 else shared.copies(devices, space)
        walk = Walk(pack, self._rng.uniform(len(pack.owner)), self._rate) if self._walks else None
        gathered = walk.batches(steps, self._width(devices)) if walk else None
        samples = walk.sample if walk else self._samples(pack, steps)
        between = Between(layout, gathered[0], space) if gathered else None
        for step in range(steps):
            own = weights if step else shared
            if gathered and between:
                weights.descend(own, gathered[step], between, factor=self._factor)
            else:
                self._plain_step(weights, own, samples(step))
        return weights.vectors(space.lend("rows", devices, layout.length), None if steps == 1 else shared)

    def _width(self, devices: int) -> int:
        return self.plan.width(devices, self._parameters.physical_batch_size)

    def _shared_stack(self, received: torch.Tensor) -> Stack:
        """The weights all start from, which are those of the last window as a rule."""
        if self._last is None or not torch.equal(self._last[0], received):
            self._last = received, Stack.of(self.plan.layout, received)
        return self._last[1]

    def _plain_step(self, target: Stack, weights: Stack, sample: Sample) -> None:
        """Add minus the step of every device to ``target``, which may be ``weights`` itself."""
        width = self._width(len(target))
        # Weights must not change before the last piece of a step has been read from them.
        apart = target is weights and sample.longest > width
        total = Stack.zeros(self.plan.layout, len(target), self._space, "sums") if apart else target
        for batch in sample.batches(width):
            here, own = total.first(batch.devices), weights.first(batch.devices)
            here.descend(own, batch, Between(self.plan.layout, batch, self._space), factor=self._factor)
        if apart:
            target.add(total)

    def _one_step(self, shared: Copies, pack: Pack, dp: RecordDpParameters) -> Trained:
        """The only step of each device: no copies of the weights, and the noise is drawn right into the result."""
        delta = self._copies(len(pack))
        samples, noised = self._draw_ahead(pack, [delta.flat], dp)
        self._descend(delta, shared, samples(0), dp)
        return delta.buffer, delta.flat.cpu().numpy().__getitem__, noised

    def _several_steps(self, shared: Copies, pack: Pack, dp: RecordDpParameters) -> Trained:
        """Several steps: each device has weights of its own, from the second on. The last noise meets only the result.

        Every pass over all weights of all devices counts: they fit no processor's second-level cache.
        """
        layout, steps = self.plan.layout, dp.local_steps
        lent = self._space.lend("weights", steps, len(pack), layout.stride)
        weights, *later = (Copies(layout, buffer) for buffer in lent)
        noise = [weights.flat, *(copies.flat for copies in later)]
        samples, noised = self._draw_ahead(pack, noise, dp, onto=shared.flat[0])
        for step in range(steps):
            self._descend(weights, weights if step else shared, samples(step), dp)
            if 0 < step < steps - 1:
                weights.flat.add_(noise[step])
        trained, last, received = (copies.flat.cpu().numpy() for copies in (weights, later[-1], shared))
        return lent, lambda rank: trained[rank] + last[rank] - received[0], noised

    def _steps_alone(self, shared: Copies, pack: Pack, dp: RecordDpParameters) -> Trained:
        """Several steps of a single device, which needs no noise drawn ahead."""
        weights, noised = self._copies(1), np.zeros(1, np.int64)
        weights.flat.copy_(shared.flat)
        sample, piece = pack.sample(None), NOISE_PIECE if weights.flat.device.type == "cpu" else weights.flat.numel()
        noise = self._space.take("noise", min(piece, weights.flat.numel()))
        for _ in range(dp.local_steps):
            if self._rate < 1:
                sample = pack.sample(self._rng.bernoulli(self._rate, int(pack.counts[0])))
            self._descend(weights, weights, sample, dp)
            for part in torch.split(weights.flat[0], piece):
                self._draw_noise(_in_place(noise[: part.numel()]), dp)
                part.add_(noise[: part.numel()])
            noised += 1
        weights.flat.sub_(shared.flat)
        return weights.buffer, weights.flat.cpu().numpy().__getitem__, noised

    def _copies(self, count: int) -> Copies:
        """Copies of whatever is in their memory."""
        return Copies(self.plan.layout, self._space.lend("weights", count, self.plan.layout.stride))

    def _descend(self, target: Copies, weights: Copies, sample: Sample, dp: RecordDpParameters) -> None:
        """Add minus the clipped step of every device to ``target``, which may be ``weights`` itself."""
        width = self._width(len(target))
        apart = target is weights and sample.longest > width  # as in a plain step
        total = Copies.zeros(self.plan.layout, len(target), self._like) if apart else target
        bound = clip_bound(dp.clipping_norm, self._like.dtype)
        for batch in sample.batches(width):
            here, own = total.first(batch.devices), weights.first(batch.devices)
            add_gradients(here, own, batch, factor=self._factor, clipping_bound=bound, space=self._space)
        if apart:
            target.flat.add_(total.flat)

    def _draw_ahead(
        self, pack: Pack, noise: Sequence[torch.Tensor], dp: RecordDpParameters, *, onto: torch.Tensor | None = None
    ) -> tuple[Samples, IntArray]:
        """Draw what decides about records, and the noise of each step, ``[K, d]``: device by device, step by step.

        ``onto`` ``[d]`` is added to the first step's, while that is in the processor's cache.

        Returns:
            What each step takes; and how often each device drew noise, in the order they came.
        """
        noised = np.zeros(len(pack), np.int64)
        coins = np.empty((len(noise), len(pack.owner)), np.bool_) if self._rate < 1 else None
        places, first = [_in_place(rows) for rows in noise], None if onto is None else _in_place(onto)
        devices = zip(pack.rank.tolist(), pack.starts.tolist(), pack.counts.tolist(), strict=True)
        for device, (rank, start, count) in enumerate(devices):
            for step, rows in enumerate(places):
                if coins is not None:
                    coins[step, start : start + count] = self._rng.bernoulli(self._rate, count)
                row = rows[rank]
                self._draw_noise(row, dp)
                if first is not None and step == 0:
                    row += first  # in place, and of one kind: both arrays or both tensors
                noised[device] += 1
        whole = pack.sample(None)
        return (lambda step: whole if coins is None else pack.sample(coins[step])), noised

    def _samples(self, pack: Pack, steps: int) -> Samples:
        """What each step takes where no noise is drawn in between: all coins at once, in the same order."""
        whole, records = pack.sample(None), len(pack.owner)
        if self._rate == 1:
            return lambda _: whole
        drawn = self._rng.bernoulli(self._rate, steps * records)
        starts, counts = pack.starts[pack.owner], pack.counts[pack.owner]
        first = steps * starts + np.arange(records) - starts
        return lambda step: pack.sample(drawn[first + counts * step])

    def _draw_noise(self, row: Floats | torch.Tensor, dp: RecordDpParameters) -> None:
        """Overwrite ``[d]`` with one device's noise of one step: dense, or the support would show what was touched."""
        scale = self._factor * dp.noise_stddev
        if isinstance(row, np.ndarray):
            self._rng.gaussian_into(row, scale)
            return
        drawn = torch.empty(row.shape, dtype=row.dtype)
        self._rng.gaussian_into(drawn.numpy(), scale)
        row.copy_(drawn)


def _in_place(values: torch.Tensor) -> Floats | torch.Tensor:
    """The same memory for numpy, whose calls cost less; on an accelerator the tensor itself."""
    return values.numpy() if values.device.type == "cpu" else values
