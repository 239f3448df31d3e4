"""The transparency log: its newest checkpoint, its entries, and a button that recomputes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse
from markupsafe import Markup, escape

from common.errors import ReticentError
from common.taxonomy import LogKind, Role
from server.dashboard import charts
from server.dashboard.desk import HEADERS, Desk, DeskDep, render
from server.reports.figures import log_counts
from server.transparency.recompute import Recomputed, recompute

router = APIRouter()
PAGE: Final = 40
AT_ONCE_MAX: Final = 20_000
TOLD_EVERY: Final = 50_000
RESULT: Final = "<!-- result -->"
_UNSEEN_BY_ADMIN: Final = frozenset({LogKind.CONSENT, LogKind.SUBJECT_REQUEST, LogKind.PRIVILEGED_READ})


@router.get("/log")
def log(desk: DeskDep, before: int | None = None, kind: Annotated[LogKind | None, Query()] = None) -> Response:
    """The newest entries, or those before one."""
    return _page(desk, before=before, kind=kind)


@router.post("/log/verify")
def verify(desk: DeskDep) -> Response:
    """Recompute every leaf, record and the tree, and hold every checkpoint beside it; a long log says how far it is."""
    if desk.services.log.size() > AT_ONCE_MAX:
        return StreamingResponse(_told(desk), media_type="text/html; charset=utf-8", headers=HEADERS)
    *_, found = recompute(desk.services.log, desk.services.keys)
    return _page(desk, verified=found)


def _told(desk: Desk) -> Iterator[str]:
    """The page as far as the result, lines about how far it is, the result, and the rest of the page."""
    say, page = desk.say, bytes(_page(desk, running=True).body).decode()
    before, _, after = page.partition(RESULT)
    yield before
    try:
        told = 0
        for found in recompute(desk.services.log, desk.services.keys):
            if found.ended:
                yield bytes(render("verdict.html", say, verified=found).body).decode()
            elif found.entries >= told + TOLD_EVERY:
                told = found.entries
                words = say("{done} of {size} entries recomputed", done=f"{told:,}", size=f"{found.size:,}")
                yield f'<p class="small muted">{escape(words)}</p>\n'
    except ReticentError:
        yield f'<p class="said bad" role="alert">{escape(say("The verification broke off. Please try again."))}</p>'
    yield after


def _page(
    desk: Desk,
    *,
    before: int | None = None,
    kind: LogKind | None = None,
    verified: Recomputed | None = None,
    running: bool = False,
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
        running=RESULT if running else "",
        chart=_chart(desk),
    )


def _chart(desk: Desk) -> Markup:
    counts = log_counts(desk.services)
    say = desk.say
    words = "; ".join(f"{say(kind.value)}: {count}" for kind, count in counts) or say("Nothing yet.")
    rows = [(say(kind.value), float(count)) for kind, count in counts]
    return charts.bars(say("Entries by what they are about"), words, rows)
