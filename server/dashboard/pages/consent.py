"""Consent rates by purpose, jurisdiction and notice version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from markupsafe import Markup

from common.taxonomy import ConsentState
from server.consent.overview import Rate
from server.dashboard import charts
from server.dashboard.charts import Part
from server.dashboard.desk import Desk, DeskDep
from server.reports.figures import ConsentTotals, consent_totals
from server.words import Words

router = APIRouter()
ORDER: Final = (
    ConsentState.GIVEN,
    ConsentState.REQUESTED,
    ConsentState.REFUSED,
    ConsentState.WITHDRAWN,
    ConsentState.EXPIRED,
    ConsentState.SUPERSEDED,
    ConsentState.INVALIDATED,
)


@router.get("/consent")
def consent(
    desk: DeskDep,
    jurisdiction: Annotated[str, Query(max_length=10)] = "",
    version: Annotated[str, Query(max_length=10)] = "",
) -> Response:
    """Who agreed to what, in counts."""
    rates = desk.services.consent.rates()
    shown = [
        rate for rate in rates if jurisdiction in {"", rate.jurisdiction} and version in {"", str(rate.notice_version)}
    ]
    totals = consent_totals(shown)
    return desk.page(
        "consent.html",
        rates=shown,
        seen=seen_states(totals),
        titles=titles(desk),
        chart=consent_chart(desk.say, totals, titles(desk)),
        totals=totals,
        jurisdictions=sorted({rate.jurisdiction for rate in rates}),
        versions=sorted({rate.notice_version for rate in rates}, reverse=True),
        jurisdiction=jurisdiction,
        version=version,
    )


def seen_states(totals: Sequence[ConsentTotals]) -> list[ConsentState]:
    """States that anybody is in, in their order."""
    return [state for state in ORDER if any(total.states[state] for total in totals)]


def titles(desk: Desk) -> dict[str, str]:
    """Titles of the purposes as people read them."""
    rules = desk.services.policies.policies.purposes.purposes
    return {rule.id.value: rule.title[desk.say.locale] for rule in rules}


def consent_chart(say: Words, totals: Sequence[ConsentTotals], names: dict[str, str]) -> Markup:
    """One bar per purpose."""
    words = "; ".join(
        say(
            "{purpose}: {share} of {asked} agree",
            purpose=names[t.purpose.value],
            share=f"{t.given_share:.0%}",
            asked=t.asked,
        )
        for t in totals
        if t.asked
    )
    rows = [(names[total.purpose.value], _parts(say, total)) for total in totals]
    return charts.shares(say("Consent by purpose"), words or say("Nobody was asked yet."), rows)


def _parts(say: Words, total: ConsentTotals | Rate) -> list[Part]:
    return [Part(say(state.value), total.states[state], state.value) for state in ORDER if total.states[state]]
