"""The public ad repository over HTTP: as data, and as a page. It needs no key and knows nobody."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from policies.notices import Locale
from server.api.deps import ServicesDep
from server.api.paging import LIMIT_MAX, Asked, Page, PageDep, cut, link
from server.api.services import Services
from server.campaigns.archive_answers import AdEntries, AdEntry, entry
from server.campaigns.archive_page import page as rendered
from server.campaigns.archive_repository import Presented, Question
from server.words import chosen

router = APIRouter(tags=["public documents"])
_LIST: Final = "ad-repository"
_PAGE_ROWS: Final = 50
_TEXT: Final = r"^[^\x00]*$"
_VARIES: Final = {"cache-control": "public, max-age=60", "vary": "accept-language"}


def question(
    advertiser: Annotated[str | None, Query(max_length=200, pattern=_TEXT)] = None,
    campaign: Annotated[str | None, Query(max_length=200, pattern=_TEXT)] = None,
    text: Annotated[str | None, Query(max_length=100, pattern=_TEXT, description="In any word of the ad.")] = None,
    at: Annotated[int | None, Query(ge=0, le=4_102_444_800, description="Shown at that second.")] = None,
) -> Question:
    """What is looked for."""
    return Question(advertiser=advertiser or None, campaign=campaign or None, text=text or None, at=at)


Wanted = Annotated[Question, Depends(question)]


@router.get("/v1/ad-repository")
def entries(asked: Wanted, wanted: PageDep, request: Request, response: Response, services: ServicesDep) -> AdEntries:
    """Every ad that was shown in the last three years: what, for whom, who paid, when, meant for whom, how many."""
    page = _page(services, asked, wanted)
    link(request, response, page)
    response.headers["cache-control"] = "public, max-age=60"
    return AdEntries(items=page.items, next_cursor=page.next_cursor)


@router.get("/ad-repository", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def page(
    asked: Wanted,
    wanted: PageDep,
    services: ServicesDep,
    locale: Annotated[Locale | None, Query()] = None,
    accept_language: Annotated[str, Header(max_length=1000)] = "",
) -> Response:
    """The repository as a page: searchable, without script."""
    language = locale or chosen(accept_language)
    found = _page(services, asked, Asked(min(wanted.limit, _PAGE_ROWS), wanted.cursor))
    html = rendered(found, asked, language, services.settings.controller)
    return Response(html, media_type="text/html; charset=utf-8", headers=_VARIES)


def _page(services: Services, asked: Question, wanted: Asked) -> Page[AdEntry]:
    place = wanted.after(_LIST, (int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    lines = services.catalogues.archive.listed(asked, after=after, rows=min(wanted.rows, LIMIT_MAX + 1))
    found: Page[Presented] = cut(lines, wanted, _LIST, lambda line: (line.began_at, line.entry_id))
    crowds, now = services.measurement.crowds(), int(services.clock())
    return found.map(lambda line: entry(line, crowds, now=now))
