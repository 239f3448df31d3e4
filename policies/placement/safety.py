"""Category and brand safety. Owns what a surface refuses and what a page's own facts demand. Sees no person."""

from __future__ import annotations

from collections.abc import Sequence

from common.wire.messages import Creative
from policies.placement.document import EligibilityRules
from policies.placement.eligibility import folded
from policies.placement.inputs import Inputs


def safe(creatives: Sequence[Creative], rules: EligibilityRules, inputs: Inputs) -> tuple[Creative, ...]:
    """The creatives that the document, the surface and the page let through, in their order."""
    blocked = frozenset(map(folded, inputs.blocked_categories))
    allowed = frozenset(map(folded, rules.allowed_categories))
    refused = inputs.blocked_advertisers.union(rules.denied_advertisers)
    wanted = {name: folded(inputs.context[name]) for name in rules.match_context if name in inputs.context}
    if not (blocked or allowed or refused or wanted):
        return tuple(creatives)
    return tuple(
        creative
        for creative in creatives
        if folded(creative.category) not in blocked
        and (not allowed or folded(creative.category) in allowed)
        and creative.advertiser not in refused
        and all(_fact(creative, name) == fact for name, fact in wanted.items())
    )


def _fact(creative: Creative, name: str) -> str:
    return folded(creative.category if name == "category" else creative.attributes.get(name, ""))
