"""No acknowledged decision is lost when every process is killed; the control, which does not wait, loses some.

Error probability: none for the service (a lost row is a bug). The control may keep all of its rows only if no answer
was younger than 50 ms when it was killed; over two kills under load that has not been seen.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.decisions_kill import measure

SYNC_FULL = 2
pytestmark = pytest.mark.fault


def test_no_acknowledged_decision_is_lost(tmp_path: Path) -> None:
    found = measure(tmp_path / "state", app="real", acknowledged=50_000, kills=3)
    assert found.acknowledged >= 50_000
    assert found.lost == 0
    assert found.synchronous == SYNC_FULL  # a killed process cannot test the power


def test_answers_that_do_not_wait_are_caught(tmp_path: Path) -> None:
    """Control."""
    assert measure(tmp_path / "state", app="behind", acknowledged=4_000, kills=2).lost > 0
