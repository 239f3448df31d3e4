"""A fresh vault for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.store.keys import KeyStore
from client.store.vault import Vault


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys")


@pytest.fixture
def vault(tmp_path: Path, keys: KeyStore) -> Iterator[Vault]:
    opened = Vault.open(tmp_path / "vault.db", keys)
    yield opened
    opened.close()
