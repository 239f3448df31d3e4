"""Who may see the owner's page, and what its forms do."""

from __future__ import annotations

import http.client
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.owner.loopback import Loopback
from cli.owner.site import COOKIE, IDLE_S_MAX, Request, Site
from client.device import OWNER, Node
from common.taxonomy import Purpose
from policies.consent import Permit, Refusal
from tests.owner.furnished import furnish

ORIGIN = "http://127.0.0.1:4321"


class Browser:
    """Keeps the cookie and reads the proof."""

    def __init__(self, site: Site, origin: str = ORIGIN) -> None:
        self.site, self.host, self.cookie = site, origin.removeprefix("http://"), ""

    def get(self, target: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        answer = self.site.answer(Request("GET", target, {"host": self.host, "cookie": self.cookie} | headers))
        return answer.status, answer.body.decode(), dict(answer.headers)

    def open(self) -> str:
        status, _, headers = self.get(self.site.link.removeprefix(f"http://{self.host}"))
        assert status == 303
        self.cookie = headers["set-cookie"].partition(";")[0]
        return headers["location"]

    def post(self, path: str, body: str, **headers: str) -> int:
        own = {"host": self.host, "cookie": self.cookie, "origin": f"http://{self.host}"}
        return self.site.answer(Request("POST", path, own | headers, body.encode())).status

    def proof(self) -> str:
        found = re.search(r'name="proof" value="([^"]+)"', self.get("/")[1])
        assert found is not None
        return found[1]


class Hand:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    furnish(tmp_path / "node").close()
    return tmp_path / "node"


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def site(directory: Path, hand: Hand) -> Site:
    return Site(lambda: Node.open(directory, prove=False), OWNER, origin=ORIGIN, connect=None, clock=hand)


def test_the_link_works_once(site: Site) -> None:
    browser, second = Browser(site), Browser(site)
    link = site.link
    assert browser.get("/")[0] == 403
    browser.open()
    assert browser.get("/")[0] == 200
    assert second.get(link.removeprefix(ORIGIN))[0] == 403
    assert second.get("/")[0] == 403


@pytest.mark.parametrize("key", ["", "x", "x" * 43])
def test_another_link_does_not(site: Site, key: str) -> None:
    assert Browser(site).get(f"/?key={key}")[0] == 403


def test_the_cookie_is_for_this_browser_alone_and_the_page_is_not_kept(site: Site) -> None:
    browser = Browser(site)
    answer = browser.get(site.link.removeprefix(ORIGIN))
    assert "HttpOnly; SameSite=Strict" in answer[2]["set-cookie"]
    browser.cookie = answer[2]["set-cookie"].partition(";")[0]
    headers = browser.get("/")[2]
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert Browser(site).get("/", cookie=f"{COOKIE}=guess")[0] == 403


def test_another_host_name_is_refused(site: Site) -> None:
    """DNS rebinding: a page from elsewhere whose name suddenly points at this machine."""
    browser = Browser(site)
    browser.open()
    assert browser.get("/", host="evil.example:4321")[0] == 403
    assert browser.get("/", host="")[0] == 403


def test_an_idle_page_closes(site: Site, hand: Hand) -> None:
    browser = Browser(site)
    browser.open()
    hand.time = IDLE_S_MAX - 1
    assert browser.get("/")[0] == 200
    hand.time += IDLE_S_MAX + 1
    assert browser.get("/")[0] == 403


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ("purpose=all", {}),
        ("purpose=all&proof=guess", {}),
        ("purpose=all&proof={proof}", {"origin": "http://evil.example"}),
        ("purpose=all&proof={proof}", {"cookie": ""}),
        ("purpose=all&proof={proof}", {"host": "evil.example"}),
        ("purpose=all&proof={proof}&x=" + "y" * 5000, {}),
    ],
)
def test_a_forged_form_changes_nothing(site: Site, directory: Path, body: str, headers: dict[str, str]) -> None:
    browser = Browser(site)
    browser.open()
    assert browser.post("/withdraw", body.format(proof=browser.proof()), **headers) == 403
    with Node.open(directory, prove=False) as node:
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Permit)


def test_withdrawing_everything_holds_at_once_although_no_service_can_be_told(site: Site, directory: Path) -> None:
    browser = Browser(site)
    browser.open()
    assert browser.post("/withdraw", f"purpose=all&lang=zh-CN&proof={browser.proof()}") == 303
    with Node.open(directory, prove=False) as node:
        assert all(isinstance(node.gate.permits(OWNER, purpose), Refusal) for purpose in Purpose)
        assert node.gate.untold(OWNER) == sorted(Purpose)
    page = browser.get("/?lang=zh-CN")[1]
    assert "已撤回，本设备立即生效" in page
    assert "已撤回，本设备立即生效" not in browser.get("/?lang=zh-CN")[1], "said once"
    assert "尚未通知服务方" in page


def test_one_purpose_alone(site: Site, directory: Path) -> None:
    browser = Browser(site)
    browser.open()
    browser.post("/withdraw", f"purpose=place.personalised&proof={browser.proof()}")
    with Node.open(directory, prove=False) as node:
        assert isinstance(node.gate.permits(OWNER, Purpose.PLACE_PERSONALISED), Refusal)
        assert isinstance(node.gate.permits(OWNER, Purpose.TRAIN_CONTRIBUTE), Permit)


def test_a_topic_is_switched_off_and_on_again(site: Site, directory: Path) -> None:
    browser = Browser(site)
    browser.open()
    assert browser.post("/tags", "tag=Groceries&switch=off&proof=guess") == 403
    assert browser.post("/tags", f"tag=Groceries&switch=off&proof={browser.proof()}") == 303
    with Node.open(directory, prove=False) as node:
        assert node.choices.read(OWNER).refused_tags == ("groceries",)
    page = browser.get("/")[1]
    assert "holds from the next ad on" in page
    assert "Allow again" in page
    assert browser.post("/tags", f"tag=groceries&switch=on&proof={browser.proof()}") == 303
    assert browser.post("/tags", f"tag=&switch=off&proof={browser.proof()}") == 303
    assert "That did not work" in browser.get("/")[1]
    with Node.open(directory, prove=False) as node:
        assert node.choices.read(OWNER).refused_tags == ()


def test_nothing_can_be_asked_without_a_service(site: Site) -> None:
    browser = Browser(site)
    browser.open()
    assert browser.post("/request", f"request=access&proof={browser.proof()}") == 403
    assert 'action="/request"' not in browser.get("/")[1]


def test_what_is_not_there_is_not_found(site: Site) -> None:
    browser = Browser(site)
    browser.open()
    assert browser.get("/etc/passwd")[0] == 404
    assert browser.post("/other", f"proof={browser.proof()}") == 404


@pytest.fixture
def loopback(directory: Path) -> Iterator[tuple[Loopback, Site]]:
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


def test_over_a_socket_of_this_machine(loopback: tuple[Loopback, Site]) -> None:
    server, site = loopback
    host, _, port = server.origin.removeprefix("http://").partition(":")
    assert host == "127.0.0.1"
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.request("GET", site.link.removeprefix(server.origin))
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (303, b"")
    cookie = str(answer.headers["set-cookie"]).partition(";")[0]
    connection.request("GET", "/", headers={"cookie": cookie})
    page = connection.getresponse()
    assert page.status == 200
    assert b"This device and you" in page.read()
    connection.request("POST", "/withdraw", body=b"x" * 5000, headers={"cookie": cookie})
    assert connection.getresponse().status == 413
    connection.close()
