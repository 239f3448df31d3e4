"""Distribution functions of Beta posteriors, quickly. Owns their tables; how they are used is ``thompson``'s.

A Beta distribution's incomplete integral is slow to compute and is needed at thousands of places. On the scale of
s = √x its deviation hardly depends on its mean; where its density has no end at 0, a smaller power straightens it.
On that scale, ``NODES`` exact values and slopes with a cubic between them are within 1e-5 of the integral (a test holds
them against it). What is steep at 1, or hardly anywhere but at 0, is computed as it is.

**Source:** Anscombe 1948, "The transformation of Poisson, binomial and negative-binomial data", for the scale;
Fritsch and Carlson 1980 for the cubic.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
NODES: Final = 64
ALPHA_MIN: Final = 0.05
BETA_MIN: Final = 6.0
_KEPT_MAX: Final = 1024
_Row = tuple[Floats, Floats]
_rows: dict[tuple[float, float], _Row] = {}
"""Tables of late: a candidate keeps its posterior from one position of a decision to the next."""


def below(alpha: Floats, beta: Floats, places: Floats, spans: tuple[Floats, Floats]) -> Floats:
    """P(B ≤ place) of independent Beta variables.

    Args:
        alpha: shapes, float64 ``[n]``, as ``beta``.
        beta: see there.
        places: in [0, 1], in order, float64 ``[n, m]``.
        spans: where each has all its mass but what is negligible, float64 ``[n]`` each.

    Returns:
        Float64 ``[n, m]``, never decreasing along a row.
    """
    lows, highs = spans
    found = np.empty_like(places)
    steep = (alpha < ALPHA_MIN) | (beta < BETA_MIN) | (highs <= lows)
    for row in np.flatnonzero(steep):
        found[row] = _exact(alpha[row], beta[row], places[row], lows[row], highs[row])
    smooth = np.flatnonzero(~steep)
    if len(smooth):
        found[smooth] = _between(alpha[smooth], beta[smooth], places[smooth], lows[smooth], highs[smooth])
    return found


def _exact(alpha: float, beta: float, places: Floats, low: float, high: float) -> Floats:
    from scipy.special import betainc

    values = (places >= high).astype(np.float64)
    inside = (places > low) & (places < high)
    values[inside] = betainc(alpha, beta, places[inside])
    return values


def _between(alpha: Floats, beta: Floats, places: Floats, lows: Floats, highs: Floats) -> Floats:
    """Cubic Hermite interpolation on the scale of a power of x."""
    power = np.minimum(0.5, alpha / 2)
    first, last = lows**power, highs**power
    width = ((last - first) / (NODES - 1))[:, None]
    scaled = np.sqrt(places) if (power == 0.5).all() else places ** power[:, None]
    at = np.clip((scaled - first[:, None]) / width, 0, NODES - 1)
    left = np.minimum(at.astype(np.intp), NODES - 2)
    t = at - left
    cell = left + (NODES - 1) * np.arange(len(alpha))[:, None]
    c0, c1, c2, c3 = (part.ravel()[cell] for part in _cubics(*_tables(alpha, beta, first, last), width))
    cubic = c0 + t * (c1 + t * (c2 + t * c3))
    return np.asarray(np.clip(np.maximum.accumulate(cubic, axis=1), 0, 1))


def _cubics(values: Floats, slopes: Floats, width: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Coefficients of the cubic in each cell, by powers of its own coordinate, float64 ``[n, NODES - 1]`` each."""
    rise, start, end = np.diff(values, axis=1), slopes[:, :-1] * width, slopes[:, 1:] * width
    return values[:, :-1], start, 3 * rise - 2 * start - end, start + end - 2 * rise


def _tables(alpha: Floats, beta: Floats, first: Floats, last: Floats) -> _Row:
    """Values and slopes at the nodes, float64 ``[n, NODES]`` each; what was computed of late is not computed again."""
    keys = list(zip(alpha.tolist(), beta.tolist(), strict=True))
    missing = [i for i, key in enumerate(keys) if key not in _rows]
    if missing:
        if len(_rows) + len(missing) > _KEPT_MAX:
            _rows.clear()
            missing = list(range(len(keys)))
        values, slopes = _computed(alpha[missing], beta[missing], first[missing], last[missing])
        _rows.update({keys[i]: (values[j], slopes[j]) for j, i in enumerate(missing)})
    rows = [_rows[key] for key in keys]
    return np.stack([row[0] for row in rows]), np.stack([row[1] for row in rows])


def _computed(alpha: Floats, beta: Floats, first: Floats, last: Floats) -> _Row:
    """With x = s^q: dF/ds = q · s^(αq - 1) · (1 - x)^(β - 1) / B(α, β)."""
    from scipy.special import betainc, betaln

    a, b, q = alpha[:, None], beta[:, None], 1 / np.minimum(0.5, alpha / 2)[:, None]
    log_s = np.log(np.linspace(first, last, NODES, axis=1))
    x = np.clip(np.exp(q * log_s), 0, 1 - 1e-16)
    slopes = q * np.exp((a * q - 1) * log_s + (b - 1) * np.log1p(-x) - betaln(a, b))
    values = betainc(a, b, x)
    values[:, 0], values[:, -1] = 0.0, 1.0
    return values, slopes
