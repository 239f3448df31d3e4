"""Prebid.js, as publishers run it, in a real headless Chromium, on a page of another origin than the service.

The bundle is made when the tests run: ``npm ci`` by the lock file in ``prebid/`` (Prebid.js 11.36.0, Apache-2.0), then
esbuild; or RETICENT_PREBID_BUNDLE names a bundle that is there already. Without npm, Chromium or the npm registry the
tests are skipped and say why.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from common.crypto.signing import SigningKey
from common.taxonomy import Purpose, Role
from common.wire.messages import ConsentChange, SubjectEnrolment
from server.api.services import Services, initialise
from server.settings import Settings
from tests.service.alive import alive
from tests.service.bidding import GRANTED, REFUSED, RULES, VECTORS_NOW, VENDOR, creatives
from tests.service.world import APP, Clock, register_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Request, Response

pytestmark = pytest.mark.browser
HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
AUCTION = (HERE / "prebid" / "auction.js").read_text("utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A publisher's page with its own build of Prebid.js."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copy(HERE / "page.html", folder / "index.html")
    shutil.copy(_bundle(folder), folder / "prebid.js")
    handler = functools.partial(_Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()
    thread.join(10)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it has above
        """Say nothing."""


def _bundle(folder: Path) -> Path:
    """Prebid.js with the modules of ``entry.js``, in one file."""
    if ready := os.environ.get("RETICENT_PREBID_BUNDLE"):
        return Path(ready)
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not on PATH: Prebid.js cannot be fetched")
    build = folder / "build"
    shutil.copytree(HERE / "prebid", build)
    fetch = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        fetched = subprocess.run(fetch, cwd=build, capture_output=True, text=True, timeout=240, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("npm did not fetch Prebid.js within four minutes")
    if fetched.returncode:
        pytest.skip(f"npm cannot fetch Prebid.js: {fetched.stderr.strip().splitlines()[-1:]}")
    tool = [str(build / "node_modules" / ".bin" / "esbuild"), "entry.js", "--bundle", "--minify", "--outfile=bundle.js"]
    subprocess.run(tool, cwd=build, capture_output=True, timeout=240, check=True)
    return build / "bundle.js"


@dataclass
class Exchange:
    """The service on loopback, and who is known there."""

    url: str
    services: Services
    key: str
    handle: str


@pytest.fixture(scope="module")
def exchange(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    settings = replace(Settings.at(tmp_path_factory.mktemp("exchange") / "state"), signals=RULES)
    services = initialise(settings, clock=Clock(VECTORS_NOW + 3600))
    register_model(services)
    services.catalogues.publish(creatives())
    key = services.access.issue(Role.EXCHANGE, label="recipes", app_id=APP).token
    with alive(services) as url:
        yield Exchange(url, services, key, _consenting(services))


def _consenting(services: Services) -> str:
    """Somebody who has agreed to everything; their handle."""
    public = SigningKey.generate().public.x
    person = SubjectEnrolment(public_key=public, app_id=APP, age_band="adult", jurisdiction="CN")
    handle = services.consent.enrol(person)
    change = ConsentChange(
        handle=handle,
        notice_digest=services.notices.current("en").digest,
        decisions=dict.fromkeys(Purpose, "given"),
        locale="en",
        surface="page",
    )
    services.consent.change(change, Role.APP_BACKEND)
    return handle


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


@dataclass
class Visit:
    """One page view, and what went over the wire between page and service."""

    context: BrowserContext
    page: Page
    exchange: Exchange
    asked: list[Request] = field(default_factory=list)
    answered: list[Response] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def sent(self, request: Request) -> None:
        self.asked.append(request)

    def came(self, answer: Response) -> None:
        self.answered.append(answer)

    def auction(self, *, headers: bool = False, bidder: str = "reticent", **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as Prebid has it
        """Ask for bids as a page does; ``more`` goes into Prebid's configuration."""
        door = f"{self.exchange.url}/openrtb2/auction" + ("" if headers else f"?key={self.exchange.key}")
        sync = f"{self.exchange.url}/cookie_sync"
        server: dict[str, Any] = {
            "accountId": "recipes",
            "adapter": "prebidServer",
            "enabled": True,
            "bidders": [bidder],
            "timeout": more.pop("timeout", 20_000),
            "endpoint": {"p1Consent": door, "noP1Consent": door},
            "syncEndpoint": {"p1Consent": sync, "noP1Consent": sync},
        }
        if headers:
            server["customHeaders"] = {"Authorization": f"Bearer {self.exchange.key}"}
        unit = {
            "code": "div-top",
            "mediaTypes": more.pop("media", {"banner": {"sizes": [[300, 250]]}}),
            "bids": [{"bidder": bidder, "params": {}}],
        }
        config = {"s2sConfig": server, "gvlMapping": {bidder: VENDOR, "prebidServer": VENDOR}} | more
        return dict(self.page.evaluate(AUCTION, {"config": config, "unit": unit, "timeout": 30_000}))

    def auctions(self) -> list[Request]:
        return [one for one in self.asked if "/openrtb2/auction" in one.url and one.method == "POST"]

    def body(self) -> dict[str, Any]:
        (sent,) = self.auctions()
        assert sent.headers["content-type"].startswith("text/plain")
        return dict(json.loads(sent.post_data or ""))

    def summary(self) -> dict[str, Any]:
        answer = next(one for one in self.answered if "/openrtb2/auction" in one.url and one.status == 200)
        return dict(answer.json()["ext"]["reticent"])

    def handled(self) -> dict[str, Any]:
        """First-party data by which an app tells its own service for whom it asks."""
        return {"user": {"ext": {"reticent": {"handle": self.exchange.handle}}}}


@pytest.fixture
def visit(chromium: Browser, site: str, exchange: Exchange) -> Iterator[Callable[..., Visit]]:
    made: list[Visit] = []

    def one(**options: Any) -> Visit:  # noqa: ANN401 - a context has many
        context = chromium.new_context(**options)
        found = Visit(context, context.new_page(), exchange)
        made.append(found)
        found.page.on("request", found.sent)
        found.page.on("response", found.came)
        found.page.on("pageerror", lambda error: found.errors.append(str(error)))
        found.page.goto(site)
        return found

    yield one
    for found in made:
        cookies = found.context.cookies()
        found.context.close()
        assert cookies == []  # nothing was set, whatever happened
        assert found.errors == []


def tcf(text: str) -> dict[str, Any]:
    """A page whose consent tool answers with this TC string; every purpose and vendor where it is the granted one."""
    purposes = {str(number): text == GRANTED or number != 4 for number in range(1, 12)}
    data = {
        "tcString": text,
        "gdprApplies": True,
        "purpose": {"consents": purposes, "legitimateInterests": {}},
        "vendor": {"consents": {str(VENDOR): True}, "legitimateInterests": {}},
    }
    return {"gdpr": {"cmpApi": "static", "consentData": {"getTCData": data}, "defaultGdprScope": True}}


NOT_ENFORCED = [
    {"purpose": name, "enforcePurpose": False, "enforceVendor": False, "vendorExceptions": []}
    for name in ("storage", "basicAds", "measurement", "transmitPreciseGeo", "personalizedAds")
]


def test_a_bid_is_shown_and_seen(visit: Callable[..., Visit]) -> None:
    one = visit()
    found = one.auction()
    (bid,) = found["bids"]
    assert (bid["bidderCode"], bid["cpm"], bid["currency"], bid["mediaType"]) == ("reticent", 2.5, "USD", "banner")
    assert (bid["width"], bid["height"], found["failed"], found["timedOut"]) == (300, 250, [], False)
    assert bid["meta"]["advertiserDomains"]
    assert bid["meta"]["dsa"]["paid"]
    assert one.summary()["reason"] == "consent-required"  # nothing personal: the page alone was looked at
    before, clicks = (one.exchange.services.follow_ups.tally()[kind] for kind in ("impression", "click"))
    with one.page.expect_response(lambda answer: "/openrtb2/billing/" in answer.url) as seen:
        one.page.evaluate("id => pbjs.renderAd(document.getElementById('top').contentDocument, id)", bid["adId"])
    assert seen.value.status == 204
    assert one.exchange.services.follow_ups.tally()["impression"] == before + 1
    frame = one.page.frame_locator("#top").frame_locator("iframe")  # Prebid draws an ad in a frame of its own
    frame.locator(".reticent-ad").wait_for(timeout=30_000)
    assert frame.locator(".reticent-ad-label").inner_text() == "Ad"
    assert frame.locator("a").get_attribute("rel") == "sponsored noopener noreferrer"
    assert "<script" not in bid["ad"]
    landing = next(c.landing_url for c in creatives() if c.creative_id == bid["creativeId"])
    one.context.route(landing, lambda route: route.fulfill(body="the shop"))
    with one.context.expect_page() as opened:
        frame.locator("a").click()
    opened.value.wait_for_url(landing)  # by way of our counter, to the registered page
    assert one.exchange.services.follow_ups.tally()["click"] == clicks + 1
    frame.locator(".reticent-ad-close").click()
    frame.locator(".reticent-ad-box").wait_for(state="hidden", timeout=30_000)


def test_the_key_in_a_header_takes_a_preflight(visit: Callable[..., Visit]) -> None:
    one = visit()
    assert len(one.auction(headers=True, bidder="groceries")["bids"]) == 1
    assert one.exchange.key not in one.auctions()[0].url


def test_no_bid(visit: Callable[..., Visit]) -> None:
    one = visit()
    offered = one.exchange.services.catalogues.opened()
    assert offered is not None
    one.exchange.services.catalogues.publish(creatives(bid_micros=0))
    try:
        found = one.auction()
    finally:
        one.exchange.services.catalogues.publish(offered.creatives)
    assert (found["bids"], found["failed"], found["timedOut"]) == ([], [], False)
    assert [answer.status for answer in one.answered if "/openrtb2/auction" in answer.url] == [204]


def test_consent_lets_the_device_choose(visit: Callable[..., Visit]) -> None:
    one = visit()
    found = one.auction(consentManagement=tcf(GRANTED), ortb2=one.handled())
    assert len(found["bids"]) == 1
    assert one.body()["user"]["ext"]["consent"] == GRANTED
    assert one.body()["regs"]["ext"]["gdpr"] == 1
    assert (one.summary()["mode"], bool(one.summary()["permit"])) == ("on_device", True)


def test_refused_consent_is_contextual_here(visit: Callable[..., Visit]) -> None:
    """A page that does not enforce purposes by itself: the service hears the refusal, and nothing personal is used."""
    one = visit()
    enforcement = tcf(REFUSED)
    enforcement["gdpr"]["rules"] = NOT_ENFORCED
    found = one.auction(consentManagement=enforcement, ortb2=one.handled())
    assert len(found["bids"]) == 1
    assert one.body()["user"]["ext"]["reticent"]["handle"] == one.exchange.handle
    summary = one.summary()
    assert (summary["mode"], summary["reason"], "permit" in summary) == ("contextual", "signal-opt-out", False)
    assert summary["privacy_signal"]["honoured"] is True


def test_prebids_own_enforcement_never_asks(visit: Callable[..., Visit]) -> None:
    """A page that enforces purposes, and a person who refused all of them: no request is made at all."""
    one = visit()
    refused = tcf(REFUSED)
    refused["gdpr"]["consentData"]["getTCData"]["purpose"]["consents"] = {}
    refused["gdpr"]["consentData"]["getTCData"]["vendor"]["consents"] = {}
    found = one.auction(consentManagement=refused, ortb2=one.handled())
    assert found["bids"] == []
    assert one.auctions() == []


def test_global_privacy_control(visit: Callable[..., Visit]) -> None:
    for options, script in (
        ({"extra_http_headers": {"sec-gpc": "1"}}, None),
        ({}, "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})"),
    ):
        one = visit(**options)
        if script is not None:
            one.context.add_init_script(script)
            one.page.reload()
        assert len(one.auction(ortb2=one.handled())["bids"]) == 1
        assert ("gpc" in one.body().get("regs", {}).get("ext", {})) is (script is not None)
        summary = one.summary()
        assert (summary["mode"], summary["reason"]) == ("contextual", "signal-opt-out")
        assert (summary["privacy_signal"]["gpc"], summary["privacy_signal"]["honoured"]) == (True, True)


def test_the_control_without_signals_is_personal(visit: Callable[..., Visit]) -> None:
    """What the two above must not see: the same page and person, and nothing opposed."""
    one = visit()
    assert len(one.auction(ortb2=one.handled())["bids"]) == 1
    assert one.summary()["mode"] == "on_device"


def test_a_native_ad(visit: Callable[..., Visit]) -> None:
    assets = [{"id": 1, "required": 1, "title": {"len": 80}}, {"id": 2, "required": 1, "data": {"type": 1}}]
    one = visit()
    found = one.auction(media={"native": {"ortb": {"assets": assets, "ver": "1.2"}}})
    (bid,) = found["bids"]
    assert bid["mediaType"] == "native"
    values = {asset["id"]: asset for asset in bid["native"]["ortb"]["assets"]}
    assert values[1]["title"]["text"]
    assert values[2]["data"]["value"].startswith("Ad")


def test_cookie_sync_is_asked_and_nothing_follows(visit: Callable[..., Visit]) -> None:
    one = visit()
    with one.page.expect_response(lambda answer: answer.url.endswith("/cookie_sync")) as synced:
        one.auction(userSync={"syncEnabled": True, "syncDelay": 0})
    assert synced.value.json() == {"status": "no_cookie", "bidder_status": []}
    strangers = [
        sent.url for sent in one.asked if not sent.url.startswith((one.exchange.url, "http://127.0.0.1:", "data:"))
    ]
    assert strangers == []
