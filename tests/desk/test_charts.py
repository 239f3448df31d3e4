"""Pictures say in words what they show, escape what they are given, and keep their proportions."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from server.dashboard import charts
from server.dashboard.charts import Mark, Part, Span

SVG = "{http://www.w3.org/2000/svg}"
sizes = st.floats(0, 1e6, allow_nan=False)
names = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), max_size=20)


def parsed(picture: Markup) -> ET.Element:
    return ET.fromstring(str(picture).replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))  # noqa: S314 - our own


def coordinates(root: ET.Element) -> list[float]:
    found = []
    for node in root.iter():
        found += [
            float(node.attrib[name])
            for name in ("x", "y", "x1", "x2", "y1", "y2", "width", "height", "cx", "cy")
            if name in node.attrib
        ]
    return found


@given(names, names, sizes, sizes, st.lists(st.tuples(names, sizes), max_size=8))
def test_any_figures_make_a_whole_picture(
    title: str, words: str, value: float, most: float, rows: list[tuple[str, float]]
) -> None:
    pictures = [
        charts.meter(title, words, value=value, most=most, marks=[Mark(name, size) for name, size in rows]),
        charts.steps(title, words, [size for _, size in rows], marks=[Mark("cap", most)], projected=[value]),
        charts.columns(title, words, rows),
        charts.bars(title, words, rows),
        charts.shares(title, words, [(name, [Part(name, size, "given")]) for name, size in rows]),
        charts.spans(title, words, [Span(name, size, size + 1) for name, size in rows], low="a", high="b"),
    ]
    for picture in pictures:
        root = parsed(picture)
        assert root.find(f"{SVG}title") is not None
        assert root.find(f"{SVG}desc") is not None
        ids = set(root.attrib["aria-labelledby"].split())
        assert ids == {node.attrib["id"] for node in root if node.tag in {f"{SVG}title", f"{SVG}desc"}}
        assert all(abs(number) < 5_000 for number in coordinates(root))


def test_bars_are_as_long_as_their_figures() -> None:
    root = parsed(charts.shares("t", "d", [("x", [Part("a", 30, "given"), Part("b", 10, "refused")])]))
    given_, refused = (float(r.attrib["width"]) for r in root.iter(f"{SVG}rect"))
    assert abs((given_ + 1.5) / (refused + 1.5) - 3) < 0.01


def test_text_is_escaped() -> None:
    picture = charts.bars("<script>", '"&', [("<b>", 1)])
    assert "<script>" not in picture
    assert re.search(r"&lt;b&gt;", picture)


def test_numbers() -> None:
    assert [charts.number(value) for value in (0, 7, 12345, 0.5, 6.7251, float("inf"), 12345.6)] == [
        "0", "7", "12,345", "0.5", "6.73", "∞", "12,346",
    ]  # fmt: skip
