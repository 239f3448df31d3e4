"""Many devices' records side by side, and how many fit. Owns windows, samples and padded pieces; knows no mechanism.

Devices of a window lie behind each other, longest first, without padding. A step takes each device's sample in pieces
of so many records; a piece holds only the devices that still have some, so padding stays below one piece per device
whatever the sizes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from client.training.datasets import Records, check_labelled
from client.training.ghost import Batch
from client.training.layout import Layout
from common.errors import ReticentError
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec

IntArray = npt.NDArray[np.int64]
Load = Examples | Exception
DEVICES_MIN, DEVICES_MAX = 64, 192
_INTEGER, _FLOAT = np.dtype(np.int64), np.dtype(np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """What fits into a number of bytes, from public constants and the sizes of the devices.

    Attributes:
        bytes_max: bound on the tensors of one window, its results included. A single device's own records and
            weights are taken whatever their size.
        vectors: vectors of ``layout.stride`` a device needs besides its result: weights, gradient, noise of all steps.
        coins: how many coins decide about each record.
        step_bytes: what a step goes through again and again per record of a device; 0 if that counts for little.
    """

    layout: Layout
    fields: int
    views: int
    item_bytes: int
    vectors: int
    coins: int
    step_bytes: int
    bytes_max: int

    @property
    def record_bytes(self) -> int:
        """One record at rest: ids, numbers, label, coins, and the arrays they were joined from."""
        columns = self.fields * 8 + self.layout.numbers * (self.item_bytes + 4)
        return 3 * self.views * columns + 64 + 32 * self.coins

    @property
    def device_bytes(self) -> int:
        """One device without records; its result is float64."""
        layout = self.layout
        # A stack has rows of weights beyond those of the units.
        beside = (layout.columns - layout.hidden) * max(layout.inputs, layout.numbers)
        return layout.stride * 16 + (layout.stride + beside) * self.vectors * self.item_bytes

    @property
    def weights_bytes(self) -> int:
        """One copy of the weights."""
        return self.layout.stride * self.item_bytes

    @property
    def working_bytes(self) -> int:
        """One record while its gradient is computed."""
        layout, fields = self.layout, self.fields
        floats = 3 * layout.numbers + 3 * layout.inputs + 5 * layout.hidden + 3 * fields * (layout.dim + 2) + 8
        pairs = fields * fields * (2 * self.item_bytes + 1)
        return self.views * (floats * self.item_bytes + 4 * fields * 8) + pairs

    def width(self, devices: int, physical_batch_size: int) -> int:
        """Records of each device in one piece: a quarter of the memory is for pieces."""
        fitting = self.bytes_max // 4 // (self.working_bytes * max(devices, 1))
        return max(1, min(fitting, physical_batch_size))

    def windows(self, loads: Iterable[Load], cache_bytes: int | None) -> Iterator[list[Load]]:
        """Consecutive loads that fit together, at least one each; nothing is read further ahead than one load.

        Args:
            loads: one per device.
            cache_bytes: a window closes when so much is in use at a time, within reason: few devices share their
                overhead badly, many gain no more by it. None: whatever fits into memory.
        """
        room = self.bytes_max - self.bytes_max // 4
        device_bytes, record_bytes, weights_bytes = self.device_bytes, self.record_bytes, self.weights_bytes
        window: list[Load] = []
        taken = used = 0
        for load in loads:
            records = len(load) if isinstance(load, Examples) else -1
            size = device_bytes + record_bytes * records if records >= 0 else 0
            full = cache_bytes is not None and len(window) >= DEVICES_MIN and used >= cache_bytes
            if window and (taken + size > room or full or (cache_bytes and len(window) == DEVICES_MAX)):
                yield window
                window, taken, used = [], 0, 0
            window.append(load)
            taken += size
            used += weights_bytes + self.step_bytes * max(records, 0)
        if window:
            yield window


def joined(window: Sequence[Load], spec: FeatureSpec) -> tuple[Examples, list[int | Exception]]:
    """The examples of a window behind each other, checked, and how many each load has or what is wrong with it.

    Values are checked once for all devices; only if something is wrong is each looked at by itself.
    """
    found: list[int | Exception] = [load if isinstance(load, Exception) else len(load) for load in window]
    parts = [load for load in window if isinstance(load, Examples)]
    if _have_the_form_of(spec, parts):
        whole = _behind_each_other(parts, spec)
        with contextlib.suppress(ReticentError):
            check_labelled(whole, spec)
            return whole, found
    for place, load in enumerate(window):
        if isinstance(load, Examples):
            try:
                check_labelled(load, spec)
            except ReticentError as error:
                found[place] = error
    sound = [load for load, is_it in zip(window, found, strict=True) if isinstance(is_it, int)]
    return _behind_each_other([part for part in sound if isinstance(part, Examples)], spec), found


def _have_the_form_of(spec: FeatureSpec, parts: Sequence[Examples]) -> bool:
    """Shapes and types are such that joining hides nothing wrong with one part."""
    digest, fields, numbers = spec.digest, len(spec.categorical), len(spec.numeric)
    for part in parts:
        n = part.categorical.shape[0]
        shapes = part.categorical.shape, part.numeric.shape, part.labels.shape
        right = (n, fields), (n, numbers), (n,)
        typed = part.categorical.dtype == _INTEGER and part.numeric.dtype == _FLOAT
        if part.spec_digest != digest or shapes != right or not typed:
            return False
    return True


def _behind_each_other(parts: Sequence[Examples], spec: FeatureSpec) -> Examples:
    parts = [Examples.empty(spec), *parts]
    return Examples(
        np.concatenate([part.categorical for part in parts]),
        np.concatenate([part.numeric for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.zeros(0),
        spec.digest,
    )


class Pack:
    """The records of the devices of one window.

    Attributes:
        records: those of all devices behind each other, in the order the devices came.
        counts, starts: how many records each device has, and where they begin, int64 ``[K]``.
        owner: whose each record is, int64 ``[n]``.
        order: devices by decreasing size, int64 ``[K]``; every ``Batch`` and every row of weights is in this order.
        rank: the place of each device in ``order``.
    """

    def __init__(self, records: Records, counts: IntArray, *, with_one: bool) -> None:
        """Args: all devices' records behind each other, how many each has, and whether numbers get a 1 behind them."""
        self.records = _laid_out(records, with_one=with_one)
        self.counts = counts
        self.starts = np.cumsum(counts) - counts
        self.order = np.argsort(-counts, kind="stable")
        self.rank = np.argsort(self.order, kind="stable")
        self.owner = np.repeat(np.arange(len(counts)), counts)
        self._distinct_fields = distinct_fields(records.categorical)

    def __len__(self) -> int:
        """Number K of devices."""
        return len(self.counts)

    def sample(self, coins: npt.NDArray[np.bool_] | None) -> Sample:
        """The records whose coin, bool ``[n]`` over the records in the order they came, fell so; None takes all."""
        rows = np.arange(len(self.owner)) if coins is None else np.flatnonzero(coins)
        sizes = np.bincount(self.owner[rows], minlength=len(self))
        return Sample(self, rows, sizes, whole=coins is None)

    def gather(self, padded: IntArray) -> Batch:
        """Records by number, ``[k, m]`` of the first k devices in ``order``; -1 is padding."""
        records = self.records
        numbers = torch.from_numpy(padded).to(records.labels.device)
        some_absent = bool((padded < 0).any())
        rows = (numbers.clamp(min=0) if some_absent else numbers).reshape(-1)
        labels = records.labels.index_select(0, rows).view(padded.shape)
        return Batch(
            records.categorical.index_select(0, rows).view(*padded.shape, *records.categorical.shape[1:]),
            records.numeric.index_select(0, rows).view(*padded.shape, *records.numeric.shape[1:]),
            labels,
            (numbers >= 0).to(labels.dtype) if some_absent else torch.ones_like(labels),
            records.view_weights,
            not some_absent,
            self._distinct_fields,
        )

    def equal(self, size: int) -> Batch:
        """Everything of devices that have ``size`` records each: no padding, and nothing to gather."""
        records, devices = self.records, len(self)
        return Batch(
            records.categorical.view(devices, size, *records.categorical.shape[1:]),
            records.numeric.view(devices, size, *records.numeric.shape[1:]),
            records.labels.view(devices, size),
            records.labels.new_ones(devices, size),
            records.view_weights,
            True,  # noqa: FBT003
            self._distinct_fields,
        )


def shuffled(uniforms: npt.NDArray[np.float64], owner: IntArray | int = 0) -> IntArray:
    """Numbers of the records in an order of chance: device by device, each device's by its uniforms ``[n]``."""
    keys: IntArray = np.asarray(owner, np.int64) * 2**32 + (uniforms * 2.0**32).astype(np.int64)
    return keys.argsort()


def stride_of(counts: IntArray, rate: float) -> IntArray:
    """How many of its records a device takes at a time: its share, rounded up."""
    return np.asarray(np.ceil(counts * rate - 1e-9), np.int64)


class Walk:
    """Every device goes through its records in an order of chance, so many at a time, and round again."""

    def __init__(self, pack: Pack, uniforms: npt.NDArray[np.float64], rate: float) -> None:
        """Args: a uniform for every record of the pack, and the share of its records a device takes in a step."""
        self._pack = pack
        self._order = shuffled(uniforms, pack.owner)
        self._sizes = stride_of(pack.counts, rate)

    def sample(self, step: int) -> Sample:
        """What each device takes in a step."""
        pack, sizes = self._pack, self._sizes
        device = np.repeat(np.arange(len(pack)), sizes)
        place = np.arange(len(device)) - (np.cumsum(sizes) - sizes)[device]
        place = (step * sizes[device] + place) % pack.counts[device]
        return Sample(pack, self._order[pack.starts[device] + place], sizes, whole=False)

    def batches(self, steps: int, width: int) -> list[Batch] | None:
        """What all take in each step, gathered at once; None if they have unequally many, or take some twice."""
        pack, devices, size = self._pack, len(self._pack), int(self._sizes.max(initial=0))
        count = int(pack.counts.max(initial=0))
        if not 0 < size <= width or pack.counts.min() != count or steps * size > count:
            return None
        walks = self._order.reshape(devices, count)[:, : steps * size]  # in the pack's order, since all are equal
        padded = walks.reshape(devices, steps, size).swapaxes(0, 1)
        return pack.gather(padded.reshape(steps * devices, size)).split(steps)


class Sample:
    """Some records of every device of a pack.

    Attributes:
        longest: most records of one device in it.
    """

    def __init__(self, pack: Pack, rows: IntArray, sizes: IntArray, *, whole: bool) -> None:
        """Args: record numbers, device by device; how many of each, in the order they came; whether it is all."""
        self._pack, self._rows, self._sizes, self._whole = pack, rows, sizes, whole
        self.longest = int(sizes.max(initial=0))
        self._equal = bool((sizes == self.longest).all())

    def batches(self, width: int) -> Iterator[Batch]:
        """Pieces of at most ``width`` records per device; each is of a prefix of the devices in ``pack.order``."""
        if self._equal and 0 < self.longest <= width:
            padded = self._rows.reshape(len(self._pack), -1)[self._pack.order]
            yield self._pack.equal(self.longest) if self._whole else self._pack.gather(padded)
            return
        owner, sizes = self._pack.owner[self._rows], self._sizes
        column = np.arange(len(self._rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        ranked = sizes[self._pack.order]
        for start in range(0, self.longest, width):
            here = (column >= start) & (column < start + width)
            padded = np.full((np.flatnonzero(ranked > start)[-1] + 1, min(width, self.longest - start)), -1)
            padded[self._pack.rank[owner[here]], column[here] - start] = self._rows[here]
            yield self._pack.gather(padded)


def distinct_fields(categorical: torch.Tensor) -> bool:
    """Whether no two fields of ids ``[n, V, F]`` meet anywhere: their ranges do not overlap."""
    if not categorical.shape[0] or categorical.shape[-1] < 2:
        return True
    low, high = torch.aminmax(categorical.view(-1, categorical.shape[-1]), dim=0)
    low, by_low = low.sort()
    return bool((high[by_low][:-1] < low[1:]).all())


def _laid_out(records: Records, *, with_one: bool) -> Records:
    """A 1 behind the numbers, for the biases, if wanted; a network without numbers has one that is always 0."""
    given = records.numeric
    if given.shape[-1] and not with_one:
        return records
    numbers = given.new_zeros((*given.shape[:-1], max(given.shape[-1], 1) + with_one))
    numbers[..., : given.shape[-1]] = given
    numbers[..., max(given.shape[-1], 1) :] = 1
    return Records(records.categorical, numbers, records.labels, records.view_weights)
