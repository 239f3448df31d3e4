"""Deadlines of data subjects' requests. Owns which law counts and until when it wants an answer. Pure."""

from __future__ import annotations

import calendar
import datetime as dt

from common.taxonomy import AgeBand, RequestKind
from policies.schema import Handling, LawRule, RequestsPolicy


def law_of(policy: RequestsPolicy, jurisdiction: str) -> LawRule:
    """The law of a place: its own, else its country's, else the one that holds elsewhere."""
    for wanted in (jurisdiction, jurisdiction.partition("-")[0]):
        found = next((law for law in policy.laws if wanted in law.jurisdictions), None)
        if found is not None:
            return found
    return next(law for law in policy.laws if not law.jurisdictions)


def due_at(law: LawRule, received_at: float) -> int:
    """Until when a request must be answered, seconds since the epoch.

    A month ends on the day of the same number, or on the last day of a shorter month (Regulation 1182/71, Art. 3).
    """
    start = dt.datetime.fromtimestamp(received_at, dt.UTC)
    month = start.month - 1 + law.months
    year, month = start.year + month // 12, month % 12 + 1
    day = min(start.day, calendar.monthrange(year, month)[1])
    return int((start.replace(year=year, month=month, day=day) + dt.timedelta(days=law.days)).timestamp())


def is_automatic(policy: RequestsPolicy, request: RequestKind, *, becoming: AgeBand | None, was: AgeBand) -> bool:
    """Whether a request that the person's device has signed is done at once.

    Args:
        policy: the document.
        request: what is asked.
        becoming: the age band that a rectification names.
        was: the one that stands. Whoever is protected loses that protection through an officer only.
    """
    if becoming is AgeBand.ADULT and was is not AgeBand.ADULT:
        return False
    return policy.handling[request] is Handling.AUTOMATIC
