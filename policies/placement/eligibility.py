"""What may be shown at all. Owns the filters that run before anything is scored.

They look at the catalogue and the policy only, never at a person: the list of candidates is the same for everybody.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterable

from common.wire.messages import Creative
from policies.placement.document import EligibilityRules


def eligible(creatives: Iterable[Creative], rules: EligibilityRules) -> tuple[Creative, ...]:
    """The creatives that pass every rule, each id once, in the order of the catalogue."""
    denied = frozenset(folded(category) for category in rules.denied_categories)
    first: dict[str, Creative] = {}
    for creative in creatives:
        first.setdefault(creative.creative_id, creative)
    return tuple(creative for creative in first.values() if _passes(creative, rules, denied))


def running(creatives: Iterable[Creative], stopped: Container[str]) -> tuple[Creative, ...]:
    """The creatives of campaigns that nobody has stopped; a campaign is named by its advertiser, or by one creative."""
    return tuple(one for one in creatives if one.advertiser not in stopped and one.creative_id not in stopped)


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
