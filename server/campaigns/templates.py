"""Creative templates. Owns how a product becomes a creative: title, description, picture and landing, in each language.

A placeholder is ``{brand}``, or ``{brand|our own}`` with a text for products without a brand. It names an attribute
and nothing else: templates are data from outside and are never evaluated.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from common.errors import MalformedInput
from common.wire.codec import describe
from common.wire.messages import Catalogue, Creative
from policies.loader import read_yaml

DEFAULT_TEMPLATES: Final = Path(__file__).with_name("templates.yaml")
_PLACEHOLDER: Final = re.compile(r"\{([a-z_][a-z0-9_]*)(?:\|([^{}]*))?\}")
_TEXT_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """Public facts about one product.

    Attributes:
        item_id: the product's id, as the model's features know it.
        category: for eligibility and display.
        attributes: public attributes; they feed context features and fill placeholders.
        numbers: public numbers; they feed context features.
        landing_url: where a click leads; None: made from the template.
    """

    item_id: str
    category: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    numbers: Mapping[str, float] = field(default_factory=dict)
    landing_url: str | None = None


class CreativeTemplate(BaseModel):
    """Texts with placeholders, by language where people read them.

    Attributes:
        name: tells creatives of several templates for one product apart.
        categories: the categories it is for; empty: all.
        call_to_action: the words of the button, where there is one.
        tags: topics by which people can switch its creatives off.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^[a-z0-9-]{1,20}$")
    categories: tuple[str, ...] = ()
    title: dict[str, str]
    description: dict[str, str]
    image_alt: dict[str, str]
    landing_url: str = Field(pattern=r"^https://")
    call_to_action: dict[str, str] = Field(default_factory=dict)
    tags: tuple[str, ...] = ()


class CreativeTemplates(BaseModel):
    """All templates of one advertiser."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    advertiser: str
    payer: str
    label: dict[str, str]
    templates: tuple[CreativeTemplate, ...] = Field(min_length=1)


def read_templates(path: Path = DEFAULT_TEMPLATES) -> CreativeTemplates:
    """Templates from a YAML file.

    Raises:
        MalformedInput: they are not as described; PolicyError: it is not YAML.
    """
    try:
        return CreativeTemplates.model_validate(read_yaml(path))
    except ValidationError as error:
        raise MalformedInput(f"{path.name}: {describe(error)}") from None


def build_catalogue(items: Sequence[ItemFacts], templates: CreativeTemplates, *, version: int = 1) -> Catalogue:
    """One creative per product and fitting template; publishing gives the catalogue its real version.

    Raises:
        MalformedInput: a placeholder without a text for its absence is not filled by some product, or a filled text
            is not acceptable; the text names template and field, never a value.
    """
    creatives = [
        _creative(item, template, templates)
        for item in items
        for template in templates.templates
        if not template.categories or item.category in template.categories
    ]
    return Catalogue(version=version, creatives=tuple(creatives))


def fill(text: str, facts: Mapping[str, str]) -> str:
    """Replace every placeholder once; what is filled in is not looked at again.

    Raises:
        MalformedInput: a placeholder has neither a fact nor a text for its absence.
    """

    def value(match: re.Match[str]) -> str:
        found = facts.get(match[1]) or match[2]
        if found is None:
            raise MalformedInput(f"a product has no {match[1]}; write {{{match[1]}|text when absent}}")
        return found

    return _PLACEHOLDER.sub(value, text)


def _creative(item: ItemFacts, template: CreativeTemplate, all_templates: CreativeTemplates) -> Creative:
    facts = {**item.attributes, "item": item.item_id, "category": item.category}
    short = hashlib.sha256(f"{template.name}:{item.item_id}".encode()).hexdigest()[:16]
    linkable = {name: quote(value, safe="") for name, value in facts.items()}
    try:
        return Creative(
            creative_id=f"{template.name}-{short}",
            item_id=item.item_id,
            attributes=dict(item.attributes),
            numbers=dict(item.numbers),
            category=item.category,
            advertiser=all_templates.advertiser,
            payer=all_templates.payer,
            title=_filled(template.title, facts),
            description=_filled(template.description, facts),
            image_url=f"/static/creative/{template.name}-{short}.svg",
            image_alt=_filled(template.image_alt, facts),
            landing_url=item.landing_url or fill(template.landing_url, linkable),
            label=all_templates.label,
            call_to_action=_filled(template.call_to_action, facts),
            tags=template.tags,
        )
    except ValidationError as error:
        raise MalformedInput(f"template {template.name}: {describe(error)}") from None


def _filled(texts: Mapping[str, str], facts: Mapping[str, str]) -> dict[str, str]:
    """Filled texts, shortened to what a creative may hold."""
    whole = {locale: fill(text, facts).strip() for locale, text in texts.items()}
    return {locale: text if len(text) <= _TEXT_MAX else text[: _TEXT_MAX - 1] + "…" for locale, text in whole.items()}
