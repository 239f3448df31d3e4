"""What tests of the log do with one: grow it, read it as a verifier does."""

from __future__ import annotations

from pathlib import Path

from common.taxonomy import LogKind
from common.transparency.history import History
from server.transparency.service import TransparencyLog
from tests.service.world import World

ROOT = Path(__file__).resolve().parents[2]


def history(log: TransparencyLog) -> History:
    return History([b"".join(entry.leaf.encode() + b"\n" for entry in log.each())])


def kinds(world: World) -> list[LogKind]:
    return [entry.leaf.kind for entry in world.services.log.each()]


def grow(world: World, count: int, subject: str | None = None) -> list[int]:
    log = world.services.log
    with world.services.database.write() as session:
        return [log.append(session, LogKind.CONTROL, {"n": n}, actor="admin", subject=subject) for n in range(count)]
