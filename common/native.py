"""A creative as the assets of a native ad. Owns which text is which asset; escapes nothing, for it makes no markup.

**Source:** IAB OpenRTB Dynamic Native Ads API 1.2, response object; its tables of data and image asset types.
"""

from __future__ import annotations

from typing import Any, Final

from common.rendering import HEIGHT_PX, WIDTH_PX, text_in
from common.wire.messages import Creative

_SPONSORED, _DESCRIPTION, _ACTION = 1, 2, 12
_MAIN_IMAGE: Final = 3


def native_assets(creative: Creative, locale: str, *, base_url: str = "") -> dict[str, Any]:
    """The native response.

    Args:
        creative: what is shown.
        locale: in which language.
        base_url: the service's own address, before the picture's path.
    """
    assets: list[dict[str, Any]] = [
        {"id": 1, "required": 1, "title": {"text": text_in(creative.title, locale)}},
        {
            "id": 2,
            "img": {
                "type": _MAIN_IMAGE,
                "url": f"{base_url}{creative.image_url}",
                "w": WIDTH_PX,
                "h": HEIGHT_PX,
                "ext": {"alt": text_in(creative.image_alt, locale)},
            },
        },
        {"id": 3, "data": {"type": _DESCRIPTION, "value": text_in(creative.description, locale)}},
        {"id": 4, "required": 1, "data": {"type": _SPONSORED, "value": creative.payer}},
    ]
    action = text_in(creative.call_to_action, locale)
    if action:
        assets.append({"id": 5, "data": {"type": _ACTION, "value": action}})
    label = text_in(creative.label, locale)
    return {"ver": "1.2", "assets": assets, "link": {"url": creative.landing_url}, "ext": {"label": label}}
