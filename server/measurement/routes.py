"""Click links and reports of results over HTTP."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Query, Response
from fastapi.responses import RedirectResponse
from pydantic import BeforeValidator

from server.api.deps import ServicesDep
from server.api.security import Caller
from server.measurement.schemas import CampaignReport, GroupReport, campaign_csv

router = APIRouter(tags=["results"])


def _written(day: object) -> object:
    """A day as people write it; a number is none, though a date could be made of it."""
    if isinstance(day, str):
        return dt.date.fromisoformat(day)
    return day


Day = Annotated[
    dt.date | None, BeforeValidator(_written), Query(description="UTC; by default the thirty days that end yesterday.")
]
_FILE: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/csv": {}}, "description": "The report."}}


@router.get(
    "/c/{token}",
    status_code=303,
    response_class=RedirectResponse,
    responses={403: {"description": "Not a click token of ours."}, 410: {"description": "Its window is over."}},
)
def follow(
    token: Annotated[str, Path(max_length=1024, description="Of a click.")], services: ServicesDep
) -> RedirectResponse:
    """Count a click once, and lead to the landing page that is registered for what was shown; to nowhere else."""
    return RedirectResponse(services.clicks.follow(token), status_code=303)


@router.get("/v1/reports/campaigns/{campaign_id}", response_model=CampaignReport, responses=_FILE)
def campaign(
    campaign_id: Annotated[str, Path(max_length=200)],
    services: ServicesDep,
    caller: Caller,
    *,
    first: Day = None,
    last: Day = None,
    format: Annotated[Literal["json", "csv"], Query()] = "json",  # noqa: A002 - the parameter's public name
) -> CampaignReport | Response:
    """Results of a campaign with 95 % intervals that include the noise; what says too little is withheld."""
    report = services.measurement.campaign(campaign_id, caller, first, last)
    if format == "json":
        return report
    named = f'attachment; filename="results-{report.first}-{report.last}.csv"'
    return Response(campaign_csv(report), media_type="text/csv; charset=utf-8", headers={"content-disposition": named})


@router.get("/v1/reports/exposure/groups")
def groups(services: ServicesDep, first: Day = None, last: Day = None) -> GroupReport:
    """Who is shown how much, and how well: across groups that people have declared themselves."""
    return services.measurement.groups(first, last)
