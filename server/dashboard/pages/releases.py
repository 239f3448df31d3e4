"""Releases: every model with its disclosure card."""

from __future__ import annotations

from fastapi import APIRouter, Response

from common.errors import NotFound
from server.dashboard.desk import DeskDep
from server.reports.figures import release_rows

router = APIRouter()


@router.get("/releases")
def releases(desk: DeskDep) -> Response:
    """All models, newest first."""
    return desk.page("releases.html", models=release_rows(desk.services))


@router.get("/releases/{version}")
def release(desk: DeskDep, version: int) -> Response:
    """One model's disclosure card."""
    model = next((row for row in release_rows(desk.services) if row.manifest.version == version), None)
    if model is None:
        raise NotFound("there is no model of this version")
    return desk.page("release.html", model=model)
