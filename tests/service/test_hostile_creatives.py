"""Markup and scripts in every text of an ad, in a real Chromium: nothing runs, nothing is loaded, nothing leads astray.

The bytes are the application's own answers; the browser gets them without the headers that would forbid scripts, so
that the escaping alone is judged. The control takes the escaping away and must be caught.
"""

from __future__ import annotations

import html
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import pytest

from common import rendering
from common.taxonomy import Role
from common.wire.messages import Creative
from server.campaigns import archive_page
from tests.service.campaigning import Agency
from tests.service.world import World

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOST: Final = "http://ads.test"
HOSTILE: Final = (
    "<script>hit({})</script>",
    '"><script>hit({})</script>',
    "'><script>hit({})</script>",
    '"><img src=x onerror=hit({})>',
    "'><svg/onload=hit({})>",
    "</text></g></svg><script>hit({})</script>",
    "</a></p></dialog></aside><img src=x onerror=hit({})>",
    '" onmouseover=hit({}) onfocus=hit({}) autofocus="',
    "' onload='hit({})",
    "]]><script>hit({})</script>",
    "--><script>hit({})</script>",
    "</title></style></textarea><script>hit({})</script>",
    "<iframe srcdoc='<script>parent.hit({})</script>'></iframe>",
    "<animate onbegin=hit({}) attributeName=x dur=1s>",
    "<set onend=hit({}) attributeName=x dur=0.1s>",
    '<a href="javascript:hit({})" autofocus onfocus=hit({})>x</a>',
    "<details open ontoggle=hit({})>",
    "<img src=https://pwned.example/{}.gif>",
    "<link rel=stylesheet href=https://pwned.example/{}.css>",
    "<meta http-equiv=refresh content=0;url=https://pwned.example/{}>",
    "<base href=https://pwned.example/{}/>",
    "<foreignObject><iframe xmlns='http://www.w3.org/1999/xhtml' src=https://pwned.example/{}></iframe></foreignObject>",
    "&lt;script&gt;hit({})&lt;/script&gt;",
    "&#60;img src=x onerror=hit({})&#62;",
    "\u2028<script>hit({})</script>",
    "{{{{hit({})}}}} ${{hit({})}} {{% import os %}}",
)
LANDING: Final = 'https://nuts.example/"><script>hit({})</script><a x=\'" onmouseover="hit({})'


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser, opened after the application has answered: both want the thread's event loop."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is on PATH")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


def hostile() -> list[Creative]:
    """A creative for each, with the text in every field that takes one."""
    made = []
    for number, pattern in enumerate(HOSTILE):
        text = pattern.format(number, number, number)
        both = {"en": text, "zh-CN": text}
        made.append(
            Creative(
                creative_id=f"hostile-{number}",
                item_id=text,
                attributes={"brand": text},
                category=text,
                advertiser=text,
                payer=text,
                title=both,
                description=both,
                image_url=f"/static/creative/hostile-{number}.svg",
                image_alt=both,
                landing_url=LANDING.format(number, number),
                label=both,
                call_to_action=both,
                tags=(text,),
            )
        )
    return made


@pytest.fixture
def published(world: World) -> World:
    assert len(world.services.catalogues.publish(hostile()).refused) == 0
    return world


class Look:
    """What a browser did with some documents: calls of ``hit``, and requests for what is not there."""

    def __init__(self, browser: Browser, documents: dict[str, tuple[str, str]]) -> None:
        self.hits: list[object] = []
        self.strays: list[str] = []
        self._documents = documents
        context = browser.new_context()
        context.route("**/*", self._answer)
        context.expose_function("hit", lambda number=None: self.hits.append(number))
        self.page = context.new_page()
        for path in documents:
            self.page.goto(HOST + path)
            self._poke()
        context.close()

    def _answer(self, route: Route) -> None:
        url = route.request.url
        found = self._documents.get(url.removeprefix(HOST))
        if found is None:
            if not url.endswith("/favicon.ico"):
                self.strays.append(url)
            route.abort()
            return
        route.fulfill(body=found[0], content_type=found[1])

    def _poke(self) -> None:
        """Move over and focus everything that could react."""
        from playwright.sync_api import Error

        self.page.wait_for_timeout(150)
        try:
            self.page.evaluate(
                """() => { for (const node of document.querySelectorAll('*')) {
                     node.dispatchEvent(new MouseEvent('mouseover')); node.dispatchEvent(new Event('focus')); } }"""
            )
        except Error as error:  # the document left for another while it was poked
            self.strays.append(error.message)
        self.page.wait_for_timeout(50)

    @property
    def clean(self) -> bool:
        """Whether nothing ran and nothing else was asked for."""
        return not self.hits and not self.strays


def documents(world: World) -> dict[str, tuple[str, str]]:
    """Everything that shows a creative, as the application answers it, without the headers around it."""
    backend = world.key(Role.APP_BACKEND)
    fragments, found = [], dict[str, tuple[str, str]]()
    for locale in ("en", "zh-CN"):
        slots = [{"slot_id": "top", "count": 20}, {"slot_id": "side", "count": 20}]
        answer = world.decide(None, backend, slots=slots, locale=locale)
        fragments += [slot["creative"]["html"] for slot in answer["slots"] if slot["creative"]]
        repository = world.http.get("/ad-repository", params={"locale": locale, "text": '"><script>hit(1)</script>'})
        everything = world.http.get("/ad-repository", params={"locale": locale})
        assert repository.status_code == everything.status_code == 200
        found[f"/repository-{locale}"] = (everything.text, "text/html; charset=utf-8")
        found[f"/searched-{locale}"] = (repository.text, "text/html; charset=utf-8")
    assert len(fragments) == 2 * len(HOSTILE)
    found["/parsed"] = ("<!doctype html><title>x</title>" + "\n".join(fragments), "text/html; charset=utf-8")
    inserted = f"<!doctype html><title>x</title><div id=a data-ads='{html.escape(json.dumps(fragments))}'></div>"
    inserted += "<script>for (const ad of JSON.parse(a.dataset.ads)) a.insertAdjacentHTML('beforeend', ad)</script>"
    found["/inserted"] = (inserted, "text/html; charset=utf-8")
    for number in range(len(HOSTILE)):
        picture = world.http.get(f"/static/creative/hostile-{number}.svg", params={"locale": "en"})
        found[f"/picture-{number}.svg"] = (picture.text, "image/svg+xml")
    return found


def test_hostile_texts_stay_texts(published: World) -> None:
    found = documents(published)
    with chromium() as browser:
        look = Look(browser, found)
    assert look.clean, (look.hits, look.strays)


@pytest.mark.parametrize("of", ["fragment", "picture", "repository"])
def test_without_escaping_the_same_look_sees_it(published: World, monkeypatch: pytest.MonkeyPatch, of: str) -> None:
    """The control: were a text not escaped, it would run here."""
    if of == "repository":
        monkeypatch.setattr(archive_page, "select_autoescape", lambda **_: False)
        archive_page._template.cache_clear()
    else:
        monkeypatch.setattr(rendering, "_shown", lambda text: text)
    found = documents(published)
    archive_page._template.cache_clear()
    kind = {"fragment": "/parsed", "picture": "/picture", "repository": "/repository"}[of]
    with chromium() as browser:
        look = Look(browser, {path: body for path, body in found.items() if path.startswith(kind)})
    assert look.hits
    assert look.strays or of == "picture"


def test_a_creative_says_what_it_is_and_closes_without_any_script(world: World) -> None:
    world.services.catalogues.publish([])
    agency = Agency(world)
    agency.running()
    ads = {
        locale: world.decide(None, agency.backend, locale=locale)["slots"][0]["creative"] for locale in ("en", "zh-CN")
    }
    with chromium() as browser:
        page = browser.new_context(java_script_enabled=False).new_page()
        for locale, label, close, paid, action in (
            ("en", "Ad", "Close this ad", "Paid for by: Nuts & Sons Ltd.", "Taste them"),
            ("zh-CN", "广告", "关闭广告", "付费方: Nuts & Sons Ltd.", "立即选购"),
        ):
            page.set_content(f"<!doctype html><body><h1>Page</h1>{ads[locale]['html']}<p id=after>after</p>")
            box = page.locator(".reticent-ad-box")
            assert page.get_by_text(label, exact=True).is_visible()
            assert page.get_by_text(paid).is_visible()
            assert page.get_by_text(action).is_visible()
            assert page.get_by_role("img").get_attribute("aria-label") == ads[locale]["image_alt"]
            assert page.locator("a").get_attribute("href") == "https://nuts.example/autumn"
            above, below = box.bounding_box(), page.locator("#after").bounding_box()
            assert above is not None
            assert below is not None
            assert below["y"] >= above["y"] + above["height"]  # it takes its place and covers nothing
            page.get_by_role("button", name=close).click()
            assert not box.is_visible()
            assert page.locator("h1").is_visible()


def test_every_link_of_a_creative_is_its_registered_landing_page(published: World) -> None:
    body, _ = documents(published)["/parsed"]
    with chromium() as browser:
        page = browser.new_page()
        page.set_content(body)
        links = page.eval_on_selector_all("[href],[src],[action]", "all => all.map(one => one.getAttribute('href'))")
        hosts = page.eval_on_selector_all("a", "all => all.map(one => new URL(one.href).host)")
    assert set(links) == {LANDING.format(number, number) for number in range(len(HOSTILE))}
    assert set(hosts) == {"nuts.example"}
