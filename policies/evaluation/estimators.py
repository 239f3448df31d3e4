"""IPS, SNIPS, DM, calibrated DM and DR. Owns their formulas: a value, and the influence of every turn on it.

DM has no interval. Its error is what its model is off by where the target goes, which its own spread does not know;
what is known of that is its distance to DR, which is told instead (``Modelled``).

Assumptions, all of them: the log's propensities are true; whatever the target policy shows, the logging policy
sometimes shows (``diagnostics`` measures where that fails); what one decision shows does not change another's reward;
in a slate, a turn's reward depends on that turn and those before it.

With several turns a decision, weights are products over the turns so far (``Sample``): RIPS of McInerney et al. 2020,
and for DR its sequential form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from policies.evaluation.intervals import Estimate, with_interval
from policies.evaluation.sample import Floats, Sample


def ips(sample: Sample) -> Estimate:
    """Inverse propensity score: V̂ = (1/n) Σ w_i r_i. Unbiased; its variance grows with the weights.

    **Source:** Horvitz and Thompson 1952; Precup, Sutton and Singh 2000.
    """
    terms = sample.weights * sample.rewards
    return with_interval("IPS", float(terms.mean()), terms, sample.clusters)


def snips(sample: Sample) -> Estimate:
    """Self-normalised IPS: V̂ = Σ w_i r_i / Σ w_i. Slightly biased, bounded by the rewards, usually narrower.

    What the target would leave unfilled counts in the sum of weights with reward 0 (``Sample.idle``). The influence is
    (w_i r_i - w_i V̂) / w̄ (delta method). Without any weight the value is NaN.

    **Source:** Swaminathan and Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning".
    """
    terms = _snips_terms(sample)
    return with_interval("SNIPS", float(terms.mean()), terms, sample.clusters)


@dataclass(frozen=True, slots=True)
class Modelled:
    """What a reward model says: a point, and no interval, because none would cover what the model is off by.

    Attributes:
        estimator: its name.
        value: the estimate.
        bias: DM minus DR: how far this model is off for this target, with the interval of that.
    """

    estimator: str
    value: float
    bias: Estimate

    @property
    def warning(self) -> str:
        """Why it stands here without an interval, in words."""
        bias = self.bias
        said = f"DM has no interval: it is as good as its model, and DM - DR is {bias.value:+.5f}"
        said += f" ({bias.low:+.5f} … {bias.high:+.5f})"
        return f"{said}; the model is wrong here, believe DR" if bias.low > 0 or bias.high < 0 else said


def direct_method(sample: Sample) -> Modelled:
    """Direct method: V̂ = (1/n) Σ_i Σ_a π(a|x_i) q̂(x_i, a). As good as its model, and biased as it is.

    The bias of the model at hand is E[w (q̂ - r)]; the model did not see the turns that it is averaged over
    (cross-fitting), so the interval of that mean holds whatever the model is.

    **Source:** Beygelzimer and Langford 2009, "The Offset Tree for Learning with Partial Labels".
    """
    gap = sample.weights * (sample.model_shown - sample.rewards)
    bias = with_interval("DM - DR", float(gap.mean()), gap, sample.clusters)
    return Modelled("DM", float(sample.model_target.mean()), bias)


def calibrated_method(sample: Sample) -> Estimate:
    """Calibrated DM: the direct method of c·q̂, where c = Σ w r / Σ w q̂ makes the model right on average for the target.

    Right whatever the model is, if the propensities are true; what is left of the model is how it tells contexts apart.
    The influence is c (m_i - m̄) + (m̄ / B) (w_i r_i - c w_i q̂_i), m_i = Σ_a π(a|x_i) q̂(x_i, a), B = mean of w q̂; how
    q̂ was fitted drops out, since m̄ and B move together. Without any weight on a positive prediction the value is NaN.

    **Source:** Cassel, Särndal and Wretman 1976 (ratio form of the generalised difference estimator); Robins, Sued,
    Lei-Gomez and Rotnitzky 2007; van der Laan and Rubin 2006 (targeting a fitted model at one parameter).
    """
    earned, said, model = sample.weights * sample.rewards, sample.weights * sample.model_shown, sample.model_target
    base, mean = float(said.mean()), float(model.mean())
    factor = float(earned.mean()) / base if base > 0 else float("nan")
    influence = factor * (model - mean) + (mean / base if base > 0 else 0.0) * (earned - factor * said)
    return with_interval("calibrated DM", factor * mean, influence, sample.clusters)


def doubly_robust(sample: Sample) -> Estimate:
    """Doubly robust: V̂ = (1/n) Σ_i [ Σ_a π(a|x_i) q̂(x_i, a) + w_i (r_i - q̂(x_i, a_i)) ].

    Unbiased with true propensities whatever the model, if the model did not see the turn it is used on (cross-fitting).

    **Source:** Dudík, Langford and Li 2011, "Doubly Robust Policy Evaluation and Learning".
    """
    terms = _dr_terms(sample)
    return with_interval("DR", float(terms.mean()), terms, sample.clusters)


def on_policy(sample: Sample) -> Estimate:
    """What the logging policy itself earned: the mean reward."""
    return with_interval("logged", float(sample.rewards.mean()), sample.rewards, sample.clusters)


ESTIMATORS: Final[tuple[Callable[[Sample], Estimate], ...]] = (ips, snips, calibrated_method, doubly_robust)
"""Those with an interval that holds; ``direct_method`` has none."""


def difference(one: Sample, other: Sample) -> list[Estimate]:
    """``one`` minus ``other``, both seen from the same log: paired turn by turn, so that common noise cancels.

    Raises:
        ValueError: the samples are not of one log.
    """
    if len(one) != len(other) or not np.array_equal(one.rewards, other.rewards):
        raise ValueError("two samples are compared on one log")
    found = []
    for name, terms in (("IPS", _ips_terms), ("SNIPS", _snips_terms), ("DR", _dr_terms)):
        gap = terms(one) - terms(other)
        found.append(with_interval(name, float(gap.mean()), gap, one.clusters))
    return found


def _ips_terms(sample: Sample) -> Floats:
    return sample.weights * sample.rewards


def _snips_terms(sample: Sample) -> Floats:
    """Value plus influence: their mean is the value."""
    weights, earned = sample.weights + sample.idle, sample.weights * sample.rewards
    mean = float(weights.mean())
    if mean == 0:
        return np.full(len(sample), np.nan)
    value = float(earned.mean()) / mean
    return np.asarray(value + (earned - weights * value) / mean)


def _dr_terms(sample: Sample) -> Floats:
    return sample.model_target + sample.weights * (sample.rewards - sample.model_shown)
