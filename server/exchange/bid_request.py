"""A bid request as far as this service reads it. Owns which fields those are.

**Privacy:** ``user.id``, ``buyeruid``, ``eids``, ``geo``, ``yob``, ``device.ip``, ``ifa`` and ``ua``, the page's full
address, its referrer and its search words are never read, so they can be neither used nor kept. A subject's handle is
read from ``user.ext.reticent.handle`` alone, where an app puts it for its own service.
**Source:** OpenRTB 2.6, section 3.2; Prebid.js 11, ``prebidServerBidAdapter``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from common.errors import MalformedInput
from server.decisions.request import POSITIONS_MAX
from server.exchange import native
from server.exchange.native import Asset
from server.exchange.reading import Node, child, is_plain, number, read_object, text, texts, whole
from server.exchange.regulations import Regulations, read_regulations

SEAT: Final = "reticent"
ID_MAX: Final = 128
BLOCKED_MAX: Final = 2_000
_SLOT: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
_SIDE_MAX: Final = 10_000
_TMAX_MS_MAX: Final = 60_000
_CHINESE: Final = "zh"


@dataclass(frozen=True, slots=True)
class Impression:
    """One ``imp``: a slot on somebody's page.

    Attributes:
        imp_id: as the exchange names it.
        slot_id: the same for us: the id itself where it has our form, else a digest of it.
        seat: which bidder of the exchange answers.
        size: width and height in pixels that it wants, if it says so.
        assets: what a native slot asks for; None: it takes HTML.
        floor: the least price per thousand; None where it cannot be read, so that no price is known to reach it.
        floor_currency: of the floor.
    """

    imp_id: str
    slot_id: str
    seat: str
    size: tuple[int, int] | None
    assets: tuple[Asset, ...] | None
    floor: float | None
    floor_currency: str


@dataclass(frozen=True, slots=True)
class BidRequest:
    """What is asked.

    Attributes:
        impressions: those that this service can fill at all.
        tmax_ms: how long the exchange waits, the way there and back included.
        currencies: in which a price is understood; none: any.
        blocked_categories: ``bcat``, codes of an IAB taxonomy.
        blocked_domains: ``badv``.
        is_test: nothing is billed.
        handle: of the person at the device, where the app says so.
        context: facts about the page, never about the person.
        locale: of the page, else of the device's surface.
    """

    request_id: str
    impressions: tuple[Impression, ...]
    regulations: Regulations
    tmax_ms: int | None = None
    currencies: frozenset[str] = frozenset()
    blocked_categories: tuple[str, ...] = ()
    blocked_domains: tuple[str, ...] = ()
    is_test: bool = False
    handle: object = None
    context: Mapping[str, Any] | None = None
    locale: str = "en"


def read_bid_request(body: bytes) -> BidRequest:
    """Understand a bid request.

    Raises:
        MalformedInput: it is no bid request; what is said names the field and never its value.
    """
    request = read_object(body)
    request_id = text(request, "id", longest=ID_MAX)
    if request_id is None:
        raise MalformedInput(f"a bid request has an id of at most {ID_MAX} characters")
    return BidRequest(
        request_id=request_id,
        impressions=_impressions(request.get("imp")),
        regulations=read_regulations(request),
        tmax_ms=whole(request, "tmax", least=1, most=_TMAX_MS_MAX),
        currencies=frozenset(texts(request, "cur", most=200)),
        blocked_categories=texts(request, "bcat", most=BLOCKED_MAX),
        blocked_domains=texts(request, "badv", most=BLOCKED_MAX),
        is_test=request.get("test") == 1,
        handle=child(request, "user", "ext", "reticent").get("handle"),
        context=_context(request),
        locale=_locale(request),
    )


def _impressions(found: object) -> tuple[Impression, ...]:
    if not isinstance(found, list) or not 1 <= len(found) <= POSITIONS_MAX:
        raise MalformedInput(f"imp is a list of 1 to {POSITIONS_MAX} impressions")
    read = [_impression(one) for one in found]
    if len({one.imp_id for one, _ in read}) != len(read):
        raise MalformedInput("the id of an imp occurs twice")
    return tuple(one for one, fillable in read if fillable)


def _impression(imp: object) -> tuple[Impression, bool]:
    """An impression, and whether it is of a kind that can be filled: a banner or a native ad."""
    if not isinstance(imp, dict) or (imp_id := text(imp, "id", longest=ID_MAX)) is None:
        raise MalformedInput(f"each imp is an object with an id of at most {ID_MAX} characters")
    banner = imp.get("banner")
    assets = native.read_assets(imp.get("native")) if not isinstance(banner, dict) else None
    floor = 0.0 if imp.get("bidfloor") is None else number(imp, "bidfloor")
    found = Impression(
        imp_id=imp_id,
        slot_id=imp_id if _SLOT.fullmatch(imp_id) else f"imp-{hashlib.sha256(imp_id.encode()).hexdigest()[:24]}",
        seat=_seat(imp),
        size=_size(banner) if isinstance(banner, dict) else None,
        assets=assets,
        floor=floor if floor is not None and floor >= 0 else None,
        floor_currency=text(imp, "bidfloorcur", longest=3) or "USD",
    )
    return found, isinstance(banner, dict) or assets is not None


def _seat(imp: Node) -> str:
    """The bidder that the page asked for: ours, or the one name that the page gave us."""
    asked = [name for name in child(imp, "ext", "prebid", "bidder") if _SLOT.fullmatch(name)]
    return asked[0] if len(asked) == 1 else SEAT


def _size(banner: Node) -> tuple[int, int] | None:
    """The first size, as pages list what they like best first."""
    formats = banner.get("format")
    listed = [one for one in formats if isinstance(one, dict)] if isinstance(formats, list) else []
    for one in (*listed[:1], banner):
        width = whole(one, "w", least=1, most=_SIDE_MAX)
        height = whole(one, "h", least=1, most=_SIDE_MAX)
        if width is not None and height is not None:
            return width, height
    return None


def _surface(request: Node) -> Node:
    """Where the slot is: a site or an app."""
    return child(request, "site") or child(request, "app")


def _context(request: Node) -> dict[str, Any]:
    """What the publisher says about the page: its own words, its domain, its first category."""
    surface = _surface(request)
    found: dict[str, Any] = {}
    if (domain := text(surface, "domain")) is not None:
        found["domain"] = domain
    categories = surface.get("cat")
    if isinstance(categories, list) and categories and isinstance(categories[0], str) and is_plain(categories[0]):
        found["site_category"] = categories[0][:64]
    return found | dict(child(surface, "ext", "reticent", "context"))


def _locale(request: Node) -> str:
    surface = child(_surface(request), "content")
    language = text(surface, "language") or text(child(request, "device"), "language") or ""
    return "zh-CN" if language.casefold().startswith(_CHINESE) else "en"
