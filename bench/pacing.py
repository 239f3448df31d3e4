"""Pacing over simulated months: how far bursty traffic carries spend over its budget, and how much is delivered.

Devices' clicks are reported once a day, a day late, with the noise of a release; each day's probability is fixed before
its traffic is known. Control: the same controller without margin for noise, bursts or what is not reported yet.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from common.measurement.estimates import Noisy
from policies.pacing import RULE, Order, PacingRule, serve_probabilities

DAYS: Final = 30
HOURS: Final = 24
NOISE_CLICKS: Final = 25.0
"""Standard deviation of a day's noisy clicks under the shipped privacy budget; see docs/measurement.md."""
NO_MARGIN: Final = PacingRule(margin=0.0, burst=1.0, first=RULE.first)
PLAIN: Final = "no margin"
RESULTS: Final = Path(__file__).with_name("results") / "pacing.json"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of campaign: clicks that its budget buys, and clicks per day that traffic could bring."""

    name: str
    budget: float
    demand: float


CASES: Final = (
    Case("budget far below demand", 3_000, 2_000),
    Case("middling", 20_000, 2_000),
    Case("large", 300_000, 40_000),
    Case("budget just within demand", 60_000, 2_500),
    Case("demand below budget", 100_000, 2_000),
)


def traffic(case: Case, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Clicks that each hour would bring at probability 1: daily and weekly rhythm, drift, bursts of hours and days."""
    hour = np.arange(DAYS * HOURS)
    rhythm = 1 + 0.6 * np.sin(2 * np.pi * (hour - 8) / 24)
    week = np.where((hour // HOURS) % 7 >= 5, 1.4, 0.85)
    drift = np.exp(np.cumsum(rng.normal(0, 0.05, DAYS)))[hour // HOURS]
    day_burst = np.where(rng.random(DAYS) < 0.1, rng.uniform(2.0, 3.5, DAYS), 1.0)[hour // HOURS]
    hour_burst = np.where(rng.random(len(hour)) < 0.02, rng.uniform(3.0, 8.0, len(hour)), 1.0)
    return np.asarray(case.demand / HOURS * rhythm * week * drift * day_burst * hour_burst)


def month(case: Case, rule: PacingRule, rng: np.random.Generator, *, noise: float = NOISE_CLICKS) -> float:
    """Spend at the month's end, as a share of the budget."""
    offered = traffic(case, rng).reshape(DAYS, HOURS)
    order = Order(case.budget, DAYS)
    reported: list[Noisy | None] = []
    spent = 0.0
    for day in range(DAYS):
        probability = serve_probabilities(order, reported, rule)[-1]
        clicks = float(rng.poisson(offered[day] * probability).sum())
        spent += clicks
        reported.append(None if rng.random() < 0.03 else Noisy(clicks + rng.normal(0, noise), noise))
    return spent / case.budget


def overspend(rule: PacingRule, *, months: int, seed: int) -> dict[str, dict[str, float]]:
    """Overspend and delivery by kind of campaign."""
    found = {}
    for number, case in enumerate(CASES):
        spent = np.array([month(case, rule, np.random.default_rng((seed, number, i))) for i in range(months)])
        over = np.maximum(spent - 1, 0)
        found[case.name] = {
            "overspend_max": float(over.max()),
            "overspend_mean": float(over.mean()),
            "months_over_1_percent": float((over > 0.01).mean()),
            "delivered_mean": float(np.minimum(spent, 1).mean()),
        }
    return found


def run(*, months: int, seed: int = 5) -> dict[str, object]:
    """The controller and its control over the same months."""
    return {
        "months_each": months,
        "noise_clicks": NOISE_CLICKS,
        "controller": overspend(RULE, months=months, seed=seed),
        PLAIN: overspend(NO_MARGIN, months=months, seed=seed),
    }


def table(found: Mapping[str, object]) -> str:
    """What was found, to be read."""
    lines = [f"{'campaign':28}{'':12}{'overspend max':>15}{'months > 1 %':>14}{'delivered':>11}"]
    for name in ("controller", PLAIN):
        rows: Mapping[str, Mapping[str, float]] = found[name]  # type: ignore[assignment]
        lines += [
            f"{case:28}{name:12}{row['overspend_max']:>14.2%} {row['months_over_1_percent']:>13.1%}"
            f"{row['delivered_mean']:>11.1%}"
            for case, row in rows.items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Write the results and print them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=200)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found = run(months=asked.months)
    asked.output.write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
