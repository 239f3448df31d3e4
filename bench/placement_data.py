"""Whole shelves of held-out baskets: every promoted product of the store and week, featurised as its device would.

A slate of the training log is ten products of a shelf; here a placement policy chooses among all of them (median 92).
The history behind the features is the one the device really has: its purchases and the slates that it was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from client.features.extract import featurise
from client.features.history import History
from client.population.build import unseen_users
from client.population.completejourney import HOLDOUT_WEEK, Basket, Source
from client.population.description import DataDescription
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.situation import Situation

LISTED = 8
"""Public candidates a store-week: the products of its shelf that rank best in the catalogue."""
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shelves:
    """``n`` baskets and all ``N`` products on their shelves.

    Attributes:
        rows: features and labels of every product at the moment of its basket, ``N`` of them.
        starts: first row of each basket, ``[n]``.
        products: id of each row's product, ``[N]``.
        sold: baskets before week 43 that held it, ``[N]``.
        households, stores, weeks: of each basket, ``[n]``.
        listed: rows of the public candidates, best catalogue rank first, ``[n, LISTED]``.
        drawn: features of the public candidates at the household's first basket of that store and week, which is when
            a private pick is drawn; ``n · LISTED`` rows without labels.
        seen: whether the household trained, ``[n]``.
    """

    rows: Examples
    starts: Integers
    products: Integers
    sold: Integers
    households: Integers
    stores: Integers
    weeks: Integers
    listed: Integers
    drawn: Examples
    seen: npt.NDArray[np.bool_]

    @property
    def sizes(self) -> Integers:
        """Products on each shelf."""
        return np.diff(np.append(self.starts, len(self.rows)))


class HeldOutShelves:
    """Deals shelves seed by seed: other slates, other unseen households, other baskets. Cached."""

    def __init__(self, description: DataDescription, cache: Path, *, baskets: int) -> None:
        self._description, self._cache, self._baskets = description, cache, baskets
        self._spec = description.feature_spec()
        self._source: Source | None = None

    def shelves(self, seed: int, progress: Callable[[int, int], None] = lambda _done, _total: None) -> Shelves:
        """``baskets`` of weeks 43-53, drawn by the seed among all households'."""
        path = self._cache / f"shelves-{self._spec.digest[:12]}-{self._baskets}-{seed}.npz"
        if not path.is_file():
            self._cache.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".part.npz")
            np.savez(temporary, **self._dealt(seed, progress))  # type: ignore[arg-type]
            temporary.rename(path)
        with np.load(path) as found:
            return _shelves(dict(found), self._spec)

    def _dealt(self, seed: int, progress: Callable[[int, int], None]) -> dict[str, npt.NDArray[np.generic]]:
        source = self._source = self._source or Source(seed=seed)
        source.seed = seed
        unseen = unseen_users(source.users, share=self._description.unseen_share, seed=seed)
        chosen = self._chosen(source, seed)
        sold, parts = source.sold(), list[dict[str, npt.NDArray[np.generic]]]()
        for done, household in enumerate(source.households(list(chosen)), start=1):
            history = History.of(household.events)
            for basket, first in chosen[household.user]:
                part = self._basket(source, history, basket, first)
                ids = part["products"]
                part["sold"] = np.array([sold.get(int(product), 0) for product in ids], np.int64)
                part["about"] = np.array([[int(household.user), basket.store, basket.week, len(ids)]], np.int64)
                part["seen"] = np.array([household.user not in unseen])
                parts.append(part)
            progress(done, len(chosen))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _chosen(self, source: Source, seed: int) -> dict[str, list[tuple[Basket, float]]]:
        """Baskets by household, each with the moment of the household's first one of that store and week."""
        every = [(user, *found) for user in source.users for found in _held_out(source, user)]
        picked = np.sort(np.random.default_rng([seed, 43]).permutation(len(every))[: self._baskets])
        chosen: dict[str, list[tuple[Basket, float]]] = {}
        for index in picked:
            user, basket, first = every[index]
            chosen.setdefault(user, []).append((basket, first))
        return chosen

    def _basket(
        self, source: Source, history: History, basket: Basket, first: float
    ) -> dict[str, npt.NDArray[np.generic]]:
        rank, products = source.rank, basket.shelf[:, 0].astype(np.int64)
        labels = [int(int(product) in basket.bought) for product in products]
        rows = featurise(self._spec, history, _situations(source, basket, basket.time), labels)
        listed = np.argsort([rank[int(product)] for product in products], kind="stable")[:LISTED]
        then = _situations(source, basket, first)
        drawn = featurise(self._spec, history, [then[i] for i in listed])
        return {
            "categorical": rows.categorical.astype(np.int32),
            "numeric": rows.numeric,
            "labels": rows.labels,
            "times": rows.times,
            "products": products,
            "listed": listed[None].astype(np.int64),
            "drawn.categorical": drawn.categorical.astype(np.int32),
            "drawn.numeric": drawn.numeric,
            "drawn.times": drawn.times,
        }


def _held_out(source: Source, user: str) -> Iterator[tuple[Basket, float]]:
    first: dict[tuple[int, int], float] = {}
    for basket in source.baskets(user):
        if basket.week >= HOLDOUT_WEEK:
            yield basket, first.setdefault((basket.store, basket.week), basket.time)


def _situations(source: Source, basket: Basket, time: float) -> list[Situation]:
    rank = source.rank
    return [
        Situation(
            time,
            str(product),
            source.facts.get(int(product), {}),
            {"display": str(display), "mailer": str(mailer)},
            {"rank": float(rank[int(product)])},
        )
        for product, display, mailer in basket.shelf
    ]


def _shelves(found: dict[str, npt.NDArray[np.generic]], spec: FeatureSpec) -> Shelves:
    households, stores, weeks, sizes = found["about"].T
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)[:-1]])
    drawn = (found["drawn.categorical"].astype(np.int64), found["drawn.numeric"])
    rows = (found["categorical"].astype(np.int64), found["numeric"], found["labels"], found["times"])
    nothing = np.zeros(0, np.float32)
    return Shelves(
        rows=Examples(*rows, spec.digest),  # type: ignore[arg-type]
        starts=starts,
        products=found["products"],  # type: ignore[arg-type]
        sold=found["sold"],  # type: ignore[arg-type]
        households=households,
        stores=stores,
        weeks=weeks,
        listed=found["listed"] + starts[:, None],
        drawn=Examples(*drawn, nothing, found["drawn.times"], spec.digest),  # type: ignore[arg-type]
        seen=found["seen"],  # type: ignore[arg-type]
    )
