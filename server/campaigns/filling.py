"""From a template and products to creatives' terms. Owns the fit of filled texts to what a creative may hold."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import quote

from pydantic import ValidationError

from common.errors import MalformedInput
from common.wire.codec import describe
from server.campaigns.templates import CreativeTemplate, fill
from server.campaigns.terms import CreativeTerms, CreativeText

_TITLE_MAX: Final = 90
_TEXT_MAX: Final = 200
_ACTION_MAX: Final = 25
_UNSHOWN: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")


class Facts(Protocol):
    """Public facts about one product."""

    @property
    def item_id(self) -> str:
        """The product."""
        ...

    @property
    def category(self) -> str:
        """Of the product."""
        ...

    @property
    def attributes(self) -> Mapping[str, str]:
        """They feed features and fill placeholders."""
        ...

    @property
    def numbers(self) -> Mapping[str, float]:
        """They feed features."""
        ...


def filled(template: CreativeTemplate, products: Sequence[Facts]) -> list[CreativeTerms]:
    """One creative per product that the template is for.

    Raises:
        MalformedInput: a placeholder without a text for its absence is not filled, a language lacks a text, or what
            was filled is not acceptable; the error names the field, never a value.
    """
    fitting = [one for one in products if not template.categories or one.category in template.categories]
    if not fitting:
        raise MalformedInput(f"template {template.name}: none of the products is of its categories")
    try:
        return [_terms(template, product) for product in fitting]
    except ValidationError as error:
        raise MalformedInput(f"template {template.name}: {describe(error)}") from None


def _terms(template: CreativeTemplate, product: Facts) -> CreativeTerms:
    facts = {**product.attributes, "item": product.item_id, "category": product.category}
    linkable = {name: quote(value, safe="") for name, value in facts.items()}
    locales = template.title.keys() & template.description.keys() & template.image_alt.keys()
    if locales != template.title.keys() | template.description.keys() | template.image_alt.keys():
        raise MalformedInput(f"template {template.name}: a language lacks title, description or image_alt")
    return CreativeTerms(
        category=product.category,
        item_id=product.item_id,
        attributes=dict(product.attributes),
        numbers=dict(product.numbers),
        tags=template.tags,
        landing_url=fill(template.landing_url, linkable),
        texts={locale: _text(template, locale, facts) for locale in sorted(locales)},
    )


def _text(template: CreativeTemplate, locale: str, facts: Mapping[str, str]) -> CreativeText:
    action = template.call_to_action.get(locale)
    return CreativeText(
        title=_short(template.title[locale], facts, _TITLE_MAX),
        description=_short(template.description[locale], facts, _TEXT_MAX),
        image_alt=_short(template.image_alt[locale], facts, _TEXT_MAX),
        call_to_action=None if action is None else _short(action, facts, _ACTION_MAX),
    )


def _short(text: str, facts: Mapping[str, str], size: int) -> str:
    """A filled text without what has no place in a line, shortened to its size."""
    whole = _UNSHOWN.sub(" ", fill(text, facts)).strip()
    return whole if len(whole) <= size else whole[: size - 1] + "…"
