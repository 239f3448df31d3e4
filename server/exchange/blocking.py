"""What a page refuses (``bcat``, ``badv``), in the words of our catalogue. Owns the comparison of both vocabularies.

A code blocks itself and what is below it (``IAB8`` blocks ``IAB8-5``). A creative has the codes of its attribute
``iab``; whoever has none is still recognised by the words of its category and tags, for what pages block most.
**Source:** OpenRTB 2.6, section 3.2.1; IAB Content Taxonomy 1.0 (OpenRTB 2.5, list 5.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

from common.wire.messages import Creative

CODES_ATTRIBUTE: Final = "iab"
_WORDS: Final[Mapping[str, str]] = {
    "IAB7-39": "sexual sexuality",
    "IAB8-5": "alcohol beer beers ale ales cocktail cocktails liquor spirits whisky vodka 啤酒 酒",
    "IAB8-18": "alcohol wine wines 葡萄酒 酒",
    "IAB9-7": "gambling casino poker betting lottery 博彩 彩票",
    "IAB9-9": "cigar cigars cigarette cigarettes tobacco 香烟 烟草",
    "IAB11-4": "politics political election 政治",
    "IAB14-1": "dating 交友",
    "IAB17-18": "hunting shooting weapons firearms",
    "IAB23": "religion religious 宗教",
    "IAB25-3": "adult pornography 色情",
}


def codes(creative: Creative) -> frozenset[str]:
    """IAB codes of a creative: its own, and those that its words stand for."""
    own = creative.attributes.get(CODES_ATTRIBUTE, "").split()
    words = frozenset(re.split(r"[^\w]+", " ".join((creative.category, *creative.tags)).casefold()))
    meant = (code for code, listed in _WORDS.items() if not words.isdisjoint(listed.split()))
    return frozenset((*own, *meant))


def own_codes(creative: Creative) -> tuple[str, ...]:
    """The codes that the advertiser declared."""
    return tuple(creative.attributes.get(CODES_ATTRIBUTE, "").split())


def domain(creative: Creative) -> str:
    """Host of the page that an ad leads to, without ``www.``."""
    return (urlsplit(creative.landing_url).hostname or "").removeprefix("www.")


def category_is_blocked(creative: Creative, blocked: Iterable[str]) -> bool:
    """Whether one of a creative's codes, or its category itself, is blocked."""
    mine = codes(creative) | {creative.category}
    return any(code == own or own.startswith(f"{code}-") for code in blocked for own in mine)


def advertiser_is_blocked(creative: Creative, blocked: Iterable[str]) -> bool:
    """Whether the advertiser's domain, one above it, or its name is blocked."""
    host = domain(creative)
    names = (one.casefold().removeprefix("www.") for one in blocked)
    return any(host == one or host.endswith(f".{one}") or creative.advertiser.casefold() == one for one in names)
