"""Category and brand safety. Owns what a surface refuses, what a page demands, what an owner switched off."""

from __future__ import annotations

from collections.abc import Sequence

from common.wire.messages import Creative
from policies.placement.document import EligibilityRules
from policies.placement.eligibility import folded
from policies.placement.inputs import Inputs
from policies.placement.terms import on_terms


def safe(creatives: Sequence[Creative], rules: EligibilityRules, inputs: Inputs) -> tuple[Creative, ...]:
    """The creatives that their terms, the document, the surface and the page let through, in their order."""
    creatives = on_terms(creatives, inputs)
    if inputs.personal:
        creatives = [creative for creative in creatives if creative.personal]
    blocked = frozenset(map(folded, inputs.blocked_categories))
    allowed = frozenset(map(folded, rules.allowed_categories))
    refused = inputs.blocked_advertisers.union(rules.denied_advertisers)
    off = frozenset(map(folded, inputs.refused_tags))
    wanted = {name: folded(inputs.context[name]) for name in rules.match_context if name in inputs.context}
    if not (blocked or allowed or refused or off or wanted):
        return tuple(creatives)
    return tuple(
        creative
        for creative in creatives
        if folded(creative.category) not in blocked
        and (not allowed or folded(creative.category) in allowed)
        and creative.advertiser not in refused
        and (not off or off.isdisjoint(tags_of(creative)))
        and all(_fact(creative, name) == fact for name, fact in wanted.items())
    )


def tags_of(creative: Creative) -> frozenset[str]:
    """The topics by which a creative can be switched off, folded: its tags and its category."""
    return frozenset(map(folded, (creative.category, *creative.tags)))


def _fact(creative: Creative, name: str) -> str:
    return folded(creative.category if name == "category" else creative.attributes.get(name, ""))
