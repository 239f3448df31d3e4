"""A campaign's own terms: its dates, its regions, its frequency caps. Owns their meaning. Sees no person but its views.

They come with every creative in the signed catalogue, so a device keeps to them without asking anybody: what has ended
is not shown although the catalogue is older, and a region is what the page says, never what is known about somebody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from common.wire.messages import Creative
from policies.placement.inputs import Inputs

REGION: Final = "region"
"""The fact about a page that regions are compared with: a country (CN), or country and subdivision (US-CA)."""


def on_terms(creatives: Sequence[Creative], inputs: Inputs) -> Sequence[Creative]:
    """The creatives that may be shown now and here. Where it is unknown where one is, regional ones are not."""
    here = inputs.context.get(REGION, "")
    places = {here, here.partition("-")[0]} - {""}
    if all(c.starts_at is None and c.ends_at is None and not c.regions for c in creatives):
        return creatives
    return [c for c in creatives if _in_date(c, inputs.now) and (not c.regions or not places.isdisjoint(c.regions))]


def own_caps(creatives: Sequence[Creative], inputs: Inputs, now_shown: Mapping[str, int]) -> list[bool]:
    """Of each creative, whether one more view of it stays within its campaign's caps.

    Args:
        creatives: to be judged.
        inputs: with the earlier views.
        now_shown: views in the decision in the making, by campaign.
    """
    windows = {cap.window_hours for creative in creatives for cap in creative.caps}
    earlier: dict[float, Counter[str]] = {
        hours: Counter(view.campaign for view in inputs.shown if inputs.now - view.time < hours * 3600)
        for hours in windows
    }

    def within(creative: Creative) -> bool:
        campaign = inputs.campaign_of(creative)
        fresh = now_shown.get(campaign, 0)
        return all(earlier[cap.window_hours][campaign] + fresh < cap.views_max for cap in creative.caps)

    return [not creative.caps or within(creative) for creative in creatives]


def _in_date(creative: Creative, now: float) -> bool:
    return (creative.starts_at is None or creative.starts_at <= now) and (
        creative.ends_at is None or now < creative.ends_at
    )
