"""A device's own history, and the personal columns it gives a situation. Raw behaviour in, numbers out, on the device.

Personal columns are named ``family.attribute.signal``: how often, how recently and what share of the time this person
met the candidate's value of ``attribute`` (item, category, brand …) in one family of behaviour, and (``yield``) how
often they did for every time it was shown to them. ``one`` is 1 wherever history may be read: the personal view's own
intercept. All signals are fixed public formulas: nothing is fitted. "Before" is strict: events at the situation's own
moment do not count, so a label never leaks into its own features.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from client.behavior.events import (
    BehaviourEvent,
    Cart,
    Click,
    Comment,
    Favourite,
    Impression,
    Purchase,
    Search,
    View,
)
from common.errors import SpecMismatch
from common.model.feature_spec import PERSONAL_INTERCEPT, FeatureSpec, NumericField
from common.model.situation import ITEM, Situation
from common.taxonomy import FeatureBlock

Floats = npt.NDArray[np.float64]
DAY = 86_400.0
ACTIVITY = "activity"
_WORD = re.compile(r"\w+", re.UNICODE)


@dataclass(slots=True)
class Met:
    """When one family of behaviour happened, and with which values.

    Attributes:
        moments: distinct times, seconds, in order.
        values: attribute -> value -> distinct times in order.
    """

    moments: list[float] = field(default_factory=list)
    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def add(self, time: float, values: Iterable[tuple[str, str]]) -> None:
        """Note one event. Events come in time order."""
        _append(self.moments, time)
        for attribute, value in values:
            _append(self.values.setdefault(attribute, {}).setdefault(value, []), time)


def _append(times: list[float], time: float) -> None:
    if not times or times[-1] != time:
        times.append(time)


def _facts(item: str, attributes: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    yield ITEM, item
    yield from attributes.items()


def _words(text: str) -> Iterable[tuple[str, str]]:
    return (("word", word) for word in set(_WORD.findall(text.lower())))


@dataclass(frozen=True, slots=True)
class History:
    """All families of one device's behaviour: ``bought``, ``engaged``, ``viewed``, ``shown``, ``said``."""

    families: Mapping[str, Met]

    @staticmethod
    def of(events: Iterable[BehaviourEvent]) -> History:
        """Build the history of events that come in time order."""
        met = {name: Met() for name in FAMILIES}
        for event in events:
            match event:
                case Purchase():
                    met["bought"].add(event.time, _facts(event.item, event.attributes))
                case Click() | Favourite() | Cart():
                    met["engaged"].add(event.time, _facts(event.item, event.attributes))
                case View():
                    met["viewed"].add(event.time, _facts(event.item, event.attributes))
                case Impression():
                    met["shown"].add(event.time, _facts(event.item, event.attributes))
                    if event.outcome == 1:
                        met["engaged"].add(event.time, _facts(event.item, event.attributes))
                case Search():
                    met["said"].add(event.time, _words(event.query))
                case Comment():
                    met["said"].add(event.time, _words(event.text))
        return History(MappingProxyType(met))


FAMILIES = ("bought", "engaged", "viewed", "shown", "said")


def times_of(met: Met, attribute: str, value: str | None) -> Sequence[float]:
    """When this value was met; for the family ``said``, when any word of the value was written."""
    if value is None:
        return ()
    by_word = met.values.get("word")
    if by_word is not None:
        return sorted({t for word in _WORD.findall(value.lower()) for t in by_word.get(word, ())})
    return met.values.get(attribute, {}).get(value, ())


class Counts:
    """How often and when each of ``n`` candidates' values was met, strictly before the candidate's own moment.

    All values' times lie in one sorted array of integer keys (value number, then milliseconds), so that one binary
    search answers for all candidates at once and exactly.
    """

    def __init__(self, now: Floats, values: npt.NDArray[np.int64], times: Sequence[Sequence[float]]) -> None:
        """Take the moments ``now`` [n], which value each candidate has [n], and each value's times in order."""
        sizes = np.array([len(t) for t in times], np.int64)
        flat = np.fromiter((t for series in times for t in series), np.float64, int(sizes.sum()))
        self._times = flat
        self._now = now
        self._keys = _key(np.repeat(np.arange(len(sizes)), sizes), flat)
        self._values = values
        self._start = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])[values]
        self._upto = np.searchsorted(self._keys, _key(values, now), side="left")
        self.count = np.asarray(self._upto - self._start, np.float64)
        self.total = self.count
        self.shown = np.zeros(len(now))

    def of(self, total: Floats) -> Counts:
        """The same, as a part of ``total`` moments [n]."""
        self.total = total
        return self

    def against(self, shown: Floats) -> Counts:
        """The same, where each candidate's value was shown at ``shown`` moments [n]."""
        self.shown = shown
        return self

    def since(self, days: float) -> Floats:
        """Times met in the last ``days`` days."""
        first = np.searchsorted(self._keys, _key(self._values, self._now - days * DAY), side="left")
        return np.asarray(self._upto - np.maximum(first, self._start), np.float64)

    def recency(self, days: float) -> Floats:
        """exp(-age / days) of the latest meeting; 0 if never met."""
        if not len(self._times):
            return np.zeros(len(self._now))
        age = (self._now - self._times[np.maximum(self._upto - 1, 0)]) / DAY
        return np.where(self.count > 0, np.exp(-np.clip(age, 0, None) / days), 0.0)

    def signal(self, name: str) -> Floats:
        """One public formula by name."""
        return SIGNALS[name](self)


def _key(values: npt.NDArray[np.int64], times: Floats) -> npt.NDArray[np.int64]:
    """Value number in the high bits, milliseconds in the low 42: room for 2 million values and the years to 2109."""
    return (values << 42) + np.clip(np.round(times * 1e3), 0, 2**42 - 1).astype(np.int64)


SIGNALS: Mapping[str, Callable[[Counts], Floats]] = MappingProxyType(
    {
        "any": lambda c: (c.count > 0).astype(np.float64),
        "count": lambda c: np.log1p(c.count) / 3,
        "count30": lambda c: np.log1p(c.since(30)) / 2,
        "count90": lambda c: np.log1p(c.since(90)) / 2.5,
        "recent7": lambda c: c.recency(7),
        "recent30": lambda c: c.recency(30),
        "recent90": lambda c: c.recency(90),
        "share": lambda c: np.sqrt(c.count / np.maximum(c.total, 1)),
        "rate": lambda c: (np.log((c.count + 0.1) / (c.total + 2)) + 4) / 2.5,
        "yield": lambda c: np.log((c.count + 0.2) / (c.shown + 3)),
        PERSONAL_INTERCEPT: lambda c: np.ones(len(c.count)),
    }
)
YIELD = "yield"


def personal_numbers(spec: FeatureSpec, history: History, situations: Sequence[Situation]) -> npt.NDArray[np.float32]:
    """Personal numeric columns of ``n`` situations, float32 ``[n, D]``; context columns are left 0.

    Raises:
        SpecMismatch: the specification names a family or signal that this version does not know.
    """
    out = np.zeros((len(situations), len(spec.numeric)), np.float32)
    plan = _plan(spec)
    if not situations:
        return out
    now = np.array([s.time for s in situations], np.float64)
    counted: dict[tuple[str, str], Counts] = {}

    def count(family: str, attribute: str) -> Counts:
        if (family, attribute) not in counted:
            counted[family, attribute] = _counts(history.families[family], attribute, situations, now)
        return counted[family, attribute]

    for (family, attribute), columns in plan.items():
        counts = count(family, attribute).of(count(family, ACTIVITY).count)
        if any(signal == YIELD for _, signal, _ in columns):
            counts = counts.against(count("shown", attribute).count)
        for column, signal, spec_field in columns:
            value = (counts.signal(signal) - spec_field.center) / spec_field.scale
            out[:, column] = np.clip(value, -spec_field.clip, spec_field.clip)
    return out


def _counts(met: Met, attribute: str, situations: Sequence[Situation], now: Floats) -> Counts:
    """Counts of each candidate's value of an attribute; of all moments for ``activity``."""
    if attribute == ACTIVITY:
        return Counts(now, np.zeros(len(now), np.int64), [met.moments])
    names = [situation.text(attribute) for situation in situations]
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    values = np.array([number[name] for name in names], np.int64)
    return Counts(now, values, [times_of(met, attribute, name) for name in number])


def _plan(spec: FeatureSpec) -> dict[tuple[str, str], list[tuple[int, str, NumericField]]]:
    plan: dict[tuple[str, str], list[tuple[int, str, NumericField]]] = {}
    for column, spec_field in enumerate(spec.numeric):
        if spec_field.block is not FeatureBlock.PERSONAL:
            continue
        parts = spec_field.name.split(".")
        if len(parts) != 3 or parts[0] not in FAMILIES or parts[2] not in SIGNALS:
            raise SpecMismatch(f"this version cannot compute the personal feature '{spec_field.name}'")
        plan.setdefault((parts[0], parts[1]), []).append((column, parts[2], spec_field))
    return plan
