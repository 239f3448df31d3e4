"""Search by receipt id or subject handle. Every search is written into the log before anything is shown."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from server.dashboard.desk import DeskDep
from server.dashboard.pages.consent import titles

router = APIRouter()


@router.get("/search")
def search(desk: DeskDep, q: Annotated[str, Query(max_length=100)] = "") -> Response:
    """One person's consent, as far as it is known."""
    wanted = q.strip()
    found = desk.services.consent.find(wanted) if wanted else None
    effective = []
    if wanted:
        desk.note_read("search", subject=None if found is None else found.subject.handle, found=int(found is not None))
    if found is not None:
        effective = desk.services.consent.effective(found.subject.handle)
    return desk.page("search.html", q=wanted, found=found, effective=effective, titles=titles(desk))
