"""The bench tampers and judges as it says; an attack that is not named at its row counts as missed."""

from __future__ import annotations

import pytest

from bench.transparency import LIMIT_S, Evidence, Timed, main, make, tampered, told, verify
from common.taxonomy import Tampering
from common.transparency.findings import Finding


def test_every_attack_on_a_small_log_is_found_and_named() -> None:
    lines = list(tampered(make(3_000, seed=5), rows_each=2, seed=5))
    assert len(lines) == 22
    assert [line for line in lines if not line.right] == []


@pytest.mark.parametrize(
    "finding",
    [
        None,
        Finding(Tampering.DELETION, "log", 7, ""),
        Finding(Tampering.EDIT, "log", 8, ""),
        Finding(Tampering.EDIT, "log", 0, "", last=9),
    ],
)
def test_what_is_missed_or_misnamed_counts_as_missed(finding: Finding | None) -> None:
    assert not told("edit", 7, Tampering.EDIT, Timed(finding, 0, 0)).right
    assert told("edit", 7, Tampering.EDIT, Timed(Finding(Tampering.EDIT, "log", 7, ""), 0, 0)).right


def test_without_anything_signed_nothing_is_found() -> None:
    """The control: it is the checkpoints that find an edit, and nothing else about the log."""
    made = make(500, seed=1)
    rows = list(made.rows)
    rows[9] = made.rows[9].replace(b'"actor":"', b'"actor":"x', 1)
    assert verify(rows, Evidence()).finding is None


def test_it_fails_when_it_is_too_slow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "--entries", "3000", "--rows", "1"])
    monkeypatch.setattr("bench.transparency.LIMIT_S", LIMIT_S / 1e6)
    assert main() == 1
    assert "too slow" in capsys.readouterr().out
