"""What a private pick keeps of the gain of personal ads, and what drawing it anew would give away.

    python -m bench.private_pick [--users 40000] [--seed 1] [--json bench/results/private_pick.json]

Synthetic people: the log-odds of a response to each of K candidates are independent, normal, of standard deviation 0.8
around 5 %. Gains are over a uniform choice. The mechanism's probabilities are exact, so only people are random: shares
come with the standard error of that. "Theory" is the closed form: truth times what the best m are worth.

1. Share of the gain that serving the pick itself keeps, at the best m, by K and ε, beside the published table.
2. The same for the exponential mechanism on Y itself, whose sensitivity is the whole range of Y.
3. What g makes of a pick when candidates differ in public (their log-odds by 0.4, twenty lists): the best of
   E[Y | pick], beside the best by context alone.
4. How often an observer of repeated requests names the truly best candidate, with fresh draws and with a kept one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from common.privacy.posterior import posterior
from common.privacy.top_m import TopM, best_chosen, probabilities, share_kept

Floats = npt.NDArray[np.float64]

SPREAD: Final = 0.8
BASE: Final = 0.05
PUBLIC_SPREAD: Final = 0.4
LISTS: Final = 20
SIZES: Final = (4, 8, 16, 64)
EPSILONS: Final = (0.5, 1.0, 2.0, 4.0, 6.0)
PUBLISHED: Final = {
    4: (0.14, 0.30, 0.62, 0.93, 0.99),
    8: (0.10, 0.21, 0.44, 0.87, 0.98),
    16: (0.07, 0.15, 0.34, 0.77, 0.96),
    64: (0.04, 0.09, 0.20, 0.52, 0.86),
}
"""Share kept by K, in the order of ``EPSILONS``, as the design of this mode published it."""


def people(users: int, candidates: int, seed: int) -> Floats:
    """Response rates, float64 ``[users, candidates]``."""
    rng = np.random.default_rng((seed, candidates))
    return np.asarray(expit(logit(BASE) + SPREAD * rng.standard_normal((users, candidates))))


def kept(rates: Floats, mechanism: TopM) -> tuple[float, float]:
    """Share of the gain that serving the pick keeps, with its standard error over people."""
    mean = rates.mean(axis=1)
    gain = (probabilities(mechanism, rates) * rates).sum(axis=1) - mean
    most = rates.max(axis=1) - mean
    share = float(gain.mean() / most.mean())
    return share, float(np.std(gain - share * most) / most.mean() / np.sqrt(len(rates)))


def theory(rates: Floats, mechanism: TopM) -> float:
    """The closed form, from the mean of the best m and of the best."""
    ordered = -np.sort(-rates, axis=1)
    mean = float(rates.mean())
    return share_kept(
        mechanism, float(ordered[:, : mechanism.chosen].mean()) - mean, float(ordered[:, 0].mean()) - mean
    )


def best_of_all(rates: Floats, epsilon: float) -> TopM:
    """The mechanism whose m keeps most of these people's gain, near the one that ``best_chosen`` names."""
    size = rates.shape[1]
    near = best_chosen(size, epsilon)
    found = [
        TopM(candidates=size, chosen=m, epsilon=epsilon) for m in range(max(1, near // 2), min(size, 2 * near + 2))
    ]
    return max(found, key=lambda one: theory(rates, one))


def exponential(rates: Floats, epsilon: float) -> float:
    """Share kept by the exponential mechanism on Y, sensitivity 1, at the same ε."""
    weight = np.exp(epsilon * rates / 2)
    mean = rates.mean()
    value = float((weight * rates).sum(axis=1).mean() / weight.sum(axis=1).mean())
    return float((value - mean) / (rates.max(axis=1).mean() - mean))


def informed(users: int, epsilon: float, seed: int, *, chosen: int, size: int = 8) -> dict[str, float]:
    """Value of the best of E[Y | pick] where candidates differ in public, beside choices that know less or more."""
    names = ("context", "pick itself", "g on E[Y | pick]", "on the device")
    found = np.mean([_one_list(users // LISTS, epsilon, (seed, n), chosen, size) for n in range(LISTS)], axis=0)
    share = float((found[2] - found[0]) / (found[3] - found[0]))
    figures = dict(zip(names, map(float, found), strict=True))
    return {
        "candidates": size,
        "epsilon": epsilon,
        "chosen": chosen,
        **figures,
        "share of the gain over context": share,
    }


def _one_list(users: int, epsilon: float, seed: tuple[int, int], chosen: int, size: int) -> tuple[float, ...]:
    rng = np.random.default_rng(seed)
    base = np.asarray(expit(logit(BASE) + PUBLIC_SPREAD * rng.standard_normal(size)))
    rates = np.asarray(expit(logit(base) + SPREAD * rng.standard_normal((users, size))))
    rates *= base / rates.mean(axis=0)
    mechanism = TopM(candidates=size, chosen=chosen, epsilon=epsilon)
    odds = probabilities(mechanism, rates)
    serve = [int(np.argmax(posterior(mechanism, base.tolist(), a, spread=SPREAD))) for a in range(size)]
    context, most = float(rates[:, int(base.argmax())].mean()), float(rates.max(axis=1).mean())
    told, itself = float((odds * rates[:, serve]).sum(axis=1).mean()), float((odds * rates).sum(axis=1).mean())
    return context, itself, told, most


def recovered(people_count: int, requests: Sequence[int], seed: int) -> dict[str, dict[int, float]]:
    """How often the most frequent answer is the truly best candidate, K = 8, m = 1, ε = 1."""
    mechanism = TopM(candidates=8, chosen=1, epsilon=1.0)
    rng = np.random.default_rng((seed, 8))
    high, low = mechanism.weights
    odds = np.array([high] + [low] * 7) / mechanism.total
    fresh = {}
    for count in requests:
        seen = rng.multinomial(count, odds, size=people_count) + rng.random((people_count, 8)) * 0.5
        fresh[count] = float((seen.argmax(axis=1) == 0).mean())
    return {"fresh draws": fresh, "kept answer": dict.fromkeys(requests, float(odds[0]))}


def measured(users: int, seed: int) -> dict[str, Any]:
    """Every figure."""
    shares = []
    for size in SIZES:
        rates = people(users, size, seed)
        for epsilon, published in zip(EPSILONS, PUBLISHED[size], strict=True):
            mechanism = best_of_all(rates, epsilon)
            share, error = kept(rates, mechanism)
            shares.append(
                {
                    "candidates": size,
                    "epsilon": epsilon,
                    "chosen": mechanism.chosen,
                    "kept": share,
                    "standard_error": error,
                    "theory": theory(rates, mechanism),
                    "published": published,
                    "exponential_mechanism": exponential(rates, epsilon),
                }
            )
    return {
        "users": users,
        "seed": seed,
        "spread": SPREAD,
        "base": BASE,
        "shares": shares,
        "informed": [
            informed(users, epsilon, seed, chosen=m, size=size)
            for size in (4, 8)
            for epsilon in (1.0, 2.0, 4.0)
            for m in (1, 2)
        ],
        "recovered": recovered(users, (1, 5, 20, 50), seed),
    }


def printed(found: dict[str, Any]) -> str:
    """The figures as text."""
    lines = [f"share of the personalisation gain kept, {found['users']} synthetic people"]
    lines.append("   K     ε   m    kept  ± s.e.   theory  published  exponential mechanism")
    lines += [
        f"{row['candidates']:4d} {row['epsilon']:5g} {row['chosen']:3d}  {row['kept']:6.3f}  "
        f"{row['standard_error']:6.4f}  {row['theory']:7.3f}  {row['published']:9.2f}  "
        f"{row['exponential_mechanism']:21.3f}"
        for row in found["shares"]
    ]
    lines.append("response rate of the best by …, candidates that differ in public")
    lines += [
        f"  K = {row['candidates']}, ε = {row['epsilon']:g}, m = {row['chosen']}: context {row['context']:.4f}, "
        f"the pick itself {row['pick itself']:.4f}, g on E[Y | pick] {row['g on E[Y | pick]']:.4f}, on the device "
        f"{row['on the device']:.4f}; share kept {row['share of the gain over context']:.3f}"
        for row in found["informed"]
    ]
    lines.append("an observer names the best of 8 after … requests (ε = 1, m = 1)")
    for name, row in found["recovered"].items():
        lines.append(f"  {name}: " + ", ".join(f"{count}: {share:.0%}" for count, share in row.items()))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, store; 1 if a share differs from its theory by more than chance."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    found = measured(options.users, options.seed)
    print(printed(found))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    wrong = [row for row in found["shares"] if abs(row["kept"] - row["theory"]) > 1e-9 + 6 * row["standard_error"]]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
