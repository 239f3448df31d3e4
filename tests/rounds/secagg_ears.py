"""What the tests of a device's secure aggregation listen to, ask and share."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest

import client.app
import client.stages
from client.journal import read_journal
from client.store.keys import DeviceId
from common.crypto import keyfile
from common.privacy.distributed import NoisedShare, noise_share
from common.secagg.server import UnmaskedSum
from common.taxonomy import Task
from tests.flower.nodes import RELEASE, World
from tests.rounds.secagg_hub import Hub

ADAPTIVE = RELEASE | {
    "clipping_norm": 0.5,
    "noise_multiplier": 30.0,
    "target_quantile": 0.5,
    "learning_rate": 0.2,
    "clipping_norm_min": 0.01,
    "clipping_norm_max": 10.0,
}


class Ear:
    """Hears every device's noised vector before it is masked, and what was in it before the noise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.vectors: list[np.ndarray] = []
        self.clipped: list[list[np.ndarray]] = []

        def listen(segments, cohort, roster_size, rng) -> NoisedShare:  # type: ignore[no-untyped-def]
            share = noise_share(segments, cohort, roster_size, rng)
            self.vectors.append(share.vector)
            self.clipped.append([update.vector for update, _ in segments])
            return share

        monkeypatch.setattr(client.stages, "noise_share", listen)

    def check(self, total: UnmaskedSum, *, left_out: int = 0) -> None:
        """The unmasked sum is exactly the sum of what the survivors masked."""
        assert len(self.vectors) == len(total.survivors) + left_out
        if not left_out:
            assert np.array_equal(total.vector, np.sum(self.vectors, axis=0))


def hub(world: World, task: Task = Task.TRAIN, **more: object) -> Hub:
    between = more.pop("between", {})
    authority = keyfile.load_or_create(world.server.authority_key)
    return Hub(world, world.key, authority, task, more, between=between)  # type: ignore[arg-type]


def journal(world: World, node: int) -> list[tuple[str, str, str]]:
    rows = read_journal(world.directory(node) / "journal.db")
    return [(row.device, row.kind, row.outcome) for row in rows]


def states(world: World, node: int) -> int:
    with sqlite3.connect(world.directory(node) / "sessions.db") as connection:
        return int(connection.execute("SELECT COUNT(*) FROM states").fetchone()[0])


def spent(world: World, node: int) -> dict[DeviceId, int]:
    with world.node(node) as opened:
        return {device: len(opened.ledger.entries(device)) for device in opened.vault.devices()}
