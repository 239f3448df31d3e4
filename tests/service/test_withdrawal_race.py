"""A withdrawal is in force before its own answer arrives, and no acknowledged word is lost: two real workers, loaded.

Error probability: a stale answer is a bug, not chance; the control shows that the test would see a service that
believes for 250 ms what it has read.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest
from sqlalchemy import text

from common.taxonomy import ConsentState, LogKind, Purpose
from server.api.services import build_services
from server.settings import Settings
from tests.service.served import WORKERS, Served, acknowledged, furnish, served

ANSWERS_MIN = 5_000
PEOPLE, ASKED = 4, 25
pytestmark = pytest.mark.fault


def people_who_change_their_mind(running: Served, until: int) -> Counter[str]:
    """People grant and withdraw while others ask all the time; how many answers after a withdrawal were stale."""
    found: Counter[str] = Counter()
    lock, stop = threading.Lock(), threading.Event()

    def load() -> None:
        with running.client() as http:
            handle = running.enrol(http)
            acknowledged(running.grant(http, handle))
            while not stop.is_set():
                assert running.mode(http, handle) == "on_device"

    def person(_number: int) -> None:
        with ExitStack() as stack:
            mine = stack.enter_context(running.client())
            asking = [stack.enter_context(running.client()) for _ in range(4)]
            handle = running.enrol(mine)
            while True:
                acknowledged(running.grant(mine, handle))
                before = [running.mode(http, handle) for http in asking]
                acknowledged(running.withdraw(mine, handle))
                after = [running.mode(asking[number % len(asking)], handle) for number in range(ASKED)]
                with lock:
                    found["granted"] += before.count("on_device")
                    found["answers"] += len(after)
                    found["stale"] += after.count("on_device")
                    if found["answers"] >= until:
                        return
                time.sleep(0.3 if until < ANSWERS_MIN else 0)  # lets a control's memory of the withdrawal fade

    with ThreadPoolExecutor(PEOPLE + 1) as pool:
        loading = pool.submit(load)
        people = [pool.submit(person, number) for number in range(PEOPLE)]
        try:
            for one in people:
                one.result()
        finally:
            stop.set()
        loading.result()
    assert len(running.workers) == WORKERS
    return found


def test_no_answer_after_a_withdrawal_is_stale(any_settings: Settings) -> None:
    with served(any_settings, *furnish(any_settings)) as running:
        found = people_who_change_their_mind(running, ANSWERS_MIN)
        # Who commits: the sequencer for all workers, or each of them.
        assert any_settings.sequencer_socket.exists() is any_settings.database_url.startswith("sqlite")
    assert found["answers"] >= ANSWERS_MIN
    assert found["granted"] >= ANSWERS_MIN // ASKED  # grants are seen at once, so withdrawals have something to end
    assert found["stale"] == 0, dict(found)


def test_a_service_that_remembers_permits_is_caught(any_settings: Settings) -> None:
    """Control: the same test, against a cache of 250 ms."""
    with served(any_settings, *furnish(any_settings), app="cached") as running:
        found = people_who_change_their_mind(running, 400)
    assert found["stale"] > 0, dict(found)


def told(handle: str, answer: httpx.Response) -> list[tuple[str, str, str]]:
    """Receipts that were acknowledged."""
    return [(handle, receipt["receipt_id"], receipt["state"]) for receipt in acknowledged(answer)]


@contextlib.contextmanager
def busy(running: Served, heard: list[tuple[str, str, str]]) -> Iterator[None]:
    """People who grant and withdraw without pause; what was acknowledged to them, in the order in which it was."""
    stop = threading.Event()

    def person(_number: int) -> None:
        with running.client() as http, contextlib.suppress(httpx.TransportError):
            handle = running.enrol(http)
            while not stop.is_set():
                for act in (running.grant, running.withdraw):
                    heard.extend(told(handle, act(http, handle)))

    with ThreadPoolExecutor(PEOPLE) as pool:
        people = [pool.submit(person, number) for number in range(PEOPLE)]
        try:
            yield
        finally:
            stop.set()
        for one in people:
            one.result()


def test_a_kill_right_after_the_answer_loses_nothing(any_settings: Settings) -> None:
    """SIGKILL to all processes the moment a withdrawal is acknowledged, with others in mid-change, three times over."""
    key, notice = furnish(any_settings)
    heard: list[tuple[str, str, str]] = []
    withdrawn: list[str] = []
    for _ in range(3):
        with served(any_settings, key, notice) as running:
            with busy(running, heard), running.client() as http:
                handle = running.enrol(http)
                acknowledged(running.grant(http, handle))
                time.sleep(0.5)
                begun, end = len(heard), time.monotonic() + 60
                while len(heard) < begun + 20 and time.monotonic() < end:  # a busy machine is slow to say anything
                    time.sleep(0.01)
                answer = running.withdraw(http, handle)
                running.kill()
            heard.extend(told(handle, answer))
            withdrawn.append(handle)
    assert len(heard) > 50
    services = build_services(any_settings)
    try:
        for handle in withdrawn:
            stands = {one.purpose: one.state for one in services.consent.effective(handle)}
            assert stands[Purpose.PLACE_PERSONALISED] is ConsentState.WITHDRAWN
        logged = {entry.leaf.seq for entry in services.log.each((LogKind.CONSENT,))}
        with services.database.read() as session:
            rows = session.execute(text("SELECT receipt_id, state, log_seq FROM consent_event")).all()
        stored = {receipt: (state, seq) for receipt, state, seq in rows}
        lost = [receipt for _, receipt, state in heard if stored.get(receipt, ("", None))[0] != state]
        assert lost == []
        assert {seq for _, seq in stored.values()} == logged  # neither an event without entry nor the reverse
        assert stored.keys() >= {receipt for _, receipt, _ in heard}
        services.log.root()
    finally:
        services.database.close()
