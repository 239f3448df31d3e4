"""Makes reports. Owns the moment at which an installation is read, and which chapters a report has."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Callable, Mapping
from typing import Final

from common.taxonomy import RequestKind, RequestStatus
from common.transparency.checkpoint import read_checkpoint
from policies.notices import Locale
from server.api.services import Services
from server.reports import assessments, consent_report, ropa
from server.reports.budget_figures import line_figures
from server.reports.document import Report, ReportName, Section
from server.reports.figures import audited_lines, population, release_rows
from server.reports.shared import Installation, RequestCounts
from server.words import Words, words

ROOM: Final = "reports"
_DAY_S: Final = 86_400
_CHAPTERS: Final[Mapping[ReportName, tuple[str, str, bool, Callable[[Words, Installation], list[Section]]]]] = {
    "ropa": (ropa.TITLE, ropa.SUMMARY, False, ropa.chapters),
    "dpia": (assessments.DPIA_TITLE, assessments.DPIA_SUMMARY, True, assessments.dpia),
    "pipia": (assessments.PIPIA_TITLE, assessments.PIPIA_SUMMARY, True, assessments.pipia),
    "consent": (consent_report.TITLE, consent_report.SUMMARY, False, consent_report.chapters),
}


def make_report(services: Services, name: ReportName, locale: Locale) -> Report:
    """One report in one language, with the figures of this moment."""
    say, found = words(locale, ROOM), read_installation(services)
    title, summary, draft, chapters = _CHAPTERS[name]
    return Report(
        name=name,
        title=say(title),
        locale=locale,
        controller=found.controller,
        generated_at=found.date,
        draft=draft,
        summary=say(summary),
        sections=tuple(chapters(say, found)),
    )


def read_installation(services: Services) -> Installation:
    """Everything that reports are made from."""
    subjects, minors = population(services)
    note = read_checkpoint(services.log.checkpoint())
    return Installation(
        now=services.clock(),
        controller=services.settings.controller,
        policies=services.policies.policies,
        policy_digests=services.policies.digests,
        notice_version=services.notices.current("en").notice.version,
        rates=services.consent.rates(),
        subjects=subjects,
        minors=minors,
        lines=line_figures(services.ledger, services.caps.in_force()),
        audited=audited_lines(services),
        releases=release_rows(services),
        requests=_requests(services),
        stops=[(stop.scope.value, stop.target) for stop in services.controls.stopped()],
        log_size=note.size,
        checkpoint=f"{note.origin} {note.size} {note.root.hex()} {_date(note.time)}",
    )


def _requests(services: Services) -> RequestCounts:
    everything, now = services.requests.list(limit=10_000), services.clock()
    answered = [
        (request.completed_at - request.received_at) / _DAY_S
        for request in everything
        if request.completed_at is not None
    ]
    tally: dict[tuple[RequestKind, RequestStatus], int] = services.requests.tally()
    return RequestCounts(
        by_kind_and_status={(kind.value, status.value): count for (kind, status), count in tally.items()},
        overdue=sum(request.is_open and request.due_at < now for request in everything),
        answered_days_median=statistics.median(answered) if answered else None,
    )


def _date(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")
