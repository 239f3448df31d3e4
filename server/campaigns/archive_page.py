"""The ad repository as a page. Owns how it looks: one document without script, every text escaped."""

from __future__ import annotations

import datetime as dt
import functools
from importlib.resources import files
from typing import Final
from urllib.parse import urlencode

from jinja2 import Environment, StrictUndefined, Template, select_autoescape

from common.rendering import text_in
from policies.notices import Locale
from server.api.paging import Page
from server.campaigns.archive_answers import AdEntry
from server.campaigns.archive_repository import Question
from server.words import LANGUAGES, words

ROOM: Final = "campaigns"


def page(found: Page[AdEntry], asked: Question, locale: Locale, operator: str) -> str:
    """The page.

    Args:
        found: the lines on it.
        asked: what was looked for; it fills the form again.
        locale: the reader's language.
        operator: who runs this service.
    """
    return _template().render(
        _=words(locale, ROOM),
        found=found,
        asked=asked,
        locale=locale,
        languages=LANGUAGES,
        operator=operator,
        text=functools.partial(_text, locale=locale),
        following=_following(asked, locale, found.next_cursor),
    )


@functools.cache
def _template() -> Template:
    environment = Environment(
        autoescape=select_autoescape(default=True), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["date"] = _date
    source = (files("server.campaigns") / "pages" / "ad_repository.html").read_text("utf-8")
    return environment.from_string(source)


def _text(texts: dict[str, str], *, locale: Locale) -> str:
    """Text of an ad as it is printed: what cannot be seen is left out."""
    return "".join(character for character in text_in(texts, locale) if character.isprintable())


def _date(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _following(asked: Question, locale: Locale, cursor: str | None) -> str | None:
    if cursor is None:
        return None
    named = {"advertiser": asked.advertiser, "campaign": asked.campaign, "text": asked.text, "at": asked.at}
    query = {name: value for name, value in named.items() if value is not None}
    return "/ad-repository?" + urlencode({**query, "locale": locale, "cursor": cursor})
