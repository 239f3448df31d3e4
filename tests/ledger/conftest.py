"""Fixtures of the ledger tests."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from server import migrations
from server.storage import Database, open_database
from tests.ledger.homes import Home
from tests.service import postgres


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "home").mkdir()
    return Home(tmp_path / "home")


@pytest.fixture(scope="session")
def socket_folder() -> Iterator[str]:
    reason = postgres.missing()
    if reason:
        pytest.skip(reason)
    with postgres.cluster() as folder:
        yield folder


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/server.db"
    else:
        folder, name = request.getfixturevalue("socket_folder"), f"l{uuid4().hex}"
        maker = open_database(postgres.url(folder, "postgres"))
        with maker.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        maker.close()
        url = postgres.url(folder, name)
    opened = open_database(url)
    migrations.migrate(opened)
    yield opened
    opened.close()
