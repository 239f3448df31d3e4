"""The owner's journal of what left the device."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from client.journal import Journal, read_journal
from common.errors import VaultCorrupt
from common.wire.journal import JournalRow


def row(time: float, device: str = "d1", outcome: str = "sent", epsilon: float = 0.25) -> JournalRow:
    return JournalRow(time, device, "training_contribution", "train.contribute", 100, "ab" * 32, epsilon, outcome)


def test_what_was_written_is_read_in_order(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    assert read_journal(path) == []
    journal = Journal(path)
    journal.write([row(2.0), row(1.0, "d2", epsilon=math.inf)])
    journal.write([row(3.0, outcome="consent-withdrawn", epsilon=0.0)])
    assert read_journal(path) == [
        row(1.0, "d2", epsilon=math.inf),
        row(2.0),
        row(3.0, outcome="consent-withdrawn", epsilon=0.0),
    ]
    assert read_journal(path, "d1") == [row(2.0), row(3.0, outcome="consent-withdrawn", epsilon=0.0)]


def test_only_sent_messages_of_the_kind_and_time_are_counted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.db")
    journal.write([row(1.0), row(5.0), row(6.0), row(6.0, outcome="too-often"), row(6.0, "d2")])
    assert journal.sent_since("training_contribution", 5.0) == {"d1": 2, "d2": 1}
    assert journal.sent_since("consent_change", 0.0) == {}


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"no database at all")
    with pytest.raises(VaultCorrupt, match="the egress journal"):
        Journal(path).write([row(1.0)])
