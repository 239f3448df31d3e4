"""Callers of every role, and what the log says of them."""

from __future__ import annotations

import re

from sqlalchemy import text

from common.taxonomy import LogKind, Role
from tests.service.world import World

HANDLE = "q3Yx0mVbS1uJ7eHcKf2nPw"
SENT = {"key_id": "key_none", "digest": "0" * 64, "version": "current", "name": "none.svg"}

# What each role may do at all, by the beginnings of paths: the table is checked against this by hand-written words.
SUBJECTS_DATA = (
    "/v1/consents",
    "/v1/receipts/{",
    "/v1/dsr",
    "/v1/decisions",
    "/v1/ledger",
    "/v1/audit",
    "/v1/reports/{",
)


def concrete(path: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: SENT.get(found[1], "none"), path)


def keys(world: World) -> dict[Role, dict[str, str]]:
    backends = {role: world.key(role, holder=role.value) for role in Role if role is not Role.DEVICE}
    return {Role.DEVICE: world.enrol().headers} | backends


def entries(world: World, kind: LogKind) -> list[tuple[str, str]]:
    """Actor and record of the log's entries of one kind."""
    with world.services.database.read() as session:
        query = "SELECT e.actor, r.record FROM log_entry e JOIN log_record r ON r.seq = e.seq WHERE e.kind = :kind"
        rows = session.execute(text(f"{query} ORDER BY e.seq"), {"kind": kind.value})
        return [(row[0], str(row[1])) for row in rows]
