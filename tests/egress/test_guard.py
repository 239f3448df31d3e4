"""While raw behaviour is in hand, its thread reaches nothing: every way out is tried, and works again afterwards."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from client.guard import sealed
from common.errors import EgressRefused

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server() -> Iterator[int]:
    """A listening socket on loopback; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield int(listening.getsockname()[1])


def connect(port: int) -> None:
    socket.create_connection(("127.0.0.1", port), timeout=5).close()


def datagram(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"what the person did", ("127.0.0.1", port))


def http(port: int) -> None:
    with httpx.Client(timeout=0.2, trust_env=False) as client:
        client.get(f"http://127.0.0.1:{port}/")


WAYS_OUT: list[Callable[[int], object]] = [
    connect,
    datagram,
    http,
    lambda port: urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=0.2),
    lambda _: socket.getaddrinfo("localhost", 80),  # a name can carry text to its name server
    lambda _: subprocess.run(["true"], check=True),
    lambda _: os.system("true"),  # noqa: S605
    lambda _: os.posix_spawn("/bin/true", ["true"], {}),
    lambda _: os.execv("/bin/true", ["true"]),  # noqa: S606
    lambda _: os.fork(),
    lambda _: ctypes.CDLL(None),
]


@pytest.mark.parametrize("way", WAYS_OUT)
def test_no_way_out_while_sealed(way: Callable[[int], object], server: int) -> None:
    with pytest.raises((EgressRefused, httpx.HTTPError)) as caught, sealed():
        way(server)
    chain: BaseException | None = caught.value
    while chain is not None and not isinstance(chain, EgressRefused):
        chain = chain.__cause__ or chain.__context__
    assert isinstance(chain, EgressRefused)


@pytest.mark.parametrize("way", [connect, datagram, lambda _: subprocess.run(["true"], check=True)])
def test_the_control_the_same_ways_are_open_before_and_after(way: Callable[[int], object], server: int) -> None:
    way(server)
    with sealed():
        pass
    way(server)


def test_regions_nest_and_end_with_an_error(server: int) -> None:
    with sealed():
        with sealed():
            pass
        with pytest.raises(EgressRefused):
            connect(server)
    with pytest.raises(ValueError, match="broken"), sealed():
        raise ValueError("broken")
    connect(server)


def in_a_thread(way: Callable[[int], object], port: int) -> list[BaseException]:
    """What came of it in a thread that begins while this one is sealed."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            way(port)
        except BaseException as error:  # noqa: BLE001 - it is looked at
            errors.append(error)

    other = threading.Thread(target=run)
    with sealed():
        other.start()
        other.join(5)
    return errors


def test_no_other_thread_carries_it_out(server: int) -> None:
    (error,) = in_a_thread(connect, server)
    assert isinstance(error, EgressRefused)


def test_the_transport_keeps_its_connection(server: int) -> None:
    """Flower's own heartbeat goes on, in its own thread, while a device trains; in this one even Flower may not."""
    flower: dict[str, object] = {"__name__": "flwr.supercore.heartbeat", "connect": connect}
    exec("def beat(port): connect(port)", flower)  # noqa: S102 - code of a module of that name
    beat = flower["beat"]
    assert callable(beat)
    assert in_a_thread(beat, server) == []
    with pytest.raises(EgressRefused), sealed():
        beat(server)


COLD = """
import sys
import numpy as np
from client.guard import sealed
from client.releases.vectors import prepare, Work
from client.training.local import LocalTrainer
from common.model import arrays
from common.model.network import initial_arrays
from common.privacy.randomness import SecureNoise
from common.taxonomy import Profile
from policies.loader import load
from tests.rounds.secagg_hub import MODEL
from tests.flower.nodes import SPEC
from common.model.examples import Examples

class Node:
    spec = SPEC
    class settings: simulation = False
budget = load().policies.privacy_budget
class Plan:
    policy, segments = budget, (type("S", (), {"parameters": budget.releases.training_update}),)
    class invitation:
        model, profile = MODEL, Profile(sys.argv[1])
        task = __import__("common.taxonomy").taxonomy.Task.TRAIN
ids = np.zeros((5, 2), np.int64); ids[:, 1] = SPEC.offsets[1]
examples = Examples(ids, np.zeros((5, 1), np.float32), np.array([0, 1, 0, 0, 1], np.float32), np.zeros(5), SPEC.digest)
start = arrays.flatten(initial_arrays(MODEL, SPEC))
work = Work(node=Node, plan=Plan, start=start, noise=SecureNoise(), load=lambda *_: examples)
vectors = prepare(work, ["d"] * int(sys.argv[2]))
with sealed():
    found = list(vectors)
print([type(one).__name__ for one in found])
"""


@pytest.mark.parametrize(("profile", "devices"), [("user_distributed", 1), ("user_distributed", 3), ("layered", 1)])
def test_a_process_that_has_loaded_nothing_yet_can_train_while_sealed(profile: str, devices: int) -> None:
    """All libraries are loaded before behaviour is read."""
    done = subprocess.run(
        [sys.executable, "-c", COLD, profile, str(devices)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == str(["tuple"] * devices)
