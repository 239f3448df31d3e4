"""The desk in a real headless Chromium: what officers do there, by mouse, by keyboard, without scripts, on a phone.

Pictures for the documentation are taken where RETICENT_PICTURES names a folder.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

import pytest
import uvicorn
from PIL import Image

from common.taxonomy import CapState, PrivacyUnit, RequestStatus
from server.api.app import create_app
from server.api.services import Services, build_services
from server.settings import Settings
from tests.desk.conftest import Installed
from tests.desk.reviewing import IMAGE, SCRIPT, handed_in, in_catalogue

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Request

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGES = (
    "",
    "budgets",
    "releases",
    "releases/1",
    "consent",
    "requests",
    "caps",
    "controls",
    "review",
    "placements",
    "picks",
    "experiments",
    "log",
    "exports",
    "reports/dpia",
)
_CONTRAST = Path(__file__).with_name("contrast.js").read_text("utf-8")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is on PATH")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def living(filled: Installed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Services]]:
    """The service on loopback, on a port of the system's choosing."""
    state = tmp_path_factory.mktemp("living") / "state"
    shutil.copytree(filled.state, state)
    services = build_services(Settings.at(state))
    server = uvicorn.Server(
        uvicorn.Config(create_app(services=services), access_log=False, log_level="warning", ws="none")
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", services
        server.should_exit = True
        thread.join(30)


class Options(TypedDict, total=False):
    """Of a browser's context."""

    locale: str
    extra_http_headers: dict[str, str]
    java_script_enabled: bool


class People(Protocol):
    """A signed-in person, by holder."""

    def __call__(self, holder: str, **options: Unpack[Options]) -> Person: ...


class Person:
    """Somebody at a browser of their own. Complaints of the browser and requests to other places are kept."""

    def __init__(self, chromium: Browser, base: str, **options: Unpack[Options]) -> None:
        self.context = chromium.new_context(viewport={"width": 1240, "height": 900}, accept_downloads=True, **options)
        self.page, self.base = self.context.new_page(), base
        self.complaints: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self.base):
            self.complaints.append(f"asked {request.url}")

    def go(self, path: str) -> Page:
        self.page.goto(f"{self.base}/desk/{path}")
        return self.page

    def sign_in(self, key: str) -> Person:
        self.go("sign-in").fill("#api_key", key)
        self.page.click("main button")
        self.page.wait_for_url(f"{self.base}/desk/")
        return self

    def says(self) -> str:
        return str(self.page.text_content("main"))


@pytest.fixture
def people(chromium: Browser, living: tuple[str, Services], filled: Installed) -> Iterator[People]:
    """``people(holder, **options)``: a signed-in person."""
    made: list[Person] = []

    def one(holder: str, **options: Unpack[Options]) -> Person:
        made.append(Person(chromium, living[0], **options).sign_in(filled.keys[holder]))
        return made[-1]

    yield one
    for person in made:
        person.context.close()
        assert [text for text in person.complaints if "favicon" not in text and "404" not in text] == []


def test_signs_in_by_keyboard_and_reads_a_budget(
    chromium: Browser, living: tuple[str, Services], filled: Installed
) -> None:
    base, services = living
    person = Person(chromium, base)
    page = person.go("budgets")  # leads to the door, and from there to where one wanted to go
    assert page.url.startswith(f"{base}/desk/sign-in")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "api_key"
    page.keyboard.type(filled.keys["ada.officer"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"{base}/desk/budgets")
    most = services.budgets.overview().lines[0].standings[0].spent_max
    text = person.says()
    assert f"ε\xa0=\xa0{most:.3g}" in text
    assert "δ = 1e-05" in text
    assert page.locator("svg.chart[role=img] title").count() >= 3
    person.context.close()


def test_a_second_officer_approves_a_cap(people: People, living: tuple[str, Services]) -> None:
    services = living[1]
    ada, lin = people("ada.officer"), people("lin.officer")
    page = ada.go("caps")
    page.select_option("#bound", "train.contribute")
    page.fill("#epsilon_max", "9")
    page.fill("#reason", "lower first")
    page.click("#propose ~ form button")
    assert "The cap is lowered" in ada.says()
    page.select_option("#bound", "train.contribute")
    page.fill("#epsilon_max", "9.25")
    page.fill("#reason", "the review is done")
    page.click("#propose ~ form button")
    assert "takes effect when a second officer approves it" in ada.says()
    number = next(cap.id for cap in services.caps.list() if cap.epsilon_max == 9.25)
    mine = page.locator(f"article[aria-label='Proposal {number}']")
    assert "another officer has to approve it" in mine.text_content()
    assert mine.locator("button:has-text('Approve')").count() == 0
    theirs = lin.go("caps").locator(f"article[aria-label='Proposal {number}']")
    theirs.locator("button:has-text('Approve')").click()
    assert "approved and in force" in lin.page.text_content("[role=status]")
    cap = next(cap for cap in services.caps.list() if cap.id == number)
    assert (cap.state, cap.proposed_by, cap.decided_by) == (CapState.IN_FORCE, "ada.officer", "lin.officer")
    bounds = {b.bound: b.in_force for b in services.caps.in_force() if b.unit is PrivacyUnit.USER}
    assert bounds["train.contribute"] == 9.25


def titles_of(page: Page) -> list[str]:
    """Of the page, and of what is framed in it."""
    return [frame.title() for frame in page.frames]


def test_a_creative_is_reviewed_and_published(people: People, living: tuple[str, Services]) -> None:
    services = living[1]
    handed = handed_in(services)
    person = people("ada.officer")
    page = person.go("review")
    page.click(f"#waits ~ .scroll a[href$='{handed.campaign}']")
    page.click("button:has-text('Approve revision')")
    assert "Approved." in str(page.text_content("[role=status]"))
    page = person.go(f"review/{handed.creative}")
    for tongue, label in (("en", "Ad"), ("zh-CN", "广告")):
        frame = page.frame_locator(f"iframe[src$='locale={tongue}']")
        assert frame.locator(".reticent-ad-label").text_content() == label
        assert "Nuts & Sons Ltd." in str(frame.locator("small").text_content())
        assert frame.locator("svg[role=img]").get_attribute("aria-label")
    english = page.frame_locator("iframe[src$='locale=en']")
    assert "<script>" in str(english.locator("strong").text_content()), "what was handed in is there, as text"
    assert english.locator("aside script, aside img, aside b").count() == 0
    assert "caught" not in titles_of(page)
    assert page.evaluate("window.caught") is None
    page.click("button:has-text('Approve revision')")
    assert "Approved." in str(page.text_content("[role=status]"))
    assert handed.creative in in_catalogue(services)
    page.select_option("#reason", "misleading")
    page.fill("#note", "the price is another one")
    page.click("button:has-text('Reject and take down now')")
    assert handed.creative not in in_catalogue(services)
    assert "the price is another one" in person.says()


def test_the_preview_would_stay_shut_without_the_escaping(
    people: People, living: tuple[str, Services], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second wall: hostile markup that gets through runs nowhere here; without the walls it would (the control)."""
    from server.dashboard.pages import review

    handed = handed_in(living[1])
    hostile = f"<aside>{SCRIPT}{IMAGE}<form action='/desk/sign-out' method='post'><button>x</button></form></aside>"
    monkeypatch.setattr(review, "fragment", lambda _creative, _locale: hostile)
    person = people("ada.officer")
    page = person.go(f"review/{handed.creative}")
    page.wait_for_load_state("networkidle")
    frame = page.frame_locator("iframe[src$='locale=en']")
    frame.locator("button").click()
    assert frame.locator("script").count() == 1, "the control: it did get through"
    assert page.evaluate("window.caught") is None
    assert "caught" not in titles_of(page)
    assert person.go("review").url.endswith("/desk/review"), "and nobody was signed out"
    bare = person.context.new_page()
    bare.set_content(f"<title>quiet</title>{hostile}")
    bare.wait_for_function("document.title === 'caught'")
    person.complaints.clear()


def test_a_request_is_handled(people: People, living: tuple[str, Services]) -> None:
    services = living[1]
    waiting = services.requests.open()
    person = people("lin.officer")
    page = person.go("requests")
    assert page.locator("#queue ~ .scroll tbody tr").count() == len(waiting)
    assert re.search(r"\d+ days left", person.says())
    erasure = next(request for request in waiting if request.request == "erasure")
    page.click(f"#queue ~ .scroll a[href$='{erasure.request_id}']")
    handle = str(erasure.handle)
    assert handle in person.says()
    page.click("button:has-text('Approve')")
    page.click("button:has-text('Carry out now')")
    assert "completed" in page.text_content("[role=status]")
    assert "What remains, and what bounds it" in person.says()
    assert handle not in page.content()
    assert services.requests.get(erasure.request_id).status is RequestStatus.COMPLETED
    assert services.consent.find(handle) is None


def test_the_bundle_is_downloaded_and_verified_elsewhere(
    people: People, living: tuple[str, Services], tmp_path: Path
) -> None:
    person = people("ines.auditor")
    page = person.go("exports")
    with page.expect_download() as expected:
        page.click("text=Download the bundle")
    archive = tmp_path / expected.value.suggested_filename
    expected.value.save_as(archive)
    key = living[1].signer.public.x
    assert key in page.text_content("pre.note")
    whole = _verify(archive, key)
    assert whole.returncode == 0, whole.stdout
    forged = _forged(archive)
    found = _verify(forged, key)
    assert found.returncode == 1
    assert "edit" in found.stdout + found.stderr


def _forged(archive: Path) -> Path:
    """The same bundle, in which somebody else has lowered the cap."""
    forged = archive.with_name("forged.zip")
    with zipfile.ZipFile(archive) as old, zipfile.ZipFile(forged, "w") as new:
        for info in old.infolist():
            body = old.read(info)
            if info.filename == "log/leaves.jsonl":
                assert b"privacy_officer:ada.officer" in body
                body = body.replace(b"privacy_officer:ada.officer", b"privacy_officer:eve.officer", 1)
            new.writestr(info, body)
    return forged


def _verify(archive: Path, key: str) -> subprocess.CompletedProcess[str]:
    """``reticent verify`` in a process that knows nothing of the installation."""
    command = [sys.executable, "-c", "from cli.main import app; app()", "verify", archive.name, "--key", key]
    environment = os.environ | {"RETICENT_STATE_DIR": str(archive.parent / "nothing"), "PYTHONPATH": str(Path.cwd())}
    return subprocess.run(command, cwd=archive.parent, env=environment, capture_output=True, text=True, check=False)


def test_the_log_is_verified_by_a_button(people: People) -> None:
    person = people("ines.auditor")
    person.go("log").click("text=Verify the log now")
    assert "Verified:" in person.page.text_content("p.said[role=status]")


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_contrast_names_and_width(people: People, language: str) -> None:
    person = people("ada.officer", locale=language, extra_http_headers={"accept-language": language})
    for path in PAGES:
        page = person.go(path)
        assert page.evaluate(_CONTRAST) == [], path
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 391, path
        page.set_viewport_size({"width": 1240, "height": 900})
    page.evaluate(
        "document.querySelector('h1').setAttribute('style', 'color: #aaa')"
    )  # not applied: the policy forbids it
    page.evaluate("document.querySelector('h1').style.color = '#aab'")
    assert len(page.evaluate(_CONTRAST)) == 1  # the control is caught
    person.complaints.clear()


def test_everything_is_reached_by_keyboard(people: People) -> None:
    person = people("ada.officer")
    for path in ("caps", "controls", "requests", "review", "picks", "log"):
        page = person.go(path)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0  # seen once it has the focus
        wanted = page.evaluate(
            "[...document.querySelectorAll('a[href],button,input:not([type=hidden]),select,textarea,[tabindex=\"0\"],summary')].length"
        )
        seen = 0
        for _ in range(wanted + 2):
            outlined = page.evaluate("getComputedStyle(document.activeElement).outlineStyle !== 'none'")
            assert outlined or page.evaluate("document.activeElement === document.body")
            seen += page.evaluate("document.activeElement.dataset.seen ? 0 : (document.activeElement.dataset.seen = 1)")
            page.keyboard.press("Tab")
        assert seen >= wanted
    page = person.go("budgets")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_without_scripts(people: People, living: tuple[str, Services]) -> None:
    person = people("ada.officer", java_script_enabled=False)
    page = person.go("controls")
    page.fill("#t2", "JP")
    page.click("text=Stop all purposes there")
    assert "Stopped." in person.says()
    assert "JP" in {stop.target for stop in living[1].controls.stopped()}
    page.click("button[aria-label='Lift the stop of JP']")
    assert "JP" not in {stop.target for stop in living[1].controls.stopped()}


def test_the_language_switch(people: People) -> None:
    person = people("ada.officer")
    page = person.go("consent")
    page.click("text=简体中文")
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.url.endswith("/desk/consent")
    assert "同意" in str(page.text_content("h1"))
    page.click("text=English")
    assert page.text_content("h1") == "Consent"


@pytest.mark.skipif("RETICENT_PICTURES" not in os.environ, reason="RETICENT_PICTURES names no folder for pictures")
def test_pictures(people: People) -> None:
    folder = Path(os.environ["RETICENT_PICTURES"])
    english = people("lin.officer")
    chinese = people("lin.officer", locale="zh-CN", extra_http_headers={"accept-language": "zh-CN"})
    shots = (
        (english, "", "overview"), (english, "budgets", "budgets"), (english, "requests", "requests"),
        (english, "caps", "caps"), (english, "log", "log"), (chinese, "consent", "consent-zh"),
    )  # fmt: skip
    for person, path, name in shots:
        file = folder / f"desk-{name}.png"
        person.go(path).screenshot(path=file)
        with Image.open(file) as picture:  # a palette is enough, and a third of the size
            picture.convert("RGB").quantize(160).save(file, optimize=True)
        assert file.stat().st_size < 150_000
