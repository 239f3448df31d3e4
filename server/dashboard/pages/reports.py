"""Reports to read and to take away."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from server.dashboard.desk import HEADERS, DeskDep
from server.reports.document import ReportName
from server.reports.routes import MEDIA, report_file
from server.reports.service import make_report

router = APIRouter()


@router.get("/reports/{name}")
def report(
    desk: DeskDep,
    name: ReportName,
    format: Annotated[Literal["html", "json", "csv", "pdf"], Query()] = "html",  # noqa: A002 - the parameter's public name
) -> Response:
    """One report in the reader's language, as a page or as a file."""
    made = make_report(desk.services, name, desk.say.locale)
    if format == "html":
        return desk.page("report.html", report=made)
    named = f'attachment; filename="reticent-{name}-{made.locale}.{format}"'
    return Response(
        report_file(made, format), media_type=MEDIA[format], headers={**HEADERS, "content-disposition": named}
    )
