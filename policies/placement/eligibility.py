"""What may be shown at all. Owns the filters that run before anything is scored.

They look at the catalogue and the policy only, never at a person: the list of candidates is the same for everybody.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable

from common.wire.messages import Creative
from policies.placement.document import EligibilityRules

_latest: tuple[tuple[Creative, ...], EligibilityRules, tuple[Creative, ...]] | None = None
"""The last catalogue that was filtered: it stays the same for many decisions."""


def eligible(creatives: Iterable[Creative], rules: EligibilityRules) -> tuple[Creative, ...]:
    """The creatives that pass every rule, each id once, in the order of the catalogue."""
    global _latest  # noqa: PLW0603 - one assignment of one tuple, which is whole for every thread
    known = _latest
    if known is not None and known[0] is creatives and known[1] == rules:
        return known[2]
    found = _filtered(creatives, rules)
    if isinstance(creatives, tuple):  # and so the same for as long as it is the same object
        _latest = (creatives, rules, found)
    return found


def _filtered(creatives: Iterable[Creative], rules: EligibilityRules) -> tuple[Creative, ...]:
    denied = frozenset(folded(category) for category in rules.denied_categories)
    first: dict[str, Creative] = {}
    for creative in creatives:
        first.setdefault(creative.creative_id, creative)
    return tuple(creative for creative in first.values() if _passes(creative, rules, denied))


def running(creatives: Iterable[Creative], stopped: Container[str]) -> tuple[Creative, ...]:
    """The creatives that nobody has stopped, by their campaign, by their advertiser (all of its), or one by one."""
    return tuple(
        one
        for one in creatives
        if one.campaign_id not in stopped and one.advertiser not in stopped and one.creative_id not in stopped
    )


def _passes(creative: Creative, rules: EligibilityRules, denied: frozenset[str]) -> bool:
    if folded(creative.category) in denied:
        return False
    languages = rules.languages or tuple(creative.title)
    if rules.require_label and not (languages and all(creative.label.get(language) for language in languages)):
        return False
    return all(creative.title.get(language) and creative.description.get(language) for language in languages)


@functools.lru_cache(maxsize=4096)
def folded(text: str) -> str:
    """Case, spaces, underscores and hyphens do not make another category."""
    return " ".join(text.casefold().replace("_", " ").replace("-", " ").split())
