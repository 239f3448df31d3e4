from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from common.taxonomy import Role
from server.api.services import build_services, initialise
from server.settings import Settings
from server.storage import open_database
from tests.service import postgres
from tests.service.world import Clock, World

UNHURRIED = " ".join(f"{role.value}=100000000/60" for role in Role)  # test_access has limits of its own


@pytest.fixture(scope="session")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised installation, to be copied."""
    folder = tmp_path_factory.mktemp("blank") / "state"
    initialise(Settings.at(folder), clock=Clock()).database.close()
    return folder


@pytest.fixture(scope="session")
def socket_folder() -> Iterator[str]:
    reason = postgres.missing()
    if reason:
        pytest.skip(reason)
    with postgres.cluster() as folder:
        yield folder


@pytest.fixture
def settings(blank: Path, tmp_path: Path) -> Settings:
    shutil.copytree(blank, tmp_path / "state")
    return replace(Settings.at(tmp_path / "state"), rate_limits=UNHURRIED)


@pytest.fixture
def world(settings: Settings) -> Iterator[World]:
    """An empty installation on SQLite."""
    clock = Clock()
    world = World(build_services(settings, clock=clock), clock)
    yield world
    world.close()


@pytest.fixture
def furnished(world: World) -> World:
    world.furnish()
    return world


@pytest.fixture(params=["sqlite", "postgresql"])
def any_settings(request: pytest.FixtureRequest, settings: Settings) -> Settings:
    """The same installation on each kind of database."""
    if request.param == "sqlite":
        return settings
    folder: str = request.getfixturevalue("socket_folder")
    name = f"t{uuid4().hex}"
    admin = open_database(postgres.url(folder, "postgres"))
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.close()
    return replace(settings, database_url=postgres.url(folder, name))


@pytest.fixture
def any_world(any_settings: Settings) -> Iterator[World]:
    clock = Clock()
    world = World(initialise(any_settings, clock=clock), clock)
    world.furnish()
    yield world
    world.close()
