"""How a creative looks. Owns its picture and its HTML, the same on the device and in the service.

Everything is made from the catalogue's text alone: the fragment loads nothing, so showing an ad tells nobody about it.
All text is escaped; the label stands beside the ad in the reader's language. It closes with one click and without any
script: a form with ``method="dialog"`` closes the dialog that it is in, also where scripts are forbidden.
"""

from __future__ import annotations

import colorsys
import hashlib
from html import escape
from typing import Final

from common.wire.messages import Creative

FALLBACK_LOCALE: Final = "en"
WIDTH_PX: Final = 320
HEIGHT_PX: Final = 160
_LINE_CHARACTERS: Final = 26
_CLOSE: Final = {"en": "Close this ad", "zh-CN": "关闭广告"}
_BY: Final = {"en": "Advertiser", "zh-CN": "广告主"}
_BOX: Final = "position:static;margin:0;padding:.5em;border:1px solid"
_PAID: Final = {"en": "Paid for by", "zh-CN": "付费方"}


def text_in(texts: dict[str, str], locale: str) -> str:
    """The text in a language, else in English, else in any, else nothing."""
    return texts.get(locale) or texts.get(FALLBACK_LOCALE) or next(iter(texts.values()), "")


def picture(creative: Creative, locale: str) -> str:
    """A small SVG drawn from the creative's title and category; colours follow from its id."""
    hue = hashlib.sha256(creative.creative_id.encode()).digest()[0] / 255
    dark, light = _colour(hue, 0.32), _colour((hue + 0.08) % 1, 0.52)
    lines = _wrapped(text_in(creative.title, locale))
    rows = "".join(
        f'<text x="20" y="{70 + 30 * row}" font-size="22" font-weight="bold">{_shown(line)}</text>'
        for row, line in enumerate(lines)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {HEIGHT_PX}" width="{WIDTH_PX}" '
        f'height="{HEIGHT_PX}" role="img" aria-label="{_shown(text_in(creative.image_alt, locale))}">'
        f'<rect width="{WIDTH_PX}" height="{HEIGHT_PX}" fill="{dark}"/>'
        f'<circle cx="{WIDTH_PX - 30}" cy="20" r="90" fill="{light}" opacity="0.6"/>'
        f'<g fill="#fff" font-family="sans-serif"><text x="20" y="32" font-size="13">{_shown(creative.category)}</text>'
        f"{rows}</g></svg>"
    )


def fragment(creative: Creative, locale: str) -> str:
    """A self-contained HTML fragment: label, one-click close, picture, texts, landing link, advertiser and payer."""
    language = locale if locale in _CLOSE else FALLBACK_LOCALE
    title, close = _shown(text_in(creative.title, locale)), _shown(_CLOSE[language])
    label, action = _shown(text_in(creative.label, locale)), _shown(text_in(creative.call_to_action, locale))
    button = f' <span class="reticent-ad-action">{action}</span>' if action else ""
    return (
        f'<aside class="reticent-ad" lang="{language}" data-creative="{_shown(creative.creative_id)}">'
        f'<dialog open class="reticent-ad-box" aria-label="{label}" style="{_BOX}"><form method="dialog">'
        f'<span class="reticent-ad-label">{label}</span> '
        f'<button formmethod="dialog" class="reticent-ad-close" aria-label="{close}" title="{close}">×</button></form>'
        f'<a href="{_shown(creative.landing_url)}" rel="sponsored noopener noreferrer" target="_blank">'
        f"{picture(creative, locale)}<strong>{title}</strong>{button}</a>"
        f"<p>{_shown(text_in(creative.description, locale))}</p>"
        f"<small>{_shown(_BY[language])}: {_shown(creative.advertiser)}. "
        f"{_shown(_PAID[language])}: {_shown(creative.payer)}</small></dialog></aside>"
    )


def _shown(text: str) -> str:
    """Escaped, without characters that have no place in a document."""
    return escape("".join(character for character in text if character.isprintable()))


def _colour(hue: float, lightness: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.55)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _wrapped(text: str) -> list[str]:
    """At most three lines; wide characters count twice, as they are drawn."""
    lines, line, width = [], "", 0
    for word in _breakable(text):
        size = sum(2 if ord(character) > 0x2E7F else 1 for character in word)
        if line and width + size > _LINE_CHARACTERS:
            lines.append(line.strip())
            line, width = "", 0
        line, width = line + word, width + size
    return [*lines, line.strip()][:3]


def _breakable(text: str) -> list[str]:
    """Pieces between which a line may end: after a space, and around any wide character."""
    pieces: list[str] = []
    for character in text:
        fresh = not pieces or pieces[-1].endswith(" ") or ord(character) > 0x2E7F or ord(pieces[-1][-1]) > 0x2E7F
        if fresh:
            pieces.append(character)
        else:
            pieces[-1] += character
    return pieces
