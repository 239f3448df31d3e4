"""The compose file on a real engine: a round over the edges, two placements, and walls that hold."""

import subprocess
from collections.abc import Iterator

import pytest

from cli.compose_demo import EDGES, HOME, ROOT, Compose, fleet, place_twice, train_round

pytestmark = pytest.mark.docker

OURS = ("api", "superlink", "serverapp", *EDGES)
LOOK_UP = "import socket; socket.gethostbyname({!r})"


@pytest.fixture(scope="module")
def running() -> Iterator[Compose]:
    with fleet() as compose:
        yield compose
    assert compose("ps", "--all", "--quiet") == ""


def succeeds(compose: Compose, service: str, *command: str) -> bool:
    whole = [*compose.command, "--file", str(ROOT / "docker-compose.yml"), "exec", "-T", service, *command]
    done = subprocess.run(whole, env=compose.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def test_one_round_and_then_only_the_consenting_owner_gets_a_personal_placement(running: Compose) -> None:
    assert "from 3 of 3 nodes" in train_round(running)
    assert "verifies" in running.inside("api", "reticent", "model", "verify")
    consented, refused = place_twice(running)
    assert (consented.mode, consented.chosen_by) == ("on_device", "the device")
    assert (refused.mode, refused.chosen_by, refused.reason) == ("contextual", "the service", "consent-refused")


@pytest.mark.parametrize("service", OURS)
def test_nobody_is_root_and_only_data_can_be_written(running: Compose, service: str) -> None:
    assert running.inside(service, "id", "-u").strip() == "10001"
    assert not succeeds(running, service, "touch", "/app/written")
    assert succeeds(running, service, "touch", "/tmp/written")  # noqa: S108 - the container's own


@pytest.mark.parametrize("edge", EDGES)
def test_an_edge_finds_the_fleet_but_not_the_database(running: Compose, edge: str) -> None:
    assert succeeds(running, edge, "python", "-c", LOOK_UP.format("superlink"))
    assert not succeeds(running, edge, "python", "-c", LOOK_UP.format("database"))


def test_a_killed_edge_comes_back_with_the_people_it_had(running: Compose) -> None:
    before = running.inside("edge-1", "python", "-m", "cli.fleet", "people", "--home", HOME)
    running("kill", "edge-1")
    running("up", "--detach", "--wait", "--no-recreate", "edge-1")
    assert running.inside("edge-1", "python", "-m", "cli.fleet", "people", "--home", HOME) == before
