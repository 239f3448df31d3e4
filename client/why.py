"""Why this ad: how much each group of a person's own signals moved a score. Computed here, kept here, never sent.

A group is a family of behaviour and what it has in common with the ad (``bought`` and ``category``). Its effect is what
the score's log-odds lose when the group is absent and all else stays; effects need not add up, and the page says so.
Beside them stand whole families, whose shares do add up (``client.attributions``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from torch import nn

from client.attributions import Columns, Method, attribute, log_odds, without
from client.placement import Chosen
from client.placing import Visit
from client.scoring import score, score_contextual
from client.store.placed import FamilyEffect, PlacedAd, SignalEffect
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
    """What spoke for one ad.

    Attributes:
        score: Y; ``contextual`` is Y from the page alone.
        signals: the strongest groups of signals.
        base, families, method: the same score as a sum; see ``client.attributions``.
    """

    score: float
    contextual: float
    signals: tuple[SignalEffect, ...]
    base: float
    families: tuple[FamilyEffect, ...]
    method: Method


def placed_ads(
    network: nn.Module,
    examples: Examples,
    spec: FeatureSpec,
    filled: Sequence[tuple[Placement, Creative]],
    *,
    chosen: Chosen,
    visit: Visit,
) -> list[PlacedAd]:
    """What the owner's page will say about ads that were just chosen.

    Args:
        network: computes Y.
        examples: one per ad, personal view.
        spec: what they are made by.
        filled: placements with their creatives.
        chosen: the decision that placed them.
        visit: when and where.
    """
    return [
        PlacedAd(
            time=visit.now,
            slot_id=placement.slot_id,
            creative_id=creative.creative_id,
            title=creative.title,
            category=creative.category,
            advertiser=creative.advertiser,
            payer=creative.payer,
            model_version=chosen.permit.model_version,
            policy_digest=chosen.record.policy_digest,
            score=why.score,
            contextual=why.contextual,
            propensity=placement.propensity,
            signals=why.signals,
            decision_id=chosen.permit.decision_id,
            position=placement.position,
            campaign=chosen.record.inputs.campaign_of(creative),
            item=creative.item_id,
            attributes=creative.attributes,
            numbers=creative.numbers,
            tags=creative.tags,
            context=dict(visit.context),
            base=why.base,
            families=why.families,
            method=why.method.value,
        )
        for (placement, creative), why in zip(filled, explain(network, examples, spec), strict=True)
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
    whole = log_odds(scores)
    effects = {
        group: whole - log_odds(score(network, without(examples, Columns(numeric=tuple(columns)), spec), spec))
        for group, columns in _groups(spec).items()
    }
    shares = attribute(network, examples, spec)
    return [
        Why(
            score=float(scores[row]),
            contextual=float(page[row]),
            signals=_strongest({group: float(one[row]) for group, one in effects.items()}),
            base=float(shares.base[row]),
            families=tuple(FamilyEffect(name, float(one[row])) for name, one in shares.effects.items()),
            method=shares.method,
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
