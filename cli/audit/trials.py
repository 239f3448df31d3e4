"""From scores to findings. Owns the bounds, error probabilities and power statements of the random tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cli.audit.results import CurvePoint, Finding, Trial
from common.privacy.audit import (
    AuditedEpsilon,
    ClaimedCurve,
    audited_epsilon,
    curve_test,
    detectable_noise,
    detectable_variance,
    rate_high,
    rate_low,
    variance_test,
)

FloatArray = npt.NDArray[np.float64]

CURVE_ERROR: Final = 0.005
VARIANCE_ERROR: Final = 1e-3
AUDIT_ERROR: Final = 0.05
BAND_ERROR: Final = 0.01
CLIP_LOW: Final = 0.97
CLIP_HIGH: Final = 1.001
_CURVE_POINTS = 60


class Scores(NamedTuple):
    """Independent scores with and without the canary."""

    present: FloatArray
    absent: FloatArray


def curve_finding(kind: Trial, part: str, scores: Scores, claim: ClaimedCurve, *, mu: float | None) -> Finding:
    """The f-DP test of one score.

    Args:
        kind: CURVE (a canary's projection) or DEVIATION (spread of the whole update).
        part: which code ran.
        scores: of its runs.
        claim: the curve that they may falsify.
        mu: separation of the declared Gaussian, for the power statement; None where it says nothing.
    """
    verdict = curve_test(scores.present, scores.absent, claim, error=CURVE_ERROR)
    if mu is None:
        power = f"a true minus false positive rate that passes the curve by {_slack(verdict.runs):.2g}"
    else:
        share = detectable_noise(mu, claim, len(scores.present), error=CURVE_ERROR)
        power = f"noise at most {share:.0%} of declared is caught with probability ≥ 0.9"
    return Finding(
        kind=kind,
        part=part,
        passed=not verdict.falsified,
        statistic=verdict.margin,
        bound="≤ 0",
        error_probability=verdict.error_probability,
        power=power,
        samples=len(scores.present) + len(scores.absent),
        note=f"at ε = {verdict.epsilon:.3g}, δ = {verdict.delta:g}: TPR ≥ {verdict.true_positives_low:.3f}, "
        f"FPR ≤ {verdict.false_positives_high:.3f}",
    )


def variance_findings(part: str, halves: tuple[FloatArray, FloatArray], stddev: float) -> list[Finding]:
    """Two chi-square tests: the noise has the declared deviation, and that of two generators has nothing in common."""
    first, second = halves
    found = []
    for what, residuals, declared in (
        ("deviation", np.concatenate(halves), stddev),
        ("of two generators", first - second, stddev * np.sqrt(2)),
    ):
        verdict = variance_test(residuals, float(declared), error=VARIANCE_ERROR)
        seen = detectable_variance(verdict.coordinates, error=VARIANCE_ERROR)
        found.append(
            Finding(
                kind=Trial.VARIANCE,
                part=f"{part}: {what}",
                passed=not verdict.falsified,
                statistic=verdict.ratio,
                bound=f"within [{verdict.ratio_low:.4f}, {verdict.ratio_high:.4f}]",
                error_probability=verdict.error_probability,
                power=f"a noise deviation off by {seen:.1%} is caught with probability ≥ 0.9",
                samples=verdict.coordinates,
                note=f"p = {verdict.p_value:.2g}",
            )
        )
    return found


def clip_finding(part: str, moves: Mapping[str, float]) -> Finding:
    """An outsized canary moves the result by C and no further."""
    shortest, longest = min(moves.values()), max(moves.values())
    worst = longest if longest > CLIP_HIGH else shortest
    return Finding(
        kind=Trial.CLIP,
        part=part,
        passed=shortest >= CLIP_LOW and longest <= CLIP_HIGH,
        statistic=worst,
        bound=f"within [{CLIP_LOW:g}, {CLIP_HIGH:g}] of C",
        error_probability=0.0,
        power="a clip longer than C by 0.1 % or shorter by 3 %; none at all, or by layer; scaling by private counts",
        samples=len(moves),
        note=", ".join(f"{name} {move:.4f}" for name, move in moves.items()),
    )


def audited(parts: Sequence[Scores], delta: float) -> AuditedEpsilon:
    """The best lower bounds over several engines of one line; wrong with probability at most ``AUDIT_ERROR``."""
    error = AUDIT_ERROR / len(parts)
    found = [audited_epsilon(part.present, part.absent, delta, error=error) for part in parts]
    free = max(bound.distribution_free for bound in found)
    return AuditedEpsilon(free, max(bound.gaussian for bound in found), delta, AUDIT_ERROR)


def roc(scores: Scores, claim: ClaimedCurve) -> tuple[CurvePoint, ...]:
    """The empirical trade-off curve with a 99 % band (pointwise) and what the claim allows, for the plot."""
    cuts = np.quantile(np.concatenate(scores), np.linspace(0.001, 0.999, _CURVE_POINTS))[::-1]
    n, m = len(scores.present), len(scores.absent)
    hits = (n - np.searchsorted(np.sort(scores.present), cuts, side="right")).astype(np.float64)
    wrong = (m - np.searchsorted(np.sort(scores.absent), cuts, side="right")).astype(np.float64)
    low, high = rate_low(hits, n, BAND_ERROR / 2), rate_high(hits, n, BAND_ERROR / 2)
    allowed = claim.true_positives_max(wrong / m)
    columns = np.stack([wrong / m, hits / n, low, high, allowed], axis=1).tolist()
    names = ("false_positives", "true_positives", "true_positives_low", "true_positives_high", "claimed_max")
    return tuple(CurvePoint(**dict(zip(names, row, strict=True))) for row in columns)


def _slack(runs: int) -> float:
    """Width of both Clopper-Pearson bounds at perfect separation is 1 - error^(2/n) each; half way it is wider."""
    return float(2 * -np.log(CURVE_ERROR / 2) / max(runs / 2, 1))
