"""How much each family of signals has to do with Y. Owns the split of a score's log-odds into shares that add up.

    log-odds(Y) = base + page + Σ families

``base`` is the network's answer when every column is absent, ``page`` what the context adds to it, and each family of
behaviour has a share of what the personal view adds to that. In a linear network a family's share is the sum of its
weights times its values, whatever else is there (``additive``: exact). In any other network it depends on who is there
already: the share is then the average over all orders in which families can arrive (``shapley``), computed over all
sets of families, so that it is exact too and the shares still add up. There are few families, hence few sets.

**Source:** Shapley 1953, "A Value for n-Person Games"; Lundberg and Lee 2017 for its use on models.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import nn

from client.features.history import FAMILIES
from client.scoring import score
from common.model.examples import Examples
from common.model.feature_spec import PERSONAL_INTERCEPT, FeatureSpec
from common.model.network import HashedLogistic
from common.taxonomy import FeatureBlock

Floats = npt.NDArray[np.float64]
PAGE: Final = "page"
PRESENCE: Final = "presence"
"""The share of having agreed to personal scores at all: a constant, whatever the history."""
OTHER: Final = "other"


class Method(StrEnum):
    """How shares were computed."""

    ADDITIVE = "additive"
    SHAPLEY = "shapley"


@dataclass(frozen=True, slots=True)
class Columns:
    """Some columns of an example: positions of categorical fields and of numbers."""

    categorical: tuple[int, ...] = ()
    numeric: tuple[int, ...] = ()

    def __add__(self, other: Columns) -> Columns:
        """Both together."""
        return Columns(self.categorical + other.categorical, self.numeric + other.numeric)


@dataclass(frozen=True, slots=True)
class Shares:
    """The split of ``n`` scores.

    Attributes:
        base: log-odds when everything is absent, float64 ``[n]``.
        effects: log-odds by family, ``page`` first, float64 ``[n]`` each; with the base they add up to the score's.
        method: how they were computed.
    """

    base: Floats
    effects: Mapping[str, Floats]
    method: Method


def attribute(network: nn.Module, examples: Examples, spec: FeatureSpec) -> Shares:
    """Split the scores of ``n`` examples, personal view.

    Raises:
        SpecMismatch, ContractError: the examples are not of this specification.
    """
    families = families_of(spec)

    def value(present: Sequence[str]) -> Floats:
        absent = sum((columns for name, columns in families.items() if name not in present), Columns())
        return log_odds(score(network, without(examples, absent, spec), spec))

    page = value(())
    base = log_odds(score(network, without(examples, _everything(spec), spec), spec))
    if isinstance(network, HashedLogistic):
        return Shares(base, {PAGE: page - base, **{name: value([name]) - page for name in families}}, Method.ADDITIVE)
    return Shares(base, {PAGE: page - base, **_shapley(list(families), value)}, Method.SHAPLEY)


def families_of(spec: FeatureSpec) -> dict[str, Columns]:
    """The personal columns by family; columns that belong to none are ``other``."""
    found: dict[str, Columns] = {}
    for position, field in enumerate(spec.categorical):
        if field.block is FeatureBlock.PERSONAL:
            family = _family(field.name)
            found[family] = found.get(family, Columns()) + Columns(categorical=(position,))
    for position, number in enumerate(spec.numeric):
        if number.block is FeatureBlock.PERSONAL:
            family = _family(number.name)
            found[family] = found.get(family, Columns()) + Columns(numeric=(position,))
    order = [*FAMILIES, PRESENCE, OTHER]
    return {name: found[name] for name in order if name in found}


def without(examples: Examples, columns: Columns, spec: FeatureSpec) -> Examples:
    """The same examples with some columns absent."""
    ids, numbers = examples.categorical.copy(), examples.numeric.copy()
    for position in columns.categorical:
        ids[:, position] = spec.offsets[position]
    numbers[:, list(columns.numeric)] = 0
    return Examples(
        categorical=ids,
        numeric=numbers,
        labels=examples.labels,
        times=examples.times,
        spec_digest=examples.spec_digest,
    )


def log_odds(probabilities: Floats) -> Floats:
    """Log-odds of probabilities; 0 and 1 are taken as the nearest that have any."""
    inside = np.clip(probabilities, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(inside / (1 - inside)))


def _shapley(names: list[str], value: Callable[[Sequence[str]], Floats]) -> dict[str, Floats]:
    """Σ over sets S without i of |S|! (n - |S| - 1)! / n! · (v(S ∪ i) - v(S))."""
    count = len(names)
    values = {frozenset(some): value(some) for size in range(count + 1) for some in itertools.combinations(names, size)}
    shares = {}
    for name in names:
        share = np.zeros_like(values[frozenset()])
        for some, before in values.items():
            if name not in some:
                weight = math.factorial(len(some)) * math.factorial(count - len(some) - 1) / math.factorial(count)
                share += weight * (values[some | {name}] - before)
        shares[name] = share
    return shares


def _family(name: str) -> str:
    parts = name.split(".")
    if parts[-1] == PERSONAL_INTERCEPT:
        return PRESENCE
    return parts[0] if parts[0] in FAMILIES else OTHER


def _everything(spec: FeatureSpec) -> Columns:
    return Columns(tuple(range(len(spec.categorical))), tuple(range(len(spec.numeric))))
