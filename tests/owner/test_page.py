"""The owner's page: everything is told in both languages, nothing is loaded, and what comes from outside is escaped."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cli.owner import charts, texts
from cli.owner.page import Live, content_policy, render
from cli.owner.texts import LOCALES, Words
from client.device import OWNER, Node
from client.overview import Overview, overview
from client.store.placed import PlacedAd
from common.taxonomy import EventKind, RefusalReason, RequestKind, RequestStatus
from tests.owner.furnished import furnish

NOW = 1_795_000_000.0


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with furnish(tmp_path_factory.mktemp("owner") / "node", now=NOW) as node:
        yield node


@pytest.fixture(scope="module")
def view(node: Node) -> Overview:
    return overview(node, OWNER)


class Outline(HTMLParser):
    """Tags with their attributes, and the text of the page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in {"meta", "input", "br", "rect", "line", "link", "img"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("live", [None, Live("p" * 43, connected=True, said="done")])
def test_the_page_is_whole_and_accessible(view: Overview, locale: texts.Locale, live: Live | None) -> None:
    page = Outline(render(view, locale, live))
    assert not page.open, "every element is closed"
    assert page.all("html")[0]["lang"] == locale
    assert page.tags[0][0] == "html"
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for attributes in page.all("a"):
        href = str(attributes["href"])
        assert href.startswith(("#", "?"))
        assert href[1:] in ids or href.startswith("?lang=")
    for _, attributes in page.tags:
        for name in ("aria-labelledby", "for"):
            assert attributes.get(name) is None or attributes[name] in ids
    tables = len(page.all("table"))
    assert len(page.all("caption")) == tables
    assert all(attributes.get("scope") in {"row", "col"} for attributes in page.all("th"))
    for attributes in page.all("svg"):
        assert (attributes.get("role") == "img" and attributes.get("aria-label")) or attributes.get(
            "aria-hidden"
        ) == "true"
    assert page.all("main")
    assert any(attributes.get("class") == "skip" for attributes in page.all("a"))
    if live is not None:
        assert any(attributes.get("role") == "status" for attributes in page.all("div"))


def test_a_printed_page_has_no_forms_and_a_served_one_has_its_proof_in_each(view: Overview) -> None:
    assert not Outline(render(view, "en")).all("form")
    page = Outline(render(view, "en", Live("p" * 43, connected=True)))
    forms = page.all("form")
    assert len(forms) >= 5
    proofs = [one for one in page.all("input") if one.get("name") == "proof"]
    assert len(proofs) == len(forms)
    assert all(form["method"] == "post" and str(form["action"]).startswith("/") for form in forms)


def test_nothing_is_loaded_and_nothing_runs(view: Overview) -> None:
    html = render(view, "en", Live("p" * 43, connected=True))
    page = Outline(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object", "embed", "base"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on") or name == "style"]
    assert "http://" not in html
    assert "https://" not in html
    policy = page.all("meta")[2]["content"]
    assert policy == content_policy()
    assert "default-src 'none'" in str(policy)


def test_what_comes_from_outside_is_escaped(view: Overview) -> None:
    nasty = "<script>alert(1)</script>"
    ads = [replace_ad(placed, nasty) for placed in view.placements]
    changed = replace(view, placements=tuple(ads), handle=nasty, device=nasty)  # type: ignore[arg-type]
    html = render(changed, "en")
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def replace_ad(placed: PlacedAd, text: str) -> PlacedAd:
    signals = tuple(type(one)(text, text, one.effect) for one in placed.signals)
    fields = {name: getattr(placed, name) for name in placed.__struct_fields__}
    return PlacedAd(**fields | {"title": {"en": text}, "advertiser": text, "payer": text, "signals": signals})


def test_the_figures_are_those_of_journal_ledger_and_gate(node: Node, view: Overview) -> None:
    text = " ".join(" ".join(Outline(render(view, "en")).text).split())
    assert "3 of 4 purposes you agreed to" in text
    spent = node.ledger.epsilon(OWNER)
    assert f"ε = {spent:.2f} of at most 10 in this period of 365 days" in text
    sent = sum(row.outcome == "sent" and row.time > NOW - 29 * 86_400 for row in view.journal)
    assert f"{sent} messages left in 30 days" in text
    assert "kept back: You refused this." in text
    assert "Oat drink, two for one" in text
    assert "at δ = 1e-05; neighbouring relation: one more or one less; trust: secure aggregation" in text


def test_an_ad_says_what_each_family_did_and_that_nothing_was_sent(view: Overview) -> None:
    text = " ".join(Outline(render(view, "en")).text)
    assert "Where the chance comes from, family by family" in text
    assert "Exact: multiplied" in text
    assert "the average over all orders" in text
    assert "no noise was needed (ε = 0)" in text
    assert "Topics of ads" in text
    chinese = " ".join(Outline(render(view, "zh-CN")).text)
    assert "概率的来源" in chinese
    assert "您购买过的" in chinese
    assert "广告主题" in chinese


def test_an_empty_node_has_a_page_too(tmp_path: Path) -> None:
    with Node.open(tmp_path / "empty", prove=False) as node:
        text = " ".join(Outline(render(overview(node, OWNER), "en")).text)
    assert "Nothing has left this device." in text
    assert "the service knows nothing about this device" in text


def test_a_part_that_cannot_be_read_is_named_and_hides_no_other(tmp_path: Path) -> None:
    with furnish(tmp_path / "node", now=NOW) as node:
        (tmp_path / "node" / "journal.db-wal").unlink(missing_ok=True)
        (tmp_path / "node" / "journal.db").write_bytes(b"no database at all")
        damaged = overview(node, OWNER)
    assert damaged.unreadable == (("journal", "VaultCorrupt"),)
    text = " ".join(Outline(render(damaged, "en")).text)
    assert "One part could not be read" in text
    assert "ads chosen on this device" in text
    assert damaged.placements


def test_every_closed_name_has_its_words() -> None:
    names = [("reason", one.value) for one in RefusalReason]
    names += [("event", one.value) for one in EventKind]
    names += [("request", one.value) for one in RequestKind]
    names += [("status", one.value) for one in RequestStatus]
    from policies import loader

    names += [("message", rule.message) for rule in loader.load(prove=False).policies.egress.messages]
    missing = [f"{family}_{name}" for family, name in names if f"{family}_{name}" not in texts._TEXTS]
    assert missing == []


def test_both_languages_fill_in_the_same_values() -> None:
    for key, (english, chinese) in texts._TEXTS.items():
        fields = [set(re.findall(r"{(\w+)}", text)) for text in (english, chinese)]
        assert fields[0] == fields[1], key
        assert english
        assert chinese
        assert Words("en")(key, **dict.fromkeys(fields[0], "x"))


@pytest.mark.parametrize(("value", "share"), [(0.0, 0.0), (5.0, 360.0), (20.0, 720.0), (float("inf"), 720.0)])
def test_a_meter_is_never_fuller_than_full_nor_empty_when_something_is_spent(value: float, share: float) -> None:
    svg = charts.meter(value, 10.0, title="t", description="d")
    found = re.search(r'class="fill \w+" x="0" y="4" width="([\d.]+)"', svg)
    assert found is not None
    assert float(found[1]) == share


def test_columns_add_up_to_the_height_of_their_count() -> None:
    svg = charts.columns(
        [charts.Column("a", (1, 2, 1)), charts.Column("b", (0, 0, 0))], ("x", "y", "z"), title="t", description="d"
    )
    heights = [float(one) for one in re.findall(r'<rect class="[xyz]"[^>]* height="([\d.]+)"', svg)]
    assert heights == pytest.approx([35.0, 70.0, 35.0])
