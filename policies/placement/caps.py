"""Frequency caps. Owns counting of views by rule, earlier ones and those of the decision in the making.

A cap needs a memory of what somebody saw, so it lives on the device; a service that knows nobody counts only within
one decision.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from common.wire.messages import Creative
from policies.placement.document import CapRule, CapScope
from policies.placement.eligibility import folded
from policies.placement.inputs import Inputs, Shown
from policies.placement.terms import own_caps

Views = Counter[tuple[int, str]]
"""Views so far by number of the rule and what it counts together."""
_NOW: Final = -1  # in place of a rule's number: views in the decision in the making, by campaign


def as_shown(creative: Creative, inputs: Inputs) -> Shown:
    """A creative as it will be counted once it is shown now."""
    return Shown(creative.creative_id, inputs.campaign_of(creative), creative.advertiser, creative.category, inputs.now)


def counted(rules: Sequence[CapRule], inputs: Inputs) -> Views:
    """Earlier views inside each rule's window, which ends now; a view with a later time counts too."""
    views: Views = Counter()
    for number, rule in enumerate(rules):
        recent = [view for view in inputs.shown if inputs.now - view.time < rule.window_hours * 3600]
        for key, count in Counter(_key(rule.scope, view) for view in recent).items():
            views[number, key] = count
    return views


def allowed(rules: Sequence[CapRule], views: Views, creatives: Sequence[Creative], inputs: Inputs) -> list[bool]:
    """Of each creative, whether one more view of it stays within every rule and its own campaign's caps."""
    within = _within(rules, views, creatives, inputs)
    if not any(creative.caps for creative in creatives):
        return within
    now_shown = {campaign: count for (number, campaign), count in views.items() if number == _NOW}
    return [a and b for a, b in zip(within, own_caps(creatives, inputs, now_shown), strict=True)]


def _within(rules: Sequence[CapRule], views: Views, creatives: Sequence[Creative], inputs: Inputs) -> list[bool]:
    within = [True] * len(creatives)
    for number, rule in enumerate(rules):
        full = {key for (n, key), count in views.items() if n == number and count >= rule.views_max}
        if full:
            keys = _keys(rule.scope, creatives, inputs)
            within = [ok and key not in full for ok, key in zip(within, keys, strict=True)]
    return within


def _keys(scope: CapScope, creatives: Sequence[Creative], inputs: Inputs) -> list[str]:
    """What each creative is counted under; written out, because it is asked of a thousand at a time."""
    if scope is CapScope.CREATIVE:
        return [one.creative_id for one in creatives]
    if scope is CapScope.ADVERTISER:
        return [one.advertiser for one in creatives]
    if scope is CapScope.CATEGORY:
        return [folded(one.category) for one in creatives]
    campaigns = inputs.campaigns
    return [campaigns.get(one.creative_id) or one.campaign_id or one.advertiser for one in creatives]


def with_view(rules: Sequence[CapRule], views: Views, view: Shown) -> Views:
    """The counts after one more view."""
    more = views.copy()
    more.update((number, _key(rule.scope, view)) for number, rule in enumerate(rules))
    more[_NOW, view.campaign] += 1
    return more


def filled_by(rules: Sequence[CapRule], views: Views, view: Shown) -> Views:
    """Of the counts, what one view has filled up: its keys that reached their rule's limit, and campaigns' own."""
    keys = [(number, _key(rule.scope, view)) for number, rule in enumerate(rules)]
    full = {key: views[key] for key in keys if views[key] >= rules[key[0]].views_max}
    return Counter(full | {key: count for key, count in views.items() if key[0] == _NOW})


def is_full(changed: Views) -> bool:
    """Whether any of the policy's rules is at its limit in these counts of ``filled_by``."""
    return any(number != _NOW for number, _ in changed)


def _key(scope: CapScope, view: Shown) -> str:
    if scope is CapScope.CREATIVE:
        return view.creative_id
    if scope is CapScope.CAMPAIGN:
        return view.campaign
    return view.advertiser if scope is CapScope.ADVERTISER else folded(view.category)
