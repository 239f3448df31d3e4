"""The consent report: rates by purpose, jurisdiction and notice version. Owns its chapters."""

from __future__ import annotations

from server.reports.document import Section, Table
from server.reports.shared import SHOWN, Installation, consent_section, evidence_section, found_title
from server.words import Words

TITLE = "Consent report"
SUMMARY = (
    "Who was asked and what they decided, by purpose, jurisdiction and notice version. Counts only; nobody is named."
)


def chapters(say: Words, found: Installation) -> list[Section]:
    """All chapters."""
    rows = tuple(
        (
            found_title(say, found, rate.purpose.value),
            rate.jurisdiction,
            str(rate.notice_version),
            f"{rate.asked:,}",
            *(f"{rate.states[state]:,}" for state in SHOWN),
            f"{rate.given_share:.1%}",
        )
        for rate in found.rates
    )
    detail = Section(
        heading=say("By purpose, jurisdiction and notice version"),
        paragraphs=() if rows else (say("Nobody was asked yet."),),
        tables=(
            Table(
                caption=say(
                    "Subjects by the state of their decision now; lapsed grants count as expired or superseded."
                ),
                columns=(
                    say("Purpose"),
                    say("Jurisdiction"),
                    say("Notice"),
                    say("Asked"),
                    *(say(state.value) for state in SHOWN),
                    say("Share given"),
                ),
                rows=rows,
            ),
        )
        if rows
        else (),
    )
    return [consent_section(say, found), detail, evidence_section(say, found)]
