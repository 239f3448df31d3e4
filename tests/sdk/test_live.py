"""The client against the service itself, and against one that is slow or gone."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from reticent_client import AsyncClient, Client, Patience, Pick, Problem, Signals, Slot, Unreachable
from tests.sdk.conftest import Live

IN_NO_HURRY = 20_000


@pytest.fixture
def client(live: Live) -> Iterator[Client]:
    with Client(live.url, api_key=live.key) as client:
        yield client


def test_ads_by_the_page_and_their_follow_ups(client: Client) -> None:
    decision = client.decide(
        [Slot("top", 2), Slot("side")], context={"page": "recipes"}, locale="zh-CN", tmax_ms=IN_NO_HURRY
    )
    assert (decision.mode, decision.unanswered, len(decision.shown)) == ("contextual", None, 3)
    first = decision.of("top")[0]
    assert first.creative is not None
    assert (first.creative.label, first.reason) == ("广告", "consent-required")
    assert first.creative.why.payer
    assert first.tokens is not None
    assert client.confirm(first.tokens["impression"], "impression").fresh
    assert not client.confirm(first.tokens["impression"], "impression").fresh
    assert client.confirm(first.tokens["click"], "click").fresh
    forged = first.tokens["impression"][:-8] + "AAAAAAAA"
    with pytest.raises(Problem) as caught:
        client.confirm(forged, "impression")
    assert (caught.value.status, caught.value.name) == (403, "TokenForged")


def test_consent_from_the_notice_to_the_withdrawal(client: Client, live: Live) -> None:
    handle, notice = live.enrol(), client.notice("en", jurisdiction="CN")
    purposes = {"train.local": "given", "place.personalised": "given"}
    assert not client.check(handle, ["place.personalised"]).permits("place.personalised")
    changed = client.record(handle, purposes, notice=notice, surface="settings")  # type: ignore[arg-type]
    assert {receipt.state for receipt in changed.receipts} == {"given"}
    assert client.check(handle, ["place.personalised"]).permits("place.personalised")
    assert not client.check(handle, ["place.personalised"], signals=Signals(gpc=True)).permits("place.personalised")
    decision = client.decide([Slot("top")], handle=handle, tmax_ms=IN_NO_HURRY)
    assert (decision.mode, bool(decision.permit), decision.slots[0].tokens) == ("on_device", True, None)
    opposed = client.decide([Slot("top")], handle=handle, signals=Signals(gpc=True), tmax_ms=IN_NO_HURRY)
    assert (opposed.mode, opposed.slots[0].reason) == ("contextual", "signal-opt-out")
    assert opposed.privacy_signal.honoured
    assert client.withdraw(handle).stops["placement"]
    after = client.decide([Slot("top")], handle=handle, tmax_ms=IN_NO_HURRY)
    assert (after.mode, after.slots[0].reason) == ("contextual", "consent-withdrawn")


def test_a_devices_pick_leads_to_a_choice_and_a_made_up_one_to_none(client: Client, live: Live) -> None:
    handle, notice = live.enrol(), client.notice()
    given = {"train.local": "given", "place.personalised": "given"}
    client.record(handle, given, notice=notice, surface="settings")  # type: ignore[arg-type]
    stored, listed = live.services.picks.lists.current("default")
    pick = Pick("default", listed.epoch, 2, listed.epsilon, stored.digest)
    picked = client.decide([Slot("top")], handle=handle, pick=pick, tmax_ms=IN_NO_HURRY)
    assert (picked.mode, picked.slots[0].reason, bool(picked.slots[0].tokens)) == ("private_pick", None, True)
    again = client.decide([Slot("top")], handle=handle, pick=pick, tmax_ms=IN_NO_HURRY)
    assert again.mode == "private_pick"
    other = client.decide([Slot("top")], handle=handle, pick=replace(pick, index=3), tmax_ms=IN_NO_HURRY)
    assert (other.mode, other.slots[0].reason) == ("contextual", "pick-redrawn")
    old = client.decide([Slot("top")], handle=handle, pick=replace(pick, epoch=1), tmax_ms=IN_NO_HURRY)
    assert (old.mode, old.slots[0].reason) == ("contextual", "pick-outdated")


def test_the_words_of_the_button_and_each_signal_arrive(client: Client) -> None:
    decision = client.decide([Slot("top")], signals=Signals(us_privacy="1YYN"), tmax_ms=IN_NO_HURRY)
    creative = decision.shown[0].creative
    assert creative is not None
    assert creative.call_to_action in creative.html
    (finding,) = decision.privacy_signal.signals
    assert (finding.signal, finding.opposes["place.personalised"]) == ("us_privacy", "sale-opt-out")
    notice = client.notice("zh-CN", jurisdiction="CN")
    assert {purpose.id for purpose in notice.purposes} >= {"train.local", "place.personalised"}
    assert (notice.digest in notice.accepted, notice.terms is not None) == (True, True)


def test_a_wrong_key_is_said(live: Live) -> None:
    with Client(live.url, api_key="rtk_app_backend_wrong") as wrong, pytest.raises(Problem) as caught:
        wrong.decide([Slot("top")], tmax_ms=IN_NO_HURRY)
    assert (caught.value.status, caught.value.name) == (401, "NotAuthenticated")


def test_many_threads_share_one_client(client: Client) -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(client.decide([Slot("top")], tmax_ms=IN_NO_HURRY).decision_id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(set(found) - {""}) == 8


def test_the_asynchronous_client(live: Live) -> None:
    async def run() -> None:
        async with AsyncClient(live.url, api_key=live.key) as client:
            decisions = await asyncio.gather(*(client.decide([Slot("top")], tmax_ms=IN_NO_HURRY) for _ in range(4)))
            assert {len(decision.shown) for decision in decisions} == {1}
            handle, notice = live.enrol(), await client.notice()
            await client.record(handle, {"train.local": "refused"}, notice=notice, surface="settings")
            assert (await client.check(handle, ["train.local"])).purposes["train.local"].reason == "consent-refused"
            assert (await client.withdraw(handle, ["train.local"])).receipts

    asyncio.run(run())


@contextmanager
def dripping(pause_s: float) -> Iterator[str]:
    """Takes connections and answers a byte at a time."""
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.05)

        def one(held: socket.socket) -> None:
            with held:
                held.recv(9_000)
                held.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
                while not stop.wait(pause_s):
                    try:
                        held.sendall(b" ")
                    except OSError:
                        return

        def serve() -> None:
            while not stop.is_set():
                try:
                    held, _ = listening.accept()
                except TimeoutError:
                    continue
                threading.Thread(target=one, args=(held,), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        stop.set()
        thread.join(5)


@pytest.mark.parametrize("pause_s", [30.0, 0.02], ids=["silent", "dripping"])
def test_late_is_no_answer_and_no_error(pause_s: float) -> None:
    """A client without a deadline would wait for 30 s, or for half an hour: between them a busy machine has room."""
    with dripping(pause_s) as url:
        began = time.monotonic()
        with Client(url, api_key="k") as client:
            assert client.decide([Slot("top")], tmax_ms=150).unanswered == "unreachable"
        assert time.monotonic() - began < 15
        began = time.monotonic()

        async def run() -> None:
            async with AsyncClient(url, api_key="k") as client:
                assert (await client.decide([Slot("top")], tmax_ms=150)).unanswered == "unreachable"

        asyncio.run(run())
        assert time.monotonic() - began < 15


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with Client(url, api_key="k", patience=Patience(within_s=0.4)) as client:
        assert client.decide([Slot("top")], tmax_ms=100).unanswered == "unreachable"
        with pytest.raises(Unreachable):
            client.notice()
