"""The owner's page in a real Chromium: reached by its link, used by keyboard alone, readable, and loading nothing."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cli.owner.loopback import Loopback
from cli.owner.site import Site
from client.device import OWNER, Node
from common.taxonomy import Purpose
from policies.consent import Permit, Refusal
from tests.owner.furnished import furnish

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

CONTRAST = """
() => {
  const lin = c => { c /= 255; return c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4 };
  const lum = ([r, g, b]) => .2126 * lin(r) + .7152 * lin(g) + .0722 * lin(b);
  const rgb = s => (s.match(/[\\d.]+/g) || []).map(Number);
  const back = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] === 1) return c.slice(0, 3) } return [255, 255, 255] };
  const low = [];
  const texts = 'p, h1, h2, h3, a, button, th, td, li, span, strong, summary, dt, dd, caption, label';
  for (const e of document.querySelectorAll(texts)) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
    const a = lum(rgb(getComputedStyle(e).color)), b = lum(back(e));
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) low.push([e.tagName, e.textContent.trim().slice(0, 40), ratio]);
  }
  return low;
}
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    furnish(tmp_path / "node").close()
    return tmp_path / "node"


@pytest.fixture
def served(directory: Path) -> Iterator[tuple[Loopback, Site]]:
    loopback = Loopback()
    site = Site(
        lambda: Node.open(directory, prove=False), OWNER, origin=loopback.origin, connect=None, clock=lambda: 0.0
    )
    thread = threading.Thread(target=loopback.serve, args=(site,))
    thread.start()
    yield loopback, site
    loopback.stop()
    thread.join()
    loopback.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest) -> Iterator[Page]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on PATH")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 900}, color_scheme=request.param)
        page.set_default_timeout(20_000)
        yield page
        browser.close()


def test_everything_is_withdrawn_by_keyboard_alone(page: Page, served: tuple[Loopback, Site], directory: Path) -> None:
    loopback, site = served
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(site.link)
    assert page.title() == "This device and you"
    assert page.url == f"{loopback.origin}/?lang=en", "the key is gone from the address"
    assert page.evaluate(CONTRAST) == []

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Withdraw everything"
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus can be seen"
    page.keyboard.press("Enter")
    page.wait_for_selector(".said")
    assert "Withdrawn." in page.inner_text("[role=status]")
    with Node.open(directory, prove=False) as node:
        assert all(isinstance(node.gate.permits(OWNER, purpose), Refusal) for purpose in Purpose)

    page.get_by_role("link", name="简体中文").click()
    page.wait_for_selector("html[lang=zh-CN]")
    assert page.evaluate(CONTRAST) == []
    assert complaints == []
    assert {url.partition("?")[0].rstrip("/") for url in asked} <= {loopback.origin, f"{loopback.origin}/withdraw"}


def test_one_purpose_is_withdrawn_by_its_name(page: Page, served: tuple[Loopback, Site], directory: Path) -> None:
    page.goto(served[1].link)
    page.get_by_role("button", name="Withdraw: Personalised ads").click()
    page.wait_for_selector(".said")
    with Node.open(directory, prove=False) as node:
        assert isinstance(node.gate.permits(OWNER, Purpose.PLACE_PERSONALISED), Refusal)
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Permit)


def test_the_control_of_the_contrast_check(page: Page, served: tuple[Loopback, Site]) -> None:
    page.goto(served[1].link)
    page.evaluate("document.querySelector('h1').setAttribute('class', 'axis')")
    page.evaluate("() => { document.querySelector('h1').attributeStyleMap.set('color', 'rgb(128,128,128)') }")
    assert [found[0] for found in page.evaluate(CONTRAST)] == ["H1"]


def test_it_fits_a_telephone(page: Page, served: tuple[Loopback, Site]) -> None:
    page.set_viewport_size({"width": 360, "height": 700})
    page.goto(served[1].link)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
