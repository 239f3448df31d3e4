"""A device program that answers for many devices and says each answer aloud; run to be killed.

    python -m tests.fault.picker

Each line of its input, ``NODE MODE``, makes a process of its own that goes on until it is killed; its number is said
first, and "over" when it is. MODE ``honest`` answers as the product does. ``hasty`` is the control: it says the answer
before it pays.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path

from client.device import Node
from client.pick import answer
from client.pick_cap import hear
from client.settings import Settings
from client.store.keys import DeviceId, KeyStore
from common.crypto.signing import SigningKey
from common.privacy.randomness import SecureNoise
from common.privacy.top_m import draw
from common.taxonomy import Purpose
from common.wire.documents import seal
from common.wire.pick import CandidateList
from policies import pick_caps, picks
from policies.consent import Permit
from tests.service.world import catalogue

NOW = 1_800_000_000.0


class Open:
    """A gate that is open: consent is another test's subject."""

    def permits(self, _device: DeviceId, purpose: Purpose) -> Permit:
        return Permit(purpose, NOW + 1e6, "0" * 64)

    def close(self) -> None:
        """Nothing is held."""


def opened(directory: Path) -> Node:
    """The node, with the clock standing still."""
    node = Node.open(directory, Settings(now=lambda: NOW), prove=False)
    node.gate = Open()  # type: ignore[assignment]
    rules, key = picks.rules_of(node.policies.policies.privacy_budget), SigningKey.generate()
    node.pin(keys=[key.public])
    hear(node, seal(pick_caps.made(rules, number=0, epsilon_max=None, now=NOW), key), node.server_keys)
    return node


def listed(node: Node) -> CandidateList:
    """A list for now."""
    rules = picks.rules_of(node.policies.policies.privacy_budget)
    epoch = picks.epoch_of(rules, NOW)
    return CandidateList(
        slot_group="default",
        epoch=epoch,
        ends_at=picks.epoch_ends_at(rules, epoch),
        catalogue_version=1,
        chosen=rules.chosen,
        epsilon=rules.epsilon,
        candidates=catalogue().creatives[: rules.candidates_max],
    )


def scores(one: CandidateList) -> list[float]:
    """Somebody's."""
    return [float(i == 2) for i in range(len(one.candidates))]


def hasty(node: Node, device: DeviceId, current: CandidateList) -> None:
    """Says it first, pays after."""
    say(device, draw(current.drawn_by, scores(current), SecureNoise()))
    answer(node, device, current, scores=scores)


def main(directory: Path, mode: str) -> None:
    node = opened(directory)
    keys, current = KeyStore(directory / "keys"), listed(node)
    for number in itertools.count():
        device = DeviceId(f"device-{number}")
        keys.create(device)
        if mode == "hasty":
            hasty(node, device, current)
        else:
            say(device, answer(node, device, current, scores=scores).pick.index)


def say(*words: object) -> None:
    """One line, at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    for line in sys.stdin:
        directory, mode = line.split()
        child = os.fork()
        if not child:
            main(Path(directory), mode)
        say("pid", child)
        os.waitpid(child, 0)
        say("over")
