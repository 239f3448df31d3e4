"""Fixtures of the ledger tests."""

from pathlib import Path

import pytest

from tests.ledger.homes import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")
