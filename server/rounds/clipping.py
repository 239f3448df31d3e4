"""Adaptive clipping. Owns how a noisy count of devices within the clip moves the clip; pure.

**Source:** Andrew, Thakkar, McMahan, Ramaswamy, "Differentially Private Learning with Adaptive Clipping" (NeurIPS
2021), algorithm 1: the geometric update C ← C · exp(−η · (b̄ − γ)).
"""

from __future__ import annotations

import math

from policies.schema import ClipQuantile


def fraction_within(noisy_sum: float, devices: int) -> float:
    """Share of devices whose update was within the clip, from the noisy sum of (indicator − ½).

    **Privacy:** post-processing of a release that was paid for; the noise may carry it outside [0, 1].
    """
    return noisy_sum / devices + 0.5


def next_clip(clip: float, fraction: float, policy: ClipQuantile) -> float:
    """The clip of the next round, within the policy's bounds.

    Args:
        clip: C of this round, in model-weight units.
        fraction: noisy share of devices within it.
        policy: target quantile γ, learning rate η and bounds.
    """
    step = -policy.learning_rate * (min(max(fraction, 0.0), 1.0) - policy.target_quantile)
    return min(max(clip * math.exp(step), policy.clipping_norm_min), policy.clipping_norm_max)
