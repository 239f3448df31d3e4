"""Rows of the utility bench: every device's examples once per seed, as ``client.population`` would deal them. Cached.

The encrypted stores of a population are left out: they return the same events (tests/population), and five seeds of
them would cost the bench an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.features.extract import examples_from
from client.population.build import unseen_users
from client.population.completejourney import Source
from client.population.description import DataDescription
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec

Array = npt.NDArray[np.generic]
_PARTS = ("train", "later", "unseen")
_ARRAYS = ("categorical", "numeric", "labels", "times")


@dataclass(frozen=True, slots=True)
class Rows:
    """One seed's devices.

    Attributes:
        train: training rows of every device that trains; a device may have none.
        later: rows of the same devices in the held-out weeks.
        unseen: rows of devices never trained on, in the held-out weeks.
    """

    train: tuple[Examples, ...]
    later: Examples
    unseen: Examples


class Households:
    """Deals rows seed by seed; the tables are read once, and only if a seed is not in the cache."""

    def __init__(self, description: DataDescription, cache: Path, *, devices: int | None = None) -> None:
        self._description = description
        self._spec = description.feature_spec()
        self._cache = cache
        self._devices = devices
        self._source: Source | None = None

    def rows(self, seed: int, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Rows:
        """Rows of one seed: its slates, its unseen households."""
        amount = self._devices or "all"
        path = self._cache / f"utility-{self._spec.digest[:12]}-{amount}-{seed}.npz"
        if not path.is_file():
            self._cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, **_packed(self._deal(seed, progress)))  # type: ignore[arg-type]
            temporary.rename(path)
        with np.load(path) as found:
            parts = _unpacked(dict(found), self._spec)
        return Rows(tuple(parts["train"]), *(Examples.concatenate(parts[p], self._spec) for p in _PARTS[1:]))

    def _deal(self, seed: int, progress: Callable[[int, int], None]) -> dict[str, list[Examples]]:
        self._source = self._source or Source(seed=seed)
        source, parts = self._source, {part: list[Examples]() for part in _PARTS}
        source.seed = seed
        users = source.users[: self._devices]
        unseen = unseen_users(users, share=self._description.unseen_share, seed=seed)
        for done, household in enumerate(source.households(users), start=1):
            examples = examples_from(self._spec, household.events)
            later = examples.times >= source.holdout_start
            if household.user in unseen:
                parts["unseen"].append(examples.select(later))
            else:
                parts["later"].append(examples.select(later))
                parts["train"].append(examples.select(~later))
            progress(done, len(users))
        return parts


def _packed(parts: dict[str, list[Examples]]) -> dict[str, Array]:
    packed: dict[str, Array] = {}
    for part, devices in parts.items():
        packed[f"{part}.counts"] = np.array([len(one) for one in devices], np.int64)
        for name in _ARRAYS:
            column = np.concatenate([getattr(one, name) for one in devices])
            packed[f"{part}.{name}"] = column.astype(np.int32) if name == "categorical" else column
    return packed


def _unpacked(found: dict[str, Array], spec: FeatureSpec) -> dict[str, list[Examples]]:
    parts: dict[str, list[Examples]] = {}
    for part in _PARTS:
        ends = np.cumsum(found[f"{part}.counts"])[:-1]
        columns = [np.split(found[f"{part}.{name}"], ends) for name in _ARRAYS]
        parts[part] = [
            Examples(ids.astype(np.int64), numbers, labels, times, spec.digest)
            for ids, numbers, labels, times in zip(*columns, strict=True)
        ]
    return parts
