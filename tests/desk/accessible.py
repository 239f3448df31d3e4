"""What can be told of a page's accessibility from its HTML alone: names, labels, landmarks, headings, tables."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"input", "meta", "link", "br", "img", "hr", "path", "rect", "line", "circle", "col"}
_FIELDS = {"input", "select", "textarea"}


@dataclass
class Node:
    """One element."""

    name: str
    attributes: dict[str, str]
    parent: Node | None = None
    children: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def each(self, *names: str) -> list[Node]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                if not names or child.name in names:
                    found.append(child)
                found += child.each(*names)
        return found

    def inside(self, name: str) -> bool:
        return self.parent is not None and (self.parent.name == name or self.parent.inside(name))


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("", {})
        self._at = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs}, self._at)
        self._at.children.append(node)
        if tag not in _VOID:
            self._at = node

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._at.children.append(Node(tag, {name: value or "" for name, value in attrs}, self._at))

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        assert self._at.name == tag, f"</{tag}> closes <{self._at.name}>"
        assert self._at.parent is not None
        self._at = self._at.parent

    def handle_data(self, data: str) -> None:
        self._at.children.append(data)


def read(html: str) -> Node:
    """A page as a tree; raises if its tags do not nest."""
    reader = _Reader()
    reader.feed(html)
    assert reader._at is reader.root, f"<{reader._at.name}> is never closed"
    return reader.root


def faults(html: str) -> list[str]:
    """Every fault that was found, in words."""
    page = read(html)
    every = page.each()
    ids = Counter(node.attributes["id"] for node in every if "id" in node.attributes)
    found = [f"id {name} is there {count} times" for name, count in ids.items() if count > 1]
    labelled = {node.attributes.get("for") for node in page.each("label")}
    for node in every:
        found += _named(node, ids, labelled)
    found += _structure(page)
    for table in page.each("table"):
        found += _table(table)
    return found


def _named(node: Node, ids: Counter[str], labelled: set[str | None]) -> list[str]:
    a, found = node.attributes, []
    named = bool(a.get("aria-label")) or "aria-labelledby" in a
    if node.name in _FIELDS and a.get("type") != "hidden" and not (named or a.get("id") in labelled):
        found.append(f"<{node.name} name={a.get('name')}> has no label")
    if node.name in {"button", "a"} and not (named or node.text.strip()):
        found.append(f"<{node.name}> has no name")
    if node.name == "img" and "alt" not in a:
        found.append("<img> without alt")
    if node.name == "svg" and a.get("aria-hidden") != "true" and not (a.get("role") == "img" and named):
        found.append("<svg> without a name")
    if node.name in {"nav", "section", "article"} and not named:
        found.append(f"<{node.name}> without a name")
    for reference in ("aria-labelledby", "aria-describedby", "list"):
        found += [f"{reference} names {i}, which is not there" for i in a.get(reference, "").split() if i not in ids]
    if a.get("href", "").startswith("#") and a["href"][1:] not in ids:
        found.append(f"a link to {a['href']}, which is not there")
    if int(a.get("tabindex", "0")) > 0:
        found.append("a positive tabindex")
    return found


def _structure(page: Node) -> list[str]:
    found = []
    html = page.each("html")
    if not html or not html[0].attributes.get("lang"):
        found.append("no language")
    if len(page.each("title")) < 1 or not page.each("title")[0].text.strip():
        found.append("no title")
    counts = {name: len(page.each(name)) for name in ("h1", "main")}
    found += [f"{count} <{name}>" for name, count in counts.items() if count != 1]
    level = 0
    for node in page.each("h1", "h2", "h3", "h4"):
        if int(node.name[1]) > level + 1:
            found.append(f"<{node.name}> {node.text.strip()!r} skips a level")
        level = int(node.name[1])
    return found


def _table(table: Node) -> list[str]:
    found = []
    if not table.each("caption") or not table.each("caption")[0].text.strip():
        found.append("a table without caption")
    heads = table.each("th")
    if not any(th.attributes.get("scope") == "col" for th in heads):
        found.append("a table without column heads")
    found += [f"<th> {th.text.strip()!r} without scope" for th in heads if not th.attributes.get("scope")]
    return found


_EPSILON = re.compile(r"ε\s*(?:=|≤|≥|\xa0=)\s*[\d∞]")


def bare_epsilons(html: str, *, words: tuple[str, ...]) -> list[str]:
    """Every ε figure whose section (or row) does not say all of ``words``: what it is relative to.

    The nearest section, article or card counts; a table's figures may be explained above the table in the same one.
    """
    found = []
    for node in read(html).each():
        own = "".join(child for child in node.children if isinstance(child, str))
        if not _EPSILON.search(own) or node.inside("svg") or node.name == "option":
            continue
        place = node
        while place.parent is not None and place.name not in {"section", "article"}:
            place = place.parent
        missing = [word for word in words if word not in place.text]
        if missing:
            found.append(f"{own.strip()[:60]!r}: {', '.join(missing)}")
    return found
