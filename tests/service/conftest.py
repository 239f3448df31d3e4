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
from tests.service.bidding import sell
from tests.service.campaigning import Agency
from tests.service.world import Clock, World, register_model

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


@pytest.fixture(scope="session")
def stocked(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An installation with a model and a catalogue, on SQLite, to be copied."""
    folder = tmp_path_factory.mktemp("stocked") / "state"
    shutil.copytree(blank, folder)
    _furnish(Settings.at(folder))
    return folder


@pytest.fixture(scope="session")
def stocked_database(socket_folder: str, blank: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The same on PostgreSQL: its state directory, and the database that others are made from."""
    folder, name = tmp_path_factory.mktemp("stocked") / "state", f"t{uuid4().hex}"
    shutil.copytree(blank, folder)
    _create(socket_folder, name)
    _furnish(Settings.at(folder, database_url=postgres.url(socket_folder, name)))
    return folder, name


def _furnish(settings: Settings) -> None:
    clock = Clock()
    world = World(initialise(settings, clock=clock), clock)
    world.furnish()
    world.close()


def _create(socket_folder: str, name: str, template: str = "template1") -> None:
    _administer(socket_folder, f"CREATE DATABASE {name} TEMPLATE {template}")


def _administer(socket_folder: str, command: str) -> None:
    admin = open_database(postgres.url(socket_folder, "postgres"))
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(command))
    admin.close()


@pytest.fixture
def settings(blank: Path, tmp_path: Path) -> Settings:
    shutil.copytree(blank, tmp_path / "state")
    return replace(Settings.at(tmp_path / "state"), rate_limits=UNHURRIED)


@pytest.fixture
def world(request: pytest.FixtureRequest, settings: Settings) -> Iterator[World]:
    """An empty installation on SQLite; for ``furnished`` one with everything in it."""
    if "furnished" in request.fixturenames:
        _stocked(settings, request.getfixturevalue("stocked"))
    clock = Clock()
    world = World(build_services(settings, clock=clock), clock)
    yield world
    world.close()


@pytest.fixture
def furnished(world: World) -> World:
    """With a model and a catalogue."""
    return world


@pytest.fixture(params=["sqlite", "postgresql"])
def any_settings(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Settings]:
    """An installation on each kind of database: for ``any_world`` with everything in it, else an empty database."""
    stock = "any_world" in request.fixturenames
    if request.param == "sqlite":
        yield _stocked(settings, request.getfixturevalue("stocked")) if stock else settings
        return
    socket: str = request.getfixturevalue("socket_folder")
    name = f"t{uuid4().hex}"
    found = replace(settings, database_url=postgres.url(socket, name))
    if stock:
        folder, template = request.getfixturevalue("stocked_database")
        _create(socket, name, template)
        yield _stocked(found, folder)
    else:
        _create(socket, name)
        yield found
    _administer(socket, f"DROP DATABASE {name} WITH (FORCE)")


def _stocked(settings: Settings, folder: Path) -> Settings:
    """The same settings, over a copy of a furnished state directory."""
    shutil.rmtree(settings.state_dir)
    shutil.copytree(folder, settings.state_dir)
    return settings


@pytest.fixture
def any_world(any_settings: Settings) -> Iterator[World]:
    """A furnished installation on each kind of database."""
    clock = Clock()
    world = World(build_services(any_settings, clock=clock), clock)
    yield world
    world.close()


@pytest.fixture
def agency(world: World) -> Agency:
    register_model(world.services)
    return Agency(world)


@pytest.fixture(scope="module")
def shop(stocked: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """With a model, and a catalogue that is paid for. Shared: nobody changes what is in force here."""
    folder, clock = tmp_path_factory.mktemp("shop") / "state", Clock()
    shutil.copytree(stocked, folder)
    settings = replace(Settings.at(folder), rate_limits=UNHURRIED)
    world = World(build_services(settings, clock=clock), clock)
    sell(world)
    yield world
    world.close()


@pytest.fixture
def own_shop(furnished: World) -> World:
    """The same for one test alone."""
    sell(furnished)
    return furnished
