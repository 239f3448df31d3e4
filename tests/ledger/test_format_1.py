"""A ledger of the first format is brought forward: no spend is lost, and a copy of it put back later is seen."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import sqlite3
from pathlib import Path

import pytest

from client.budget import Ledger, Reservation
from client.store.keys import DeviceId
from common.errors import LedgerRolledBack, VaultCorrupt
from common.privacy import accountant
from common.taxonomy import Purpose, ReleaseKind
from tests.ledger.worlds import DAY, DELTA, GAUSSIAN, NOW, POLICY, RECORD_LINE, RECORD_ROUND

FORMAT_1 = """
CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, cause TEXT NOT NULL, purpose TEXT NOT NULL,
    period INTEGER NOT NULL, day INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('reserved', 'settled')),
    mechanism TEXT NOT NULL, noise_multiplier REAL NOT NULL, sampling_rate REAL NOT NULL, uses INTEGER NOT NULL,
    unit TEXT NOT NULL, relation TEXT NOT NULL, trust TEXT NOT NULL, randomness TEXT NOT NULL,
    epsilon REAL NOT NULL, epsilon_total REAL NOT NULL, delta REAL NOT NULL, UNIQUE (device, cause)) STRICT;
CREATE INDEX entries_by_period ON entries (period, device);
CREATE TABLE refusals (
    id INTEGER PRIMARY KEY AUTOINCREMENT, device TEXT NOT NULL, cause TEXT NOT NULL, purpose TEXT NOT NULL,
    day INTEGER NOT NULL, reason TEXT NOT NULL, epsilon_would_be REAL NOT NULL,
    epsilon_cap REAL NOT NULL) STRICT;
CREATE TRIGGER a_charge_is_never_changed
BEFORE UPDATE OF device, period, mechanism, noise_multiplier, sampling_rate, uses, epsilon, epsilon_total ON entries
BEGIN SELECT RAISE(ABORT, 'a charge is never changed'); END;
PRAGMA user_version = 1
"""
ANNA, BEN = DeviceId("anna"), DeviceId("ben")
SAMPLED = ("poisson_subsampled_gaussian", 2.0, 0.25, 3)
FULL = ("gaussian", 4.0, 1.0, 1)


def old_ledger(path: Path) -> None:
    day = int(NOW // DAY)
    rows = [(name, f"run/{number}", FULL, day, "settled") for number in range(6) for name in (ANNA, BEN)]
    rows += [(ANNA, "run/9", FULL, day, "reserved"), (BEN, "run/9", SAMPLED, day, "reserved")]
    rows += [(ANNA, "last-year/1", FULL, day - 400, "settled")]
    line = (GAUSSIAN.unit.value, GAUSSIAN.relation.value, GAUSSIAN.trust.value, "somewhere", 0.9, 1.0, DELTA)
    insert = "INSERT INTO entries VALUES (NULL" + ", ?" * 17 + ")"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(FORMAT_1)
        for name, cause, use, at, state in rows:
            head = (name, cause, "train.contribute", at // 100, at, state)
            connection.execute(insert, (*head, *use, *line))
        connection.execute(
            "INSERT INTO refusals VALUES (NULL, ?, 'run/8', 'train.contribute', ?, 'budget-exhausted', 11.0, 10.0)",
            (ANNA, day),
        )
        connection.commit()


def test_no_spend_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    old_ledger(path)
    for _ in range(2):  # the second time there is nothing left to do
        ledger = Ledger.open(path, POLICY, now=lambda: NOW)
        assert [len(ledger.entries(name)) for name in (ANNA, BEN)] == [8, 7]
        assert ledger.epsilon(ANNA, RECORD_LINE) == accountant.epsilon([GAUSSIAN] * 7, DELTA)
        sampled = ledger.entries(BEN)[-1].use
        assert (sampled.noise_multiplier, sampled.sampling_rate, sampled.count) == (2.0, 0.25, 3)
        assert ledger.epsilon(BEN, RECORD_LINE) == accountant.epsilon([*[GAUSSIAN] * 6, sampled], DELTA)
        assert {entry.state for entry in ledger.entries(ANNA)} == {"settled", "reserved"}
        assert {entry.kind for entry in ledger.entries()} == {ReleaseKind.TRAINING_UPDATE}
        (refusal,) = ledger.refusals()
        assert (refusal.device, refusal.cause, refusal.purpose) == (ANNA, "run/8", Purpose.TRAIN_CONTRIBUTE)
        assert ledger.verify().problems == ()
        again = ledger.reserve([ANNA], [RECORD_ROUND], cause="run/3")[ANNA]
        assert isinstance(again, Reservation)
        assert again.repeated
        ledger.close()


def test_a_copy_of_the_old_format_put_back_later_is_seen(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.db", tmp_path / "copy.db"
    old_ledger(path)
    shutil.copy(path, copy)
    with contextlib.closing(Ledger.open(path, POLICY, now=lambda: NOW)) as ledger:
        ledger.confirm()
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    shutil.copy(copy, path)  # nothing was spent in between: the same ledger
    with contextlib.closing(Ledger.open(path, POLICY, now=lambda: NOW)) as ledger:
        ledger.confirm()
        ledger.reserve([ANNA], [RECORD_ROUND], cause="new")
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    shutil.copy(copy, path)
    with contextlib.closing(Ledger.open(path, POLICY, now=lambda: NOW)) as ledger:
        with pytest.raises(LedgerRolledBack):
            ledger.reserve([ANNA], [RECORD_ROUND], cause="newer")
        assert "anchor" in ledger.verify().problems[0]


def test_an_interrupted_upgrade_leaves_the_old_ledger_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from client.store import ledger_table

    path = tmp_path / "ledger.db"
    old_ledger(path)
    calls = itertools.count()
    genuine = ledger_table.charge_asked

    def failing(*arguments: object) -> None:
        if next(calls) == 4:
            raise MemoryError
        genuine(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger_table, "charge_asked", failing)
    with pytest.raises(MemoryError):
        Ledger.open(path, POLICY, now=lambda: NOW)
    monkeypatch.undo()
    with contextlib.closing(Ledger.open(path, POLICY, now=lambda: NOW)) as ledger:
        assert len(ledger.entries()) == 15
        assert ledger.verify().problems == ()


@pytest.mark.parametrize("version", [0, 3])
def test_a_format_of_the_future_or_of_nobody_is_named(tmp_path: Path, version: int) -> None:
    path = tmp_path / "ledger.db"
    Ledger.open(path, POLICY, now=lambda: NOW).close()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(VaultCorrupt, match=f"format {version}"):
        Ledger.open(path, POLICY, now=lambda: NOW)
