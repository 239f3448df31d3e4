"""What a simulation's worker keeps between rounds: open nodes and featurised examples. Never used on a real device.

In a deployment every message gets a process of its own and nothing outlives it. A simulation's workers live on, and
opening hundreds of virtual devices again for each round would be most of its time. Consent is never kept: the gate
notices what other processes write.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from client.device import Node
from client.features.cache import Part
from client.settings import Settings
from client.store.keys import DeviceId
from common.model.examples import Examples


class Load(Protocol):
    """Examples of a device: those inside the training window, or those after it."""

    def __call__(self, node: Node, device: DeviceId, part: Part = "train") -> Examples:
        """Read them."""


class Warm:
    """Open nodes and their examples, by directory.

    Args of the constructor:
        load: reads a device's examples from its vault.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self._nodes: dict[tuple[Path, int], tuple[Settings, Node]] = {}
        self._examples: dict[tuple[str, DeviceId, str, int, Part], Examples] = {}

    @contextlib.contextmanager
    def node(self, directory: Path, settings: Settings) -> Iterator[Node]:
        """An open node; it stays open."""
        key = (directory, directory.stat().st_ino if directory.exists() else 0)
        held = self._nodes.get(key)
        if held is None or held[0] != settings:
            held = self._nodes[key] = (settings, Node.open(directory, settings))
        yield held[1]

    def examples(self, node: Node, device: DeviceId, part: Part = "train") -> Examples:
        """A device's examples, read again when its events have changed."""
        key = (str(node.directory), device, node.spec.digest, node.vault.count(device), part)
        if key not in self._examples:
            self._examples[key] = self._load(node, device, part)
        return self._examples[key]

    def close(self) -> None:
        """Forget everything."""
        for _, node in self._nodes.values():
            node.close()
        self._nodes.clear()
        self._examples.clear()
