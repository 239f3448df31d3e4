"""Coverage of reports' intervals, their error beside sampling error, and what the threshold lets through. Simulated.

Cohorts are drawn from a population in which people differ; each device's counts are bounded and scaled as on a device,
rounded to the grid, summed, and given the noise of a real sum under the shipped privacy budget (Skellam, whose shares
add up to Skellam). Intervals and thresholds are those that the service applies. Two controls: the same intervals
computed as if noisy counts were exact; and, of what is shown, intervals that do not know that it was chosen by its own
noisy value.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from common.errors import PolicyError
from common.measurement.estimates import Interval, Noisy, total
from common.measurement.layout import Block, blocks, plan_length, read_sum
from common.measurement.shown import Rate, shown_total
from common.privacy.randomness import SimulationNoise
from common.taxonomy import Dimension, Metric
from common.wire.measurement import Cut, MeasurementPlan
from policies.loader import load
from policies.schema import PlacementCounts, PrivacyBudgetPolicy
from server.measurement.figures import Counted, Rules
from server.rounds.release_rounds import noise_stddev

VIEWS_A_DEVICE: Final = (2.5, 0.8, 0.25, 0.08, 0.02, 0.005)
"""Mean views of each campaign by a device and day: from one that everybody sees to one that hardly anybody does."""
CLICK_RATE: Final = 0.02
CONVERSION_RATE: Final = 0.25
POPULATIONS: Final = 5
"""Times 400,000 people, from which true rates are counted."""
Floats = npt.NDArray[np.float64]
FIGURES: Final = ("clicks", "click_rate", "conversion_rate")
REPORTS: Final = {1: 1, 7: 2}
"""Days of a report, and which part of the runs it gets."""
RESULTS: Final = Path(__file__).with_name("results") / "measurement.json"


@dataclass(frozen=True, slots=True)
class World:
    """What is simulated.

    Attributes:
        devices: in every sum.
        rules: the release, as the privacy budget has it.
        stddev: of the noise on every coordinate of the sum.
    """

    devices: int
    policy: PrivacyBudgetPolicy
    rules: PlacementCounts
    plan: MeasurementPlan
    stddev: float

    @classmethod
    def of(cls, devices: int) -> World:
        """The shipped documents with a cohort of so many devices; as many may drop out as the policy allows."""
        policy = load(None, prove=False).policies.privacy_budget
        rules = policy.releases.placement_counts
        if rules is None:
            raise PolicyError("the privacy budget declares no placement counts")
        labels = tuple(f"c{i}" for i in range(len(VIEWS_A_DEVICE)))
        cuts = (
            Cut(dimension=Dimension.CAMPAIGN, labels=labels),
            Cut(dimension=Dimension.GROUP, labels=(*rules.groups, "undeclared")),
        )
        roster = devices  # everybody survives: the most noise that is added, and the least that is promised
        stddev = noise_stddev(rules, devices, policy.cohort.honest_min(roster))
        return cls(devices, policy, rules, MeasurementPlan(day=1, cuts=cuts), stddev)


def counts(world: World, rng: np.random.Generator) -> dict[Metric, Floats]:
    """Bounded counts of a fresh cohort, each ``[devices, campaigns]``."""
    bounds, shape = world.rules.bounds, (world.devices, len(VIEWS_A_DEVICE))
    taste = rng.gamma(2.0, 0.5, shape[0])  # how much a person uses the app, and how readily they click
    readiness = rng.beta(2.0, 2.0 * (1 - CLICK_RATE) / CLICK_RATE, shape[0])
    views = np.minimum(rng.poisson(np.outer(taste, VIEWS_A_DEVICE)), bounds.views_per_campaign)
    views = _within(views, bounds.views_per_day)
    clicks = np.minimum(rng.binomial(views.astype(np.int64), readiness[:, None]), bounds.clicks_per_campaign)
    clicks = _within(clicks, bounds.responses_per_day)
    bought = rng.binomial(clicks.astype(np.int64), CONVERSION_RATE)
    unseen = _within(np.minimum(rng.poisson(np.full(shape, 0.02)), 1), bounds.responses_per_day)
    return {
        Metric.VIEWS: views,
        Metric.CLICKS: clicks,
        Metric.CONVERSIONS: bought,
        Metric.VALUE: bought * rng.uniform(0.1, 1.0, shape),
        Metric.REACH: np.minimum(views, 1),
        Metric.UNSEEN: unseen,
    }


def release(world: World, counted: Mapping[Metric, Floats], noise: SimulationNoise, rng: np.random.Generator) -> Floats:
    """The noisy sum of a cohort, in the vector's units: rounded device by device, then noised."""
    vectors = np.zeros((world.devices, plan_length(world.plan)))
    for block in blocks(world.plan, world.rules.bounds):
        if block.cut.dimension is Dimension.CAMPAIGN:
            _fill(vectors, block, counted[block.metric])
    exact = vectors / world.rules.grid
    below = np.floor(exact)
    whole = below + (rng.random(exact.shape) < exact - below)
    variance = (world.stddev / world.rules.grid) ** 2
    return np.asarray((whole.sum(0) + noise.skellam(variance, exact.shape[1])) * world.rules.grid)


def _fill(vectors: Floats, block: Block, values: Floats) -> None:
    vectors[:, block.start : block.start + values.shape[1]] = values * block.factor


def _within(values: Floats, most: int) -> Floats:
    """At most so many over all campaigns, the first ones counting."""
    before = np.cumsum(values, axis=1) - values
    return np.asarray(np.clip(most - before, 0, values))


def rows(world: World, summed: Floats) -> dict[str, Counted]:
    """What the service would hold of each campaign."""
    found: dict[str, dict[Metric, Noisy]] = defaultdict(dict)
    for cell in read_sum(summed, world.plan, world.rules.bounds, noise_stddev=world.stddev):
        if cell.dimension is Dimension.CAMPAIGN:
            found[cell.label][cell.metric] = Noisy(cell.value, cell.stddev)
    return {name: Counted(sums, world.rules.bounds, Dimension.CAMPAIGN) for name, sums in found.items()}


def intervals(row: Counted, widest: float) -> dict[str, Interval]:
    """Figures of a row, shown or not."""
    figures = {name: one.plain() for name, one in _rates(row, widest).items()}
    return {"clicks": total(row.of(Metric.CLICKS)), **figures}


def shown(row: Counted, widest: float) -> dict[str, Interval | None]:
    """What the service shows of a row of enough people."""
    figures = {name: one.interval() for name, one in _rates(row, widest).items()}
    return {"clicks": shown_total(row.of(Metric.CLICKS), widest=widest), **figures}


def _rates(row: Counted, widest: float) -> dict[str, Rate]:
    return {
        "click_rate": row.against(Metric.CLICKS, Metric.VIEWS, widest=widest, high_max=1.0),
        "conversion_rate": row.against(Metric.CONVERSIONS, Metric.CLICKS, widest=widest),
    }


def forgetful(row: Counted) -> Counted:
    """The control: noisy counts taken for exact ones."""
    return replace(row, sums={metric: replace(one, stddev=0.0) for metric, one in row.sums.items()})


def population_rates(world: World, rng: np.random.Generator) -> dict[str, dict[str, float]]:
    """The rates that intervals should hold: of clicks in a large population after bounding, of conversions exactly."""
    great, many = replace(world, devices=400_000), len(VIEWS_A_DEVICE)
    clicks, views = np.zeros((2, many))
    for _ in range(POPULATIONS):
        counted = counts(great, rng)
        clicks += counted[Metric.CLICKS].sum(0)
        views += counted[Metric.VIEWS].sum(0)
    return {
        f"c{i}": {"click_rate": float(clicks[i] / views[i]), "conversion_rate": CONVERSION_RATE} for i in range(many)
    }


Sums = dict[Metric, Floats]


def report(
    world: World, days: int, noise: SimulationNoise, rng: np.random.Generator
) -> tuple[dict[str, Counted], Sums]:
    """Rows of a report over so many days, another cohort each day, and what is true of those cohorts by campaign."""
    whole: dict[str, Counted] = {}
    truth: Sums = {}
    for _ in range(days):
        counted = counts(world, rng)
        for metric, each in counted.items():
            truth[metric] = truth.get(metric, np.zeros(each.shape[1])) + each.sum(0)
        for name, row in rows(world, release(world, counted, noise, rng)).items():
            held = whole.get(name)
            sums = row.sums if held is None else {metric: held.of(metric) + one for metric, one in row.sums.items()}
            whole[name] = replace(row, sums=sums)
    return whole, truth


@dataclass(slots=True)
class Tally:
    """What became of one campaign's figures over all reports.

    Attributes:
        held, forgot: how often the interval held the truth, and how often the control's did, by figure.
        shown, right: how often a figure was shown, and how often what was shown held the truth.
        unaware: how often it would have, with an interval that does not know that it was chosen.
        open_below: how often what was shown went down to nothing.
        few, few_shown: reports with fewer devices than the threshold, and those of them that were shown.
        views, reach: what was true.
        noise: of the number of clicks.
        sampled: click rates of the cohorts themselves.
    """

    held: Counter[str] = field(default_factory=Counter)
    forgot: Counter[str] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    unaware: Counter[str] = field(default_factory=Counter)
    open_below: Counter[str] = field(default_factory=Counter)
    few: int = 0
    few_shown: int = 0
    views: list[float] = field(default_factory=list)
    reach: list[float] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)
    sampled: list[float] = field(default_factory=list)

    def add(self, row: Counted, truth: Mapping[str, float], rules: Rules) -> None:
        """Count one report."""
        enough, few = rules.enough(row.of(Metric.REACH)), truth["reach"] < rules.reach_min
        self.few += few
        self.few_shown += few and enough
        self.views.append(truth["views"])
        self.reach.append(truth["reach"])
        self.noise.append(row.of(Metric.CLICKS).value - truth["clicks"])
        self.sampled.append(truth["clicks"] / max(truth["views"], 1.0))
        control, told = intervals(forgetful(row), rules.interval_max), shown(row, rules.interval_max)
        for figure, interval in intervals(row, rules.interval_max).items():
            holds = interval.low <= truth[figure] <= interval.high
            self.held[figure] += holds
            self.forgot[figure] += control[figure].low <= truth[figure] <= control[figure].high
            one = told[figure]
            if enough and one is not None:
                self.shown[figure] += 1
                self.right[figure] += one.low <= truth[figure] <= one.high
                self.unaware[figure] += holds
                self.open_below[figure] += one.low == 0

    def summary(self) -> dict[str, object]:
        """Shares of all reports."""
        views, runs = float(np.mean(self.views)), len(self.views)
        return {
            "views": views,
            "reach": float(np.mean(self.reach)),
            "noise_error_of_click_rate": float(np.std(self.noise)) / max(views, 1.0) / CLICK_RATE,
            "sampling_error_of_click_rate": float(np.std(self.sampled)) / CLICK_RATE,
            "coverage": {figure: self.held[figure] / runs for figure in FIGURES},
            "coverage_of_control": {figure: self.forgot[figure] / runs for figure in FIGURES},
            "shown": {figure: self.shown[figure] / runs for figure in FIGURES},
            "of_what_is_shown": {
                figure: {
                    "reports": self.shown[figure],
                    "coverage": self.right[figure] / self.shown[figure],
                    "coverage_of_control": self.unaware[figure] / self.shown[figure],
                    "down_to_nothing": self.open_below[figure] / self.shown[figure],
                }
                for figure in FIGURES
                if self.shown[figure]
            },
        }


def run(*, devices: int, runs: int, days: int = 1, seed: int = 11) -> dict[str, Any]:
    """Coverage, errors and what is shown, by campaign."""
    world, rng = World.of(devices), np.random.default_rng(seed)
    noise, rates = SimulationNoise(seed, "bench-measurement", "noise", 0), population_rates(world, rng)
    rules = Rules(world.rules.reach_min, world.rules.interval_max)
    tallies = {name: Tally() for name in rates}
    stddev = 0.0
    for _ in range(runs):
        whole, true = report(world, days, noise, rng)
        for i, (name, row) in enumerate(whole.items()):
            totals = {metric.value: float(each[i]) for metric, each in true.items()}
            tallies[name].add(row, totals | rates[name], rules)
            stddev = row.of(Metric.CLICKS).stddev
    shown = {figure: sum(tally.shown[figure] for tally in tallies.values()) for figure in FIGURES}
    right = {figure: sum(tally.right[figure] for tally in tallies.values()) for figure in FIGURES}
    return {
        "devices": devices,
        "days": days,
        "runs": runs,
        "noise_clicks": stddev,
        "rows_of_too_few": sum(tally.few for tally in tallies.values()),
        "rows_of_too_few_shown": sum(tally.few_shown for tally in tallies.values()),
        "coverage_of_what_is_shown": {figure: right[figure] / count for figure, count in shown.items() if count},
        "campaigns": {name: tally.summary() for name, tally in tallies.items()},
    }


def table(found: Mapping[str, Any]) -> str:
    """What was found, to be read."""
    held = ", ".join(f"{name} {value:.1%}" for name, value in found["coverage_of_what_is_shown"].items())
    lines = [
        f"{found['days']} days of {found['devices']} devices, {found['runs']} times",
        f"noise on clicks: ± {found['noise_clicks']:.1f}; coverage of what is shown: {held}",
        (
            f"rows below the threshold that noise carried over it: {found['rows_of_too_few_shown']} of "
            f"{found['rows_of_too_few']}"
        ),
        (
            f"{'views':>8}{'reach':>8}{'sampling':>10}{'noise':>8}{'coverage: clicks, CTR, CVR':>30}"
            f"{'control':>24}{'shown':>24}"
        ),
    ]
    for row in found["campaigns"].values():
        shares = "".join(
            f"{' '.join(f'{one:6.1%}' for one in row[name].values()):>{width}}"
            for name, width in (("coverage", 30), ("coverage_of_control", 24), ("shown", 24))
        )
        lines.append(
            f"{row['views']:>8.0f}{row['reach']:>8.0f}{row['sampling_error_of_click_rate']:>10.1%}"
            f"{row['noise_error_of_click_rate']:>8.1%}{shares}"
        )
    for name, row in found["campaigns"].items():
        lines += [
            f"  {name} {figure}: shown {one['reports']} times, held {one['coverage']:.1%}, control "
            f"{one['coverage_of_control']:.1%}, down to nothing {one['down_to_nothing']:.0%}"
            for figure, one in row["of_what_is_shown"].items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=4_000)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found = [run(devices=asked.devices, runs=asked.runs // share, days=days) for days, share in REPORTS.items()]
    asked.output.write_text(json.dumps(found, indent=1) + "\n")
    print("\n".join(map(table, found)))


if __name__ == "__main__":
    main()
