"""Words for people, in the languages of the notices. Owns how an English text finds its translation.

English is written where it is used; each room that speaks to people keeps one ``zh-CN.json`` beside its code, from
English text to Chinese, and where codes are shown an ``en.json`` with their labels. A text without translation stays as
it is; a test sees to it that there is none.
"""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Final, cast

from policies.notices import LOCALES, Locale

LANGUAGES: Final[dict[Locale, str]] = {"en": "English", "zh-CN": "简体中文"}


class Words:
    """Texts of some rooms in one language; call it with the English text."""

    def __init__(self, locale: Locale, *rooms: str) -> None:
        self.locale: Locale = locale
        self._found: dict[str, str] = {}
        for room in rooms:
            self._found |= catalogue(room, locale)

    def __call__(self, text: str, **values: object) -> str:
        """The text in this language, with ``{names}`` filled in."""
        found = self._found.get(text, text)
        return found.format(**values) if values else found


@functools.cache
def catalogue(room: str, locale: Locale) -> dict[str, str]:
    """What one room of the server says instead of a text as it is written: a translation, or a label for a code."""
    file = files(f"server.{room}") / f"{locale}.json"
    return cast("dict[str, str]", json.loads(file.read_text("utf-8"))) if file.is_file() else {}


@functools.cache
def words(locale: Locale, *rooms: str) -> Words:
    """Texts of some rooms in one language."""
    return Words(locale, *rooms)


def chosen(*wishes: str) -> Locale:
    """The first language among the wishes that we speak; English if there is none. Wishes may be Accept-Language."""
    for wish in wishes:
        for part in wish.split(","):
            tag = part.split(";")[0].strip().lower()
            if tag.startswith("zh"):
                return "zh-CN"
            if tag.startswith("en"):
                return "en"
    return LOCALES[0]
