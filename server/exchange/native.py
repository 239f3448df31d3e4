"""Native ads: a creative as assets that the page draws by itself. Owns the asset ids and what can be given.

What is asked for and cannot be given leaves the slot empty where it is required. Texts are plain: whoever draws them
escapes them. **Source:** IAB OpenRTB Native Ads 1.2, sections 4 and 5.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from server.exchange.reading import Node, child, is_flag, whole

_ASSETS_MAX: Final = 32
_REQUEST_MAX: Final = 20_000


class DataType(IntEnum):
    """Data assets of the specification that a creative has."""

    SPONSORED = 1
    DESCRIPTION = 2
    DISPLAY_URL = 11
    CALL_TO_ACTION = 12


@dataclass(frozen=True, slots=True)
class Asset:
    """One asset that a slot asks for; ``kind`` is ``title``, ``img``, ``data`` or something that no creative has."""

    asset_id: int
    kind: str
    required: bool
    data_type: int = 0
    longest: int | None = None


@dataclass(frozen=True, slots=True)
class NativeFacts:
    """What a creative has to fill assets with."""

    title: str
    description: str
    image_url: str
    image_alt: str
    sponsored: str
    domain: str
    call_to_action: str = ""


def read_assets(native: object) -> tuple[Asset, ...] | None:
    """What a native slot asks for; None where it is none, or its request cannot be read."""
    if not isinstance(native, dict):
        return None
    request = native.get("request")
    if isinstance(request, str) and len(request) <= _REQUEST_MAX:
        try:
            request = json.loads(request)
        except (ValueError, RecursionError):
            return None
    if not isinstance(request, dict):
        return None
    request = request["native"] if isinstance(request.get("native"), dict) else request
    listed = request.get("assets")
    if not isinstance(listed, list) or not 1 <= len(listed) <= _ASSETS_MAX:
        return None
    found = [_asset(one) for one in listed]
    return None if None in found else tuple(asset for asset in found if asset is not None)


def _asset(node: object) -> Asset | None:
    if not isinstance(node, dict) or (asset_id := whole(node, "id", least=0, most=2**31)) is None:
        return None
    kind = next((name for name in ("title", "img", "data", "video") if isinstance(node.get(name), dict)), "unknown")
    inner: Node = child(node, kind)
    return Asset(
        asset_id=asset_id,
        kind=kind,
        required=is_flag(node, "required"),
        data_type=whole(inner, "type", least=0, most=10_000) or 0,
        longest=whole(inner, "len", least=1, most=10_000),
    )


def fill(assets: tuple[Asset, ...], facts: NativeFacts) -> list[dict[str, Any]] | None:
    """The assets of a native response; None where a required one cannot be given."""
    filled = []
    for asset in assets:
        value = _value(asset, facts)
        if value is not None:
            filled.append({"id": asset.asset_id, "required": int(asset.required)} | value)
        elif asset.required:
            return None
    return filled or None


def _value(asset: Asset, facts: NativeFacts) -> dict[str, Any] | None:
    if asset.kind == "title":
        return {"title": {"text": _cut(facts.title, asset.longest)}}
    if asset.kind == "img" and facts.image_url.startswith("https://"):
        return {"img": {"type": asset.data_type or 3, "url": facts.image_url, "ext": {"alt": facts.image_alt}}}
    if asset.kind == "data" and (text := _TEXTS.get(asset.data_type, _nothing)(facts)):
        return {"data": {"type": asset.data_type, "value": _cut(text, asset.longest)}}
    return None


def _nothing(_facts: NativeFacts) -> str:
    return ""


_TEXTS: Final[Mapping[int, Callable[[NativeFacts], str]]] = {
    DataType.SPONSORED: lambda facts: facts.sponsored,
    DataType.DESCRIPTION: lambda facts: facts.description,
    DataType.DISPLAY_URL: lambda facts: facts.domain,
    DataType.CALL_TO_ACTION: lambda facts: facts.call_to_action,
}


def _cut(text: str, longest: int | None) -> str:
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"
