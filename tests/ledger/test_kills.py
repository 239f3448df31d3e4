"""Real processes, killed or side by side, and damaged files: what was charged stays charged."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from pathlib import Path

import pytest

from client.budget import Ledger, Reservation
from client.store.keys import DeviceId
from common.errors import StoreError, VaultCorrupt
from tests.ledger.homes import ANNA, Home, refused
from tests.ledger.worlds import NOW, POLICY, ROUND


def _charge_until_killed(folder: Path, ready: object) -> None:
    home = Home(folder)
    with home.ledger() as book:
        for number in range(100_000):
            book.reserve([DeviceId(f"d{number % 50}")], ROUND, cause=f"run/{number}")
            if number == 5:
                ready.set()  # type: ignore[attr-defined]


@pytest.mark.parametrize("delay_ms", [0, 3, 11])
def test_a_kill_in_the_middle_of_reserving_loses_nothing(home: Home, delay_ms: int) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=_charge_until_killed, args=(home.folder, ready))
    process.start()
    assert ready.wait(30)
    seen = []
    with home.ledger() as book:
        seen = [(device, book.epsilon(device)) for device in book.devices()]
    process.join(delay_ms / 1000)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    assert not refused(home)
    with home.ledger() as book:
        assert book.verify().problems == ()
        assert len(book.entries()) >= 12
        assert all(book.epsilon(device) >= before for device, before in seen)


def _charge_then_die(folder: Path) -> None:
    Home(folder).charge("run/1")
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_charge_survives_a_kill(home: Home) -> None:
    process = multiprocessing.get_context("fork").Process(target=_charge_then_die, args=(home.folder,))
    process.start()
    process.join(30)
    assert process.exitcode == -signal.SIGKILL
    with home.ledger() as book:
        assert [entry.state for entry in book.entries(ANNA)] == ["reserved", "reserved"]


def _charge_many(folder: Path, name: str, results: object) -> None:
    home = Home(folder)
    granted = sum(isinstance(home.charge(f"{name}/{number}"), Reservation) for number in range(15))
    results.put(granted)  # type: ignore[attr-defined]


def test_two_processes_share_one_budget_and_one_chain(home: Home) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    both = [context.Process(target=_charge_many, args=(home.folder, name, results)) for name in ("one", "two")]
    for process in both:
        process.start()
    granted = sum(results.get(timeout=60) for _ in both)
    for process in both:
        process.join(30)
        assert process.exitcode == 0
    assert granted == 20
    assert not refused(home)
    with home.ledger() as book:
        assert len(book.entries(ANNA)) == 40
        assert book.verify().problems == ()


def test_two_handles_in_one_process_share_one_budget(home: Home) -> None:
    with home.ledger() as one, home.ledger() as two:
        granted = sum(
            isinstance(book.reserve([ANNA], ROUND, cause=f"{name}/{number}")[ANNA], Reservation)
            for number in range(15)
            for name, book in (("one", one), ("two", two))
        )
        assert granted == 20
        assert two.epsilon(ANNA) == one.epsilon(ANNA)


@pytest.mark.parametrize("content", [b"", b"x" * 5000])
def test_a_damaged_ledger_stops_everything(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ledger.db").write_bytes(content)
    with pytest.raises(VaultCorrupt, match="the privacy ledger"):
        Ledger.open(tmp_path / "ledger.db", POLICY, now=lambda: NOW)
    assert (tmp_path / "ledger.db").read_bytes() == content


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.95])
def test_a_truncated_or_overwritten_ledger_is_named(home: Home, cut: float) -> None:
    for number in range(10):
        home.charge(f"run/{number}")
    path = home.folder / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    with pytest.raises(StoreError):
        home.charge("run/x")
    path.write_bytes(data[: int(len(data) * cut)] + os.urandom(len(data) - int(len(data) * cut)))
    try:
        with home.ledger() as book:
            assert book.verify().problems  # either the check names what is wrong
    except StoreError:
        pass  # or the file does not open
