"""Reports over HTTP: JSON, CSV, PDF."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Response

from policies.notices import Locale
from server.api.deps import ServicesDep
from server.reports.document import Report, ReportName, report_csv, report_json
from server.reports.pdf import report_pdf
from server.reports.service import make_report

router = APIRouter(prefix="/v1/reports", tags=["reports"])
ReportFormat = Literal["json", "csv", "pdf"]
MEDIA: Final[dict[ReportFormat, str]] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "pdf": "application/pdf",
}


def report_file(report: Report, form: ReportFormat) -> bytes:
    """A report as a file."""
    return {"json": report_json, "csv": report_csv, "pdf": report_pdf}[form](report)


@router.get(
    "/{name}",
    response_model=Report,
    responses={200: {"content": {"text/csv": {}, "application/pdf": {}}, "description": "The report as a file."}},
)
def report(
    name: ReportName,
    services: ServicesDep,
    format: Annotated[ReportFormat, Query()] = "json",  # noqa: A002 - the parameter's public name
    locale: Annotated[Locale, Query()] = "en",
) -> Response:
    """Record of processing, DPIA draft, PIPIA draft, or consent report, with the figures of this moment."""
    body = report_file(make_report(services, name, locale), format)
    named = f'attachment; filename="reticent-{name}-{locale}.{format}"'
    return Response(body, media_type=MEDIA[format], headers={"content-disposition": named})
