"""Templates become creatives, creatives become HTML; what products and templates say is data and never code."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MalformedInput, PolicyError
from common.rendering import fragment, picture
from server.campaigns.templates import ItemFacts, build_catalogue, fill, read_templates
from tests.placement.test_g import creative


def test_a_product_fills_its_templates_in_both_languages() -> None:
    item = ItemFacts("42", "snacks", {"brand": "Nut & Co", "product": "Trail mix"}, {"discount": 0.2})
    (made,) = build_catalogue([item], read_templates()).creatives
    assert made.title == {"en": "Trail mix this week", "zh-CN": "本周推荐：Trail mix"}
    assert made.description["en"] == "From Nut & Co range in snacks. In your store now."
    assert made.label == {"en": "Ad", "zh-CN": "广告"}
    assert made.landing_url == "https://shop.example/items/42"
    assert (made.item_id, made.numbers) == ("42", {"discount": 0.2})


def test_what_a_product_lacks_is_said_otherwise_or_refused() -> None:
    assert fill("{brand|our own} bread", {}) == "our own bread"
    assert fill("{brand|} bread", {"brand": ""}) == " bread"
    with pytest.raises(MalformedInput, match="brand"):
        fill("{brand} bread", {})


@pytest.mark.parametrize("text", ["{item.__class__}", "{0}", "{item!r}", "{{item}}", "%(item)s", "${item}"])
def test_templates_are_never_evaluated(text: str) -> None:
    assert "class" not in fill(text, {"item": "42"}) or fill(text, {"item": "42"}) == text


@given(st.text(max_size=60))
def test_what_is_filled_in_is_not_filled_again(value: str) -> None:
    assert fill("<{item}>", {"item": value or "x", "secret": "s3cret"}) == f"<{value or 'x'}>"


def test_ids_are_stable_and_links_are_quoted() -> None:
    item = ItemFacts("../x?a=b", "snacks")
    first, again = (build_catalogue([item], read_templates()).creatives[0] for _ in range(2))
    assert first == again
    assert first.landing_url == "https://shop.example/items/..%2Fx%3Fa%3Db"


def test_a_landing_page_must_be_https() -> None:
    with pytest.raises(MalformedInput, match="landing_url"):
        build_catalogue([ItemFacts("1", "snacks", landing_url="http://shop.example")], read_templates())


def test_bad_template_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "t.yaml"
    path.write_text("advertiser: a\n", encoding="utf-8")
    with pytest.raises(MalformedInput, match="templates"):
        read_templates(path)
    path.write_text("a: [", encoding="utf-8")
    with pytest.raises(PolicyError):
        read_templates(path)


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


@given(st.text(alphabet=st.sampled_from("<>&\"'/= onclickscript好广告\n"), min_size=1, max_size=80))
def test_no_text_becomes_markup(text: str) -> None:
    nasty = creative(
        "x", title={"en": text, "zh-CN": text}, description={"en": text}, image_alt={"en": text}, category=text
    )
    plain, shown = _Tags(), _Tags()
    plain.feed(fragment(creative("x", title={"en": "t"}), "en"))
    shown.feed(fragment(nasty, "en"))
    assert set(shown.tags) <= set(plain.tags)
    assert set(shown.attributes) <= set(plain.attributes)
    ET.fromstring(picture(nasty, "zh-CN"))  # noqa: S314 - made two lines above


def test_the_fragment_loads_nothing_and_carries_its_label() -> None:
    html = fragment(creative("x"), "zh-CN")
    assert "广告</span>" in html
    assert 'aria-label="关闭广告"' in html
    assert "<img" not in html
    assert html.count("https://") == 1
