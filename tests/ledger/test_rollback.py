"""A ledger that was put back, lost, cut or edited is seen; nothing is released until its owner accepts it as spent."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from client.budget import Ledger, Reservation
from client.store import ledger_chain
from client.store.ledger_chain import Anchor, Mark
from common.errors import BudgetExhausted, StoreError, VaultCorrupt
from tests.ledger.homes import ANNA, BEN, Home, refused
from tests.ledger.worlds import DAY, NOW, POLICY, RECORD_LINE


def test_an_older_copy_put_back_is_seen(home: Home, tmp_path: Path) -> None:
    for number in range(3):
        home.charge(f"run/{number}")
    home.copy_ledger(tmp_path / "copy")
    assert not refused(home)
    home.charge("run/3")
    home.put_back(tmp_path / "copy")
    assert refused(home)
    with home.ledger() as book:
        assert len(book.entries(ANNA)) == 6  # its owner may still read it
        assert "anchor: the privacy ledger is older" in book.verify().problems[0]


def test_the_newest_copy_put_back_is_fine(home: Home, tmp_path: Path) -> None:
    home.charge("run/0")
    home.copy_ledger(tmp_path / "copy")
    home.put_back(tmp_path / "copy")
    assert not refused(home)


def test_a_lost_ledger_is_seen(home: Home) -> None:
    home.charge("run/0")
    for file in home.folder.glob("ledger.db*"):
        file.unlink()
    assert refused(home)


def test_a_lost_or_damaged_anchor_is_seen(home: Home) -> None:
    home.charge("run/0")
    whole = home.anchor.read_bytes()
    home.anchor.unlink()
    assert refused(home)
    for damaged in (b"", whole[:-1], b"x" * len(whole), whole[:40] + b"\1" * (len(whole) - 40)):
        home.anchor.write_bytes(damaged)
        assert refused(home)
    home.anchor.write_bytes(whole)
    assert not refused(home)
    Anchor(home.anchor.with_name("other")).create()
    home.anchor.with_name("other").replace(home.anchor)  # a fresh one, of another key
    assert refused(home)


def test_another_device_s_ledger_is_seen(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    for place in (home, other):
        for number in range(3):
            place.charge(f"run/{number}")
    other.charge("run/3")
    other.copy_ledger(tmp_path / "copy")
    home.put_back(tmp_path / "copy")
    assert refused(home)


def test_a_crash_between_ledger_and_anchor_is_fine(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.charge("run/0")
    behind = home.anchor.read_bytes()
    home.charge("run/1")
    home.charge("run/2")
    home.anchor.write_bytes(behind)  # as if the program had ended twice before it wrote the anchor
    assert not refused(home)
    with home.ledger() as book:
        assert book.verify().problems == ()

    def failing(*_: object) -> None:
        raise StoreError("no")

    monkeypatch.setattr(Anchor, "write", failing)
    with pytest.raises(StoreError):
        home.charge("run/4", BEN)
    monkeypatch.undo()
    with home.ledger() as book:
        assert book.epsilon(BEN) > 0  # over-counted, never under-counted


@pytest.mark.parametrize("forgery", ["extra link", "changed link"])
def test_a_forged_continuation_is_seen(home: Home, forgery: str) -> None:
    home.charge("run/0")
    behind = home.anchor.read_bytes()
    home.charge("run/1")
    home.anchor.write_bytes(behind)
    with sqlite3.connect(home.folder / "ledger.db") as connection:
        connection.execute("DROP TRIGGER a_link_is_never_changed")
        if forgery == "extra link":
            connection.execute("INSERT INTO chain SELECT sequence + 1, what, root, link FROM chain WHERE sequence = 2")
        else:
            connection.execute("UPDATE chain SET what = 'x' WHERE sequence = 2")
    assert refused(home)


def test_reset_counts_the_whole_period_as_spent_and_the_next_begins_afresh(home: Home, tmp_path: Path) -> None:
    home.charge("run/0")
    home.copy_ledger(tmp_path / "copy")
    home.charge("run/1")
    home.put_back(tmp_path / "copy")
    period, moved = Ledger.recover(home.folder / "ledger.db", POLICY, now=lambda: home.now)
    assert (period, moved) == (NOW // DAY // 100, None)
    assert all(isinstance(home.charge("new", name), BudgetExhausted) for name in (ANNA, BEN))
    with home.ledger() as book:
        assert book.exhausted
        assert (book.epsilon(ANNA), book.remaining(BEN)) == (5.0, 0.0)
        said = book.statement(BEN, RECORD_LINE)
        assert (said.epsilon, "lost ledger" in said.composition) == (5.0, True)
        assert book.verify().problems == ()
        assert book.refusals(BEN)[0].bound == "cap"
    home.now += 100 * DAY
    assert isinstance(home.charge("later"), Reservation)
    home.now -= 100 * DAY
    with home.ledger() as book:
        assert not book.exhausted  # the period that was begun runs on
        assert book.epsilon(ANNA) > 0


def test_a_device_is_erased_after_a_reset(home: Home) -> None:
    home.charge("run/0")
    home.charge("run/0", BEN)
    home.now += 101 * DAY
    Ledger.recover(home.folder / "ledger.db", POLICY, now=lambda: home.now)
    with home.ledger() as book:
        book.forget(ANNA)
        assert (book.entries(ANNA), book.devices(), book.exhausted) == ([], [BEN], True)
        assert book.verify().problems == ()


@pytest.mark.parametrize("loss", ["ledger gone", "ledger damaged", "anchor gone", "anchor damaged", "both gone"])
def test_reset_goes_on_from_any_loss(home: Home, loss: str) -> None:
    home.charge("run/0")
    files = [home.folder / "ledger.db"] if loss.startswith("ledger") else [home.anchor]
    for file in files if loss != "both gone" else [home.folder / "ledger.db", home.anchor]:
        if loss.endswith("gone"):
            file.unlink()
        else:
            file.write_bytes(b"x" * file.stat().st_size)
    for file in home.folder.glob("ledger.db-*"):
        file.unlink()
    if loss == "ledger damaged":
        with pytest.raises(VaultCorrupt):
            home.charge("run/1")
    elif loss != "both gone":
        assert refused(home)
    _, moved = Ledger.recover(home.folder / "ledger.db", POLICY, now=lambda: home.now)
    assert (moved is not None) == (loss == "ledger damaged")
    assert isinstance(home.charge("run/1"), BudgetExhausted)
    with home.ledger() as book:
        assert book.verify().problems == ()
    home.now += 100 * DAY
    assert isinstance(home.charge("run/2"), Reservation)


def test_a_lost_ledger_of_a_later_period_than_the_clock_says_exhausts_that_one(home: Home) -> None:
    home.now += 200 * DAY
    home.charge("run/0")
    home.now -= 200 * DAY
    (home.folder / "ledger.db").unlink()
    period, _ = Ledger.recover(home.folder / "ledger.db", POLICY, now=lambda: home.now)
    assert period == NOW // DAY // 100 + 2
    assert isinstance(home.charge("run/1"), BudgetExhausted)


TAMPERING = {
    "a_use": ("UPDATE uses SET description = replace(description, '5.0', '50.0')", "charges: row 1 was changed"),
    "a_release": ("UPDATE releases SET epsilon = 0.01 WHERE charge = 2", "charges: row 2 was changed"),
    "an_entry": ("DELETE FROM entries WHERE charge = 2", "entries: those of charge 2"),
    "another_entry": ("UPDATE entries SET device = 2 WHERE charge = 1", "entries: those of charge 1"),
    "a_charge": (
        "PRAGMA foreign_keys = OFF; DELETE FROM entries WHERE charge = 3; DELETE FROM charges WHERE id = 3",
        "charges: a row is missing",
    ),
    "spend": ("UPDATE spend SET times = times - 1 WHERE device = 1", "spend: device anna"),
    "spend_dropped": ("DELETE FROM spend WHERE device = 2", "spend: device ben"),
    "a_link": ("UPDATE chain SET what = 'x' WHERE sequence = 2", "chain: link 2 is not genuine"),
    "exhausted": ("DELETE FROM exhausted", "is no longer marked as spent"),
}


@pytest.mark.parametrize("name", TAMPERING)
def test_verify_names_the_first_bad_row(home: Home, name: str) -> None:
    statement, expected = TAMPERING[name]
    home.charge("run/0")
    home.charge("run/1")
    home.charge("run/2", BEN)
    if name == "exhausted":
        Ledger.recover(home.folder / "ledger.db", POLICY, now=lambda: home.now)
    with home.ledger() as book:
        assert book.verify().problems == ()
    connection = sqlite3.connect(home.folder / "ledger.db", isolation_level=None)
    triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
    for (trigger,) in triggers:
        connection.execute(f"DROP TRIGGER {trigger}")
    connection.executescript(statement)
    connection.close()
    with home.ledger() as book:
        assert expected in book.verify().problems[0]


def test_verify_sees_a_device_over_its_cap(home: Home) -> None:
    for number in range(5):
        home.charge(f"run/{number}")
    tight = POLICY.model_copy(update={"lines": (RECORD_LINE.model_copy(update={"epsilon_cap": 1.0}),)})
    with contextlib.closing(Ledger.open(home.folder / "ledger.db", tight, now=lambda: NOW)) as book:
        assert "caps: 1 devices have spent" in book.verify().problems[0]


def test_a_torn_anchor_keeps_the_mark_before(tmp_path: Path) -> None:
    anchor = Anchor(tmp_path / "a")
    anchor.create()
    assert anchor.read() == Mark(0, 0, ledger_chain.NOTHING)
    marks = [Mark(number, 7, bytes([number]) * 32) for number in range(1, 6)]
    for mark in marks:
        before = anchor.path.read_bytes()
        anchor.write(mark)
        after = anchor.path.read_bytes()
        for cut in range(0, len(after), 7):
            anchor.path.write_bytes(after[:cut] + before[cut:])
            found = anchor.read()
            assert found is not None
            assert mark.sequence - 1 <= found.sequence <= mark.sequence
        anchor.path.write_bytes(after)
    anchor.write(marks[2])  # an older one never replaces a newer one
    assert anchor.read() == marks[4]
