"""Frequency caps. Owns counting of views by rule, earlier ones and those of the decision in the making.

A cap needs a memory of what somebody saw, so it lives on the device; a service that knows nobody counts only within
one decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from common.wire.messages import Creative
from policies.placement.document import CapRule, CapScope
from policies.placement.eligibility import folded
from policies.placement.inputs import Inputs, Shown

Views = Counter[tuple[int, str]]
"""Views so far by number of the rule and what it counts together."""


def as_shown(creative: Creative, inputs: Inputs) -> Shown:
    """A creative as it will be counted once it is shown now."""
    return Shown(creative.creative_id, inputs.campaign_of(creative), creative.advertiser, creative.category, inputs.now)


def counted(rules: Sequence[CapRule], inputs: Inputs) -> Views:
    """Earlier views inside each rule's window, which ends now; a view with a later time counts too."""
    return Counter(
        (number, _key(rule.scope, view))
        for number, rule in enumerate(rules)
        for view in inputs.shown
        if inputs.now - view.time < rule.window_hours * 3600
    )


def allowed(rules: Sequence[CapRule], views: Views, creatives: Sequence[Creative], inputs: Inputs) -> list[bool]:
    """Of each creative, whether one more view of it stays within every rule."""
    full = [
        (rule.scope, frozenset(key for (n, key), count in views.items() if n == number and count >= rule.views_max))
        for number, rule in enumerate(rules)
    ]
    full = [(scope, keys) for scope, keys in full if keys]
    if not full:
        return [True] * len(creatives)
    return [all(_key_of(scope, creative, inputs) not in keys for scope, keys in full) for creative in creatives]


def with_view(rules: Sequence[CapRule], views: Views, view: Shown) -> Views:
    """The counts after one more view."""
    return views + Counter((number, _key(rule.scope, view)) for number, rule in enumerate(rules))


def _key_of(scope: CapScope, creative: Creative, inputs: Inputs) -> str:
    if scope is CapScope.CREATIVE:
        return creative.creative_id
    if scope is CapScope.CAMPAIGN:
        return inputs.campaign_of(creative)
    return creative.advertiser if scope is CapScope.ADVERTISER else folded(creative.category)


def _key(scope: CapScope, view: Shown) -> str:
    if scope is CapScope.CREATIVE:
        return view.creative_id
    if scope is CapScope.CAMPAIGN:
        return view.campaign
    return view.advertiser if scope is CapScope.ADVERTISER else folded(view.category)
