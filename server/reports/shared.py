"""Chapters that several reports have. Owns their words; every ε in them carries what it is relative to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from common.privacy.parameters import PrivacyStatement
from common.taxonomy import ConsentState
from policies.schema import PolicySet
from server.consent.overview import Rate
from server.reports.budget_figures import LineFigures
from server.reports.document import Fact, Section, Table
from server.reports.figures import AuditedLine, ReleaseRow, consent_totals
from server.words import Words


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """How data subjects' requests stand."""

    by_kind_and_status: dict[tuple[str, str], int]
    overdue: int
    answered_days_median: float | None


@dataclass(frozen=True, slots=True)
class Installation:
    """Everything that reports are made from, read at one moment."""

    now: float
    controller: str
    policies: PolicySet
    policy_digests: dict[str, str]
    notice_version: int
    rates: Sequence[Rate]
    subjects: int
    minors: int
    lines: Sequence[LineFigures]
    audited: Sequence[AuditedLine]
    releases: Sequence[ReleaseRow]
    requests: RequestCounts
    stops: Sequence[tuple[str, str]]
    log_size: int
    checkpoint: str

    @property
    def date(self) -> str:
        """The moment, UTC."""
        return dt.datetime.fromtimestamp(self.now, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def sentence(say: Words, claim: PrivacyStatement) -> str:
    """The whole statement in one line, in this language."""
    value = "∞" if claim.epsilon == float("inf") else f"{claim.epsilon:.3g}"
    return say(
        "ε = {epsilon} at δ = {delta}; unit: {unit}; neighbouring relation: {relation}; trust: {trust}; "
        "composition: {composition}; accountant: {accountant}",
        epsilon=value,
        delta=f"{claim.delta:g}",
        unit=say(f"one {claim.unit.value}"),
        relation=say(claim.relation.value),
        trust=say(claim.trust.value),
        composition=claim.composition,
        accountant=claim.accountant,
    )


def budget_section(say: Words, found: Installation) -> Section:
    """What devices have spent, what that guarantees, and what an audit could show of it."""
    rows = [
        (
            say(f"one {line.line.unit.value}"),
            f"{line.devices:,}",
            sentence(say, line.claim),
            f"{line.cap:g}",
            f"{line.remaining:.3g}",
        )
        for line in found.lines
    ]
    caption = say("The device that has spent the most in the running budget period. Lines are never added up.")
    columns = (say("Unit"), say("Devices"), say("Spent"), say("Cap of the same ε"), say("Left at least, same ε"))
    return Section(
        heading=say("Privacy budget: figures"),
        paragraphs=(
            say(
                "Every release of a device is charged before it happens, on the device and on the server; whatever "
                "would pass a cap is refused. A budget period lasts {days} days.",
                days=found.policies.privacy_budget.budget_period_days,
            ),
            *_audits(say, found.audited),
        ),
        tables=(Table(caption=caption, columns=columns, rows=tuple(rows)),),
    )


def _audits(say: Words, audited: Sequence[AuditedLine]) -> list[str]:
    if not audited:
        return [say("No audit result is stored: the claims above rest on their proofs alone.")]
    return [
        say(
            "Audit of the training code: for {unit} at δ = {delta} ({relation}; trust: {trust}; composition: "
            "{composition}) ε = {claimed} is claimed, and the strongest attack showed no more than ε ≥ {shown}; "
            "{passed} of {attempts} attempts found nothing (error probability {error}).",
            unit=say(f"one {line.unit.value}"),
            delta=f"{line.delta:g}",
            relation=say(line.relation.value),
            trust=say(line.trust.value),
            composition=line.composition,
            claimed=f"{line.epsilon_composed:.3g}",
            shown=f"{line.epsilon_audited:.3g}",
            passed=line.passed,
            attempts=line.attempts,
            error=f"{line.audit_error:g}",
        )
        for line in audited
    ]


def consent_section(say: Words, found: Installation) -> Section:
    """How many agree, by purpose."""
    totals = consent_totals(found.rates)
    rows = tuple(
        (
            found_title(say, found, total.purpose.value),
            f"{total.asked:,}",
            *(f"{total.states[state]:,}" for state in SHOWN),
            f"{total.given_share:.1%}" if total.asked else "–",
        )
        for total in totals
    )
    return Section(
        heading=say("Consent: figures"),
        facts=(
            Fact(label=say("Subjects enrolled"), value=f"{found.subjects:,}"),
            Fact(label=say("of them declared minors or of unknown age (protected)"), value=f"{found.minors:,}"),
            Fact(label=say("Notice version in force"), value=str(found.notice_version)),
        ),
        tables=(
            Table(
                caption=say("All jurisdictions and notice versions together."),
                columns=(
                    say("Purpose"),
                    say("Asked"),
                    *(say(state.value) for state in SHOWN),
                    say("Share given"),
                ),
                rows=rows,
            ),
        ),
    )


SHOWN = (
    ConsentState.GIVEN,
    ConsentState.REFUSED,
    ConsentState.WITHDRAWN,
    ConsentState.EXPIRED,
    ConsentState.SUPERSEDED,
    ConsentState.INVALIDATED,
)


def requests_section(say: Words, found: Installation) -> Section:
    """How data subjects' requests were answered."""
    counts = found.requests
    rows = tuple(
        (say(kind), say(status), str(count)) for (kind, status), count in sorted(counts.by_kind_and_status.items())
    )
    median = counts.answered_days_median
    return Section(
        heading=say("Requests of data subjects: figures"),
        facts=(
            Fact(label=say("Past their deadline"), value=str(counts.overdue)),
            Fact(label=say("Days to an answer (median)"), value="–" if median is None else f"{median:.1f}"),
        ),
        tables=(
            Table(caption=say("By kind and status."), columns=(say("Kind"), say("Status"), say("Count")), rows=rows),
        )
        if rows
        else (),
    )


def evidence_section(say: Words, found: Installation) -> Section:
    """What proves all this."""
    return Section(
        heading=say("Evidence"),
        paragraphs=(
            say(
                "Consent events, charges, cap changes, publications, stops and privileged reads are entries of a "
                "Merkle log (RFC 9162). Its signed checkpoints, the receipts and the cards are in the evidence "
                "bundle, which “reticent verify” checks offline with the public key alone."
            ),
        ),
        facts=(
            Fact(label=say("Entries in the log"), value=f"{found.log_size:,}"),
            Fact(label=say("Newest checkpoint"), value=found.checkpoint),
            *(
                Fact(label=say("Digest of policy document {name}", name=name), value=digest)
                for name, digest in sorted(found.policy_digests.items())
            ),
        ),
    )


def found_title(say: Words, found: Installation, purpose: str) -> str:
    """A purpose's title as people read it, and its id."""
    rule = next(rule for rule in found.policies.purposes.purposes if rule.id.value == purpose)
    return f"{rule.title[say.locale]} ({purpose})"
