"""The owner's page with a service behind it: what is withdrawn and asked there is so at the service."""

from __future__ import annotations

import time

import pytest

from cli.owner.site import Site
from client.device import OWNER, Node
from common.errors import DeviceErased
from common.taxonomy import Purpose, RequestKind
from tests.device.conftest import Household
from tests.owner.test_site import ORIGIN, Browser


@pytest.fixture
def browser(agreed: Household) -> Browser:
    node = agreed.node
    site = Site(
        lambda: Node.open(node.directory, node.settings, prove=False),
        OWNER,
        origin=ORIGIN,
        connect=agreed.connect,
        clock=time.monotonic,
    )
    browser = Browser(site)
    browser.open()
    return browser


def test_withdrawing_everything_is_in_force_at_the_service(agreed: Household, browser: Browser) -> None:
    assert browser.post("/withdraw", f"purpose=all&proof={browser.proof()}") == 303
    assert "It holds on this device and at the service." in browser.get("/")[1]
    assert not any(line.permitted for line in agreed.agent.standing().purposes)
    assert agreed.node.gate.untold(OWNER) == []


def test_what_could_not_be_told_is_told_again(agreed: Household, browser: Browser) -> None:
    agreed.wire.cut = True
    browser.post("/withdraw", f"purpose=train.contribute&proof={browser.proof()}")
    page = browser.get("/")[1]
    assert "the service has not been told yet" in page
    assert "Tell the service now" in page
    agreed.wire.cut = False
    browser.post("/withdraw", f"purpose=train.contribute&proof={browser.proof()}")
    assert "the service has not been told yet" not in browser.get("/")[1]
    standing = {line.purpose: line.permitted for line in agreed.agent.standing().purposes}
    assert (standing[Purpose.TRAIN_CONTRIBUTE], standing[Purpose.TRAIN_LOCAL]) == (False, True)


def test_a_request_is_made_and_shown(agreed: Household, browser: Browser) -> None:
    assert browser.post("/request", f"request=access&proof={browser.proof()}") == 303
    (asked,) = agreed.node.requests.of(OWNER)
    assert asked.request is RequestKind.ACCESS
    page = browser.get("/")[1]
    assert "has received your request and signed for it" in page
    assert f"reticent device package {asked.request_id} FILE.zip" in page


def test_erasure_needs_its_box_ticked_and_then_empties_both_sides(agreed: Household, browser: Browser) -> None:
    browser.post("/request", f"request=erasure&proof={browser.proof()}")
    assert "Nothing was deleted" in browser.get("/")[1]
    assert agreed.node.vault.read(OWNER)
    browser.post("/request", f"request=erasure&sure=yes&proof={browser.proof()}")
    page = browser.get("/")[1]
    assert "Everything was deleted, here and at the service." in page
    assert "This device was erased." in page
    with Node.open(agreed.node.directory, prove=False) as node, pytest.raises(DeviceErased):
        node.vault.read(OWNER)
    assert agreed.node.requests.of(OWNER)[0].request is RequestKind.ERASURE


def test_a_service_that_refuses_is_said(agreed: Household, browser: Browser) -> None:
    agreed.wire.cut = True
    browser.post("/request", f"request=access&proof={browser.proof()}")
    assert "That did not work: ServiceUnreachable" in browser.get("/")[1]
