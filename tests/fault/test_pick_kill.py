"""SIGKILL to a program that answers private picks: no answer that was given is ever uncharged or drawn again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.pick import answer
from client.store.keys import DeviceId
from common.privacy.randomness import SimulationNoise
from tests.fault.picker import listed, opened, scores
from tests.flower.lab import ROOT

pytestmark = pytest.mark.fault
KILLS = 12
KILLS_MAX = 60


class Never(SimulationNoise):
    """Noise that must not be read: what is asked for was given before."""

    def below(self, bound: int) -> int:
        raise AssertionError(f"a given answer was drawn again, of {bound}")


@dataclass
class Program:
    """Answers until it is killed, as often as it is started."""

    process: subprocess.Popen[str]

    def killed_at_random(self, directory: Path, mode: str, dice: random.Random) -> dict[str, int]:
        """What it had said when it was killed, a moment after one of its answers."""
        given: dict[str, int] = {}
        self._say(f"{directory} {mode}")
        _, number = self._line()
        enough, times = dice.randrange(2, 8), []
        while len(given) < enough:
            device, index = self._line()
            given[device] = int(index)
            times.append(time.monotonic())
        time.sleep(dice.random() * (times[-1] - times[-2]))  # anywhere within the next answer
        os.kill(int(number), signal.SIGKILL)
        while (said := self._line()) != ["over"]:
            if len(said) == 2 and said[1].isdigit():
                given[said[0]] = int(said[1])
        return given

    def _say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def _line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fault.picker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    yield Program(process)
    process.kill()
    process.communicate()


def uncharged(directory: Path, given: dict[str, int]) -> list[str]:
    """Devices whose answer was given and not paid for."""
    node = opened(directory)
    found = [device for device in given if node.pick_ledger.epsilon(DeviceId(device)) == 0.0]
    node.close()
    return found


def test_no_given_answer_is_uncharged_and_every_retry_is_the_same(tmp_path: Path, program: Program) -> None:
    dice, total, in_flight = random.Random(5), 0, 0
    for number in range(KILLS_MAX):
        directory = tmp_path / f"node-{number}"
        given = program.killed_at_random(directory, "honest", dice)
        assert uncharged(directory, given) == []
        node = opened(directory)
        current = listed(node)
        for device, index in given.items():
            again = answer(node, DeviceId(device), current, scores=scores, noise=Never(1))
            assert (again.pick.index, again.charge.epsilon) == (index, 0.0)
        for device in node.pick_ledger.devices():
            assert node.pick_ledger.epsilon(device) == 1.0, "charged once, however often it was tried"
            if device not in given:
                in_flight += 1
                answer(node, device, current, scores=scores)
                assert node.pick_ledger.epsilon(device) == 1.0
        assert not node.pick_ledger.verify().problems
        node.close()
        total += len(given)
        if number >= KILLS and in_flight > 1:
            break
    assert total >= KILLS
    assert in_flight, "no program was ever killed between its charge and its answer"


def test_the_check_catches_a_program_that_answers_before_it_pays(tmp_path: Path, program: Program) -> None:
    dice = random.Random(6)
    homes = [tmp_path / f"node-{number}" for number in range(KILLS_MAX)]
    assert any(uncharged(home, program.killed_at_random(home, "hasty", dice)) for home in homes)
