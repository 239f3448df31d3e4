"""Why this ad: how much each group of a person's own signals moved a score. Computed here, kept here, never sent.

A group is a family of behaviour and what it has in common with the ad (``bought`` and ``category``). Its effect is what
the score's log-odds lose when the group is absent and all else stays; effects need not add up, and the page says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from torch import nn

from client.placement import Installed
from client.scoring import score, score_contextual
from client.store.placements import PlacedAd, SignalEffect
from common.model.examples import Examples
from common.model.feature_spec import PERSONAL_INTERCEPT, FeatureSpec
from common.taxonomy import FeatureBlock
from common.wire.messages import Creative
from policies.placement.protocol import Placement

SIGNALS_MAX: Final = 5
_LEAST: Final = 0.005
"""Smaller effects than this are noise in anybody's eyes, and are not named."""


@dataclass(frozen=True, slots=True)
class Why:
    """What spoke for one ad: its score, its score from the page alone, and the strongest groups of signals."""

    score: float
    contextual: float
    signals: tuple[SignalEffect, ...]


def placed_ads(
    network: nn.Module,
    examples: Examples,
    spec: FeatureSpec,
    chosen: Sequence[tuple[Placement, Creative]],
    *,
    installed: Installed,
    now: float,
) -> list[PlacedAd]:
    """What the owner's page will say about ads that were just chosen.

    Args:
        network: computes Y.
        examples: one per chosen ad, personal view.
        spec: what they are made by.
        chosen: placements with their creatives.
        installed: model and policy that chose them.
        now: seconds since the epoch.
    """
    return [
        PlacedAd(
            time=now,
            slot_id=placement.slot_id,
            creative_id=creative.creative_id,
            title=creative.title,
            category=creative.category,
            advertiser=creative.advertiser,
            payer=creative.payer,
            model_version=installed.model_version,
            policy_digest=installed.policy_digest,
            score=why.score,
            contextual=why.contextual,
            propensity=placement.propensity,
            signals=why.signals,
        )
        for (placement, creative), why in zip(chosen, explain(network, examples, spec), strict=True)
    ]


def explain(network: nn.Module, examples: Examples, spec: FeatureSpec) -> list[Why]:
    """One explanation per example, from one pass over all of them with each group of signals absent in turn.

    Args:
        network: computes Y.
        examples: ``n`` examples of the ads that were chosen, personal view.
        spec: what they are made by.

    Raises:
        SpecMismatch, ContractError: the examples are not of this specification.
    """
    if not len(examples):
        return []
    scores, page = score(network, examples, spec), score_contextual(network, examples, spec)
    whole = _log_odds(scores)
    effects = {
        group: whole - _log_odds(score(network, _absent(examples, columns), spec))
        for group, columns in _groups(spec).items()
    }
    return [
        Why(
            float(scores[row]), float(page[row]), _strongest({group: float(one[row]) for group, one in effects.items()})
        )
        for row in range(len(examples))
    ]


def _strongest(effects: Mapping[tuple[str, str], float]) -> tuple[SignalEffect, ...]:
    named = [SignalEffect(*group, round(effect, 4)) for group, effect in effects.items() if abs(effect) >= _LEAST]
    return tuple(sorted(named, key=lambda signal: -abs(signal.effect))[:SIGNALS_MAX])


def _groups(spec: FeatureSpec) -> dict[tuple[str, str], list[int]]:
    """Personal numeric columns by family and attribute; the constant that every personal view has is no signal."""
    groups: dict[tuple[str, str], list[int]] = {}
    for column, number in enumerate(spec.numeric):
        parts = number.name.split(".")
        if number.block is FeatureBlock.PERSONAL and parts[-1] != PERSONAL_INTERCEPT:
            group = (parts[0], parts[1] if len(parts) > 1 else parts[0])
            groups.setdefault(group, []).append(column)
    return groups


def _absent(examples: Examples, columns: list[int]) -> Examples:
    numeric = examples.numeric.copy()
    numeric[:, columns] = 0
    return Examples(
        categorical=examples.categorical,
        numeric=numeric,
        labels=examples.labels,
        times=examples.times,
        spec_digest=examples.spec_digest,
    )


def _log_odds(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    inside = np.clip(probabilities, 1e-9, 1 - 1e-9)
    return np.asarray(np.log(inside / (1 - inside)))
