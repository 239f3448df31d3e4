"""IPS, SNIPS, DM and DR. Owns their formulas; each is a value and the influence of every turn on it.

Assumptions, all of them: the log's propensities are true; whatever the target policy shows, the logging policy
sometimes shows (``diagnostics`` measures where that fails); what one decision shows does not change another's reward;
in a slate, a turn's reward depends on that turn and those before it.

With several turns a decision, weights are products over the turns so far (``Sample``): RIPS of McInerney et al. 2020,
and for DR its sequential form.
"""

from __future__ import annotations

from collections.abc import Callable
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


def direct_method(sample: Sample) -> Estimate:
    """Direct method: V̂ = (1/n) Σ_i Σ_a π(a|x_i) q̂(x_i, a). As good as its model, and biased as it is.

    Its interval has two parts: contexts differ, and the model was fitted on rewards (``reward_model.effects``). It is
    that of the model's average, and never covers the bias of a model that is wrong: ``bias_of_model`` looks for that.
    Where the model was not fitted on this log, DR's influence values stand in, which is too wide.

    **Source:** Beygelzimer and Langford 2009, "The Offset Tree for Learning with Partial Labels".
    """
    value = float(sample.model_target.mean())
    fitted = sample.model_effect
    influence = _dr_terms(sample) if fitted is None else sample.model_target - value + fitted
    return with_interval("DM", value, influence, sample.clusters)


def bias_of_model(sample: Sample) -> Estimate:
    """DM minus DR: the model's bias for this target, with the interval of the difference.

    An interval without 0 says that the model is wrong where the target goes: believe DR then.
    """
    gap = -sample.weights * (sample.rewards - sample.model_shown)
    influence = gap if sample.model_effect is None else gap + sample.model_effect
    return with_interval("DM - DR", float(gap.mean()), influence, sample.clusters)


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


ESTIMATORS: Final[tuple[Callable[[Sample], Estimate], ...]] = (ips, snips, direct_method, doubly_robust)


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
