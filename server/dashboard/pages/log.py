"""The transparency log: its newest checkpoint, its entries, and a button that recomputes it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from common.errors import TrustError
from common.taxonomy import LogKind, Role
from common.transparency import tree
from common.transparency.checkpoint import Checkpoint, open_checkpoint
from server.dashboard import charts
from server.dashboard.desk import Desk, DeskDep
from server.reports.figures import log_counts

router = APIRouter()
PAGE: Final = 40
_UNSEEN_BY_ADMIN: Final = frozenset({LogKind.CONSENT, LogKind.SUBJECT_REQUEST, LogKind.PRIVILEGED_READ})


@dataclass(frozen=True, slots=True)
class Verification:
    """What recomputing the log has found.

    Attributes:
        first_bad: the first entry that does not hash to what it should; None if all do.
        bad_checkpoints: sizes of checkpoints that do not fit, or are signed by nobody we know.
    """

    entries: int
    seconds: float
    first_bad: int | None
    bad_checkpoints: tuple[int, ...]
    checkpoints: int

    @property
    def good(self) -> bool:
        """Whether everything fits."""
        return self.first_bad is None and not self.bad_checkpoints


@router.get("/log")
def log(desk: DeskDep, before: int | None = None, kind: Annotated[LogKind | None, Query()] = None) -> Response:
    """The newest entries, or those before one."""
    return _page(desk, before=before, kind=kind)


@router.post("/log/verify")
def verify(desk: DeskDep) -> Response:
    """Recompute every leaf and the tree, and hold every checkpoint beside it."""
    return _page(desk, verified=verify_log(desk))


def verify_log(desk: Desk) -> Verification:
    """Hash every entry anew, rebuild the tree and compare every signed checkpoint with it."""
    began, services = time.perf_counter(), desk.services
    services.log.checkpoint()
    wanted = {stored.size: stored.note for stored in services.log.checkpoints()}
    growing, bad, size = _Growing(), list[int](), 0
    first_bad: int | None = None
    for size, entry in enumerate(services.log.each(), start=1):
        leaf_hash = tree.leaf_hash(entry.leaf.encode())
        genuine = leaf_hash == entry.leaf_hash and entry.leaf.seq == size - 1
        opened = entry.opening is None or entry.opening.opens(entry.leaf)
        if first_bad is None and not (genuine and opened):
            first_bad = size - 1
        growing.append(leaf_hash)
        if size in wanted and not _fits(desk, wanted.pop(size), growing.root()):
            bad.append(size)
    bad += [stored for stored in wanted if stored > size]
    known = len(services.log.checkpoints())
    return Verification(size, time.perf_counter() - began, first_bad, tuple(sorted(bad)), known)


class _Growing:
    """Roots of a growing tree: the complete subtrees so far, largest first (RFC 9162, 2.1)."""

    def __init__(self) -> None:
        self._subtrees: list[tuple[int, bytes]] = []

    def append(self, leaf_hash: bytes) -> None:
        size, found = 1, leaf_hash
        while self._subtrees and self._subtrees[-1][0] == size:
            found, size = tree.node_hash(self._subtrees.pop()[1], found), size * 2
        self._subtrees.append((size, found))

    def root(self) -> bytes:
        (_, found), *rest = reversed(self._subtrees)
        for _, left in rest:
            found = tree.node_hash(left, found)
        return found


def _fits(desk: Desk, note: str, root: bytes) -> bool:
    try:
        signed: Checkpoint = open_checkpoint(note, desk.services.keys, origin=desk.services.log.origin).checkpoint
    except TrustError:
        return False
    return signed.root == root


def _page(
    desk: Desk, *, before: int | None = None, kind: LogKind | None = None, verified: Verification | None = None
) -> Response:
    services, admin = desk.services, desk.visitor.role is Role.ADMIN
    newest = next(iter(services.log.checkpoints(newest_first=True, limit=1)), None)
    events = services.log.events(before, PAGE + 1, kind, newest_first=True)
    if not admin:
        desk.note_read("log", entries=len(events[:PAGE]))
    shown = [entry for entry in events[:PAGE] if not (admin and entry.leaf.kind in _UNSEEN_BY_ADMIN)]
    return desk.page(
        "log.html",
        note=services.log.checkpoint() if newest is None else newest.note,
        checkpoints=services.log.checkpoints(newest_first=True, limit=12),
        size=services.log.size(),
        events=shown,
        older=events[PAGE - 1].leaf.seq if len(events) > PAGE else None,
        kinds=tuple(LogKind),
        kind=kind,
        verified=verified,
        chart=_chart(desk),
    )


def _chart(desk: Desk) -> Markup:
    counts = log_counts(desk.services)
    say = desk.say
    words = "; ".join(f"{say(kind.value)}: {count}" for kind, count in counts) or say("Nothing yet.")
    rows = [(say(kind.value), float(count)) for kind, count in counts]
    return charts.bars(say("Entries by what they are about"), words, rows)
