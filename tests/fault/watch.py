"""What a fault test looks at from outside: the ledgers of the nodes and the rounds the server has committed."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from tests.flower.nodes import World


def charges(world: World) -> dict[str, int]:
    """Ledger lines by device, over all nodes."""
    found: dict[str, int] = {}
    for directory in sorted(world.nodes.iterdir()):
        with world.node(int(directory.name.removeprefix("node-"))) as node:
            for device in node.ledger.devices():
                found[device] = len(node.ledger.entries(device))
    return found


def spent(world: World) -> dict[str, float]:
    """Composed ε by device, over all nodes."""
    found: dict[str, float] = {}
    for directory in sorted(world.nodes.iterdir()):
        with world.node(int(directory.name.removeprefix("node-"))) as node:
            found |= {device: node.ledger.epsilon(device) for device in node.ledger.devices()}
    return found


def lines(directory: Path) -> int:
    """Ledger lines of a node, read without opening the node."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(directory / "ledger.db")) as connection:
        return int(connection.execute("SELECT COUNT(*) FROM entries").fetchone()[0])
    return 0


def rounds_done(world: World) -> list[tuple[str, str, int]]:
    """Name, status and committed rounds of every training."""
    path = world.server.state_dir / "reticent.db"
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT run_id, status, rounds_done FROM training_run").fetchall()
    return []


def history(world: World) -> list[tuple[int, int]]:
    """Round numbers with their contributions, as committed."""
    with contextlib.closing(sqlite3.connect(world.server.state_dir / "reticent.db")) as connection:
        query = "SELECT round_number, contributions FROM training_round ORDER BY round_number"
        return connection.execute(query).fetchall()


def until(holds: Callable[[], bool], *, patience_s: float, what: str) -> None:
    """Wait until something holds."""
    end = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {patience_s} s for {what}")
        time.sleep(0.02)
