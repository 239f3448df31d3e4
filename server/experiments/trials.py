"""Reports of experiments. Owns where counts come from: exact ones from confirmed follow-ups, noised ones from devices.

The two are never added: where the service chose, units are decisions; where devices chose, units are device-days, and
only released, paid counts are there to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from common.taxonomy import FollowUp, Metric
from common.wire.experiments import SHARES, ExperimentArm, ExperimentDocument
from policies.experiments import report as statistics
from policies.experiments.report import Counts, Interval, Split
from server.decisions import repository as decisions
from server.experiments.repository import StoredExperiment
from server.experiments.service import Experiments
from server.storage import Database

_HOLDS: Final = {
    "fixed_horizon": "one look, after the end of the experiment; before that no interval is given",
    "sequential": "every look, at any time (asymptotic confidence sequence)",
}
_REWARD: Final = {Metric.CLICKS: FollowUp.CLICK, Metric.CONVERSIONS: FollowUp.CONVERSION}


class DeviceCounts(Protocol):
    """Released counts of placements that devices chose by themselves."""

    def by_arm(self, stored: StoredExperiment, reward: Metric) -> Mapping[str, Counts]:
        """Sums over releases, by arm; empty where nothing was released."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One arm; ``difference`` is to the first, None for itself and where no interval is due yet."""

    arm: ExperimentArm
    counts: Counts
    rate: float | None
    difference: Interval | None


@dataclass(frozen=True, slots=True)
class Table:
    """All arms by one way of counting."""

    source: Literal["service", "devices"]
    unit: Literal["decision", "device-day"]
    arms: tuple[ArmResult, ...]
    split: Split


@dataclass(frozen=True, slots=True)
class Report:
    """What an experiment has shown."""

    stored: StoredExperiment
    document: ExperimentDocument
    running: bool
    tables: tuple[Table, ...]

    @property
    def holds(self) -> str:
        """When its intervals hold."""
        return _HOLDS[self.document.method]

    @property
    def level(self) -> float:
        """Of its intervals."""
        return statistics.LEVEL


class Trials:
    """Reads what experiments have shown."""

    def __init__(
        self,
        database: Database,
        experiments: Experiments,
        devices: DeviceCounts | None,
        clock: Callable[[], float],
    ) -> None:
        """Read exact counts from ``database``, and those of devices from ``devices`` where there are any."""
        self._database, self._experiments, self._devices, self._clock = database, experiments, devices, clock

    def report(self, experiment_id: str) -> Report:
        """Arms, intervals and the check of the split.

        Raises:
            NotFound: there is no such experiment.
        """
        stored = self._experiments.stored(experiment_id)
        document = self._experiments.document(stored)
        running = self._clock() < stored.over_at
        with self._database.read() as session:
            tallies = decisions.arm_tallies(session, stored.digest)
        exact = {
            name: Counts(tally.decisions, tally.views, tally.rewards[_REWARD[document.reward]])
            for name, tally in tallies.items()
        }
        tables = [_table(document, exact, "service", "decision", running=running)]
        released = {} if self._devices is None else self._devices.by_arm(stored, document.reward)
        if released:
            tables.append(_table(document, released, "devices", "device-day", running=running))
        return Report(stored, document, running, tuple(tables))


def _table(
    document: ExperimentDocument,
    counted: Mapping[str, Counts],
    source: Literal["service", "devices"],
    unit: Literal["decision", "device-day"],
    *,
    running: bool,
) -> Table:
    counts: Sequence[Counts] = [counted.get(arm.name, Counts(0, 0, 0)) for arm in document.arms]
    due = document.method == "sequential" or not running
    arms = tuple(
        ArmResult(
            arm,
            one,
            statistics.rate(one),
            statistics.difference(counts[0], one, document.method) if number and due else None,
        )
        for number, (arm, one) in enumerate(zip(document.arms, counts, strict=True))
    )
    return Table(source, unit, arms, statistics.split(counts, [arm.share / SHARES for arm in document.arms]))
