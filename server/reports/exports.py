"""Lists that leave the service as files: CSV, JSONL, PDF. Owns their columns and forms; names no subject."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from common.errors import NotFound
from common.taxonomy import ConsentState
from server.api.services import Services
from server.ledger.bounds import line_of_bound
from server.reports.budget_figures import model_figures
from server.reports.document import plain_cell
from server.reports.pdf import table_pdf
from server.words import Words

Format = Literal["csv", "jsonl", "pdf"]
MEDIA: Final[dict[Format, str]] = {
    "csv": "text/csv; charset=utf-8",
    "jsonl": "application/jsonl",
    "pdf": "application/pdf",
}
PDF_ROWS_MAX: Final = 2_000
Row = Mapping[str, str | int | float | None]


@dataclass(frozen=True, slots=True)
class Export:
    """One list.

    Attributes:
        rows: makes it, oldest first.
    """

    title: str
    columns: tuple[str, ...]
    rows: Callable[[Services], Iterable[Row]]


def export(services: Services, name: str, form: Format, say: Words) -> bytes:
    """One list as a file.

    Raises:
        NotFound: there is no such list.
    """
    if name not in EXPORTS:
        raise NotFound("there is no such export")
    wanted = EXPORTS[name]
    if form == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in wanted.rows(services)).encode()
    cells = ([_cell(row[column]) for column in wanted.columns] for row in wanted.rows(services))
    if form == "csv":
        return _csv(wanted.columns, cells)
    shown = [row for _, row in zip(range(PDF_ROWS_MAX), cells, strict=False)]
    return table_pdf(say(wanted.title), [say(name) for name in wanted.columns], shown, say.locale)


def _csv(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(columns)
    writer.writerows([plain_cell(cell) for cell in row] for row in rows)
    return out.getvalue().encode("utf-8-sig")


def _cell(value: str | float | None) -> str:
    return "" if value is None else str(value)


def _rates(services: Services) -> Iterable[Row]:
    for rate in services.consent.rates():
        states = {state.value: rate.states[state] for state in ConsentState if state is not ConsentState.UNKNOWN}
        yield {
            "purpose": rate.purpose.value,
            "jurisdiction": rate.jurisdiction,
            "notice_version": rate.notice_version,
            "asked": rate.asked,
            **states,
        }


def _charges(services: Services) -> Iterable[Row]:
    uses = services.ledger.uses()
    for charge in services.ledger.charges():
        for release in charge.releases:
            kind, use = uses[release.use]
            yield {
                "charge": charge.id,
                "day": _day(charge.day),
                "period": charge.period,
                "run_id": charge.run_id,
                "release": kind.value,
                "purpose": kind.purpose.value,
                "devices": charge.devices,
                "barred": charge.barred,
                "epsilon": release.epsilon,
                "delta": release.delta,
                "rho": release.rho,
                "unit": use.unit.value,
                "relation": use.relation.value,
                "trust": use.trust.value,
                "composition": f"{use.count} × {use.mechanism.value}, z = {use.noise_multiplier:g}, this release alone",
                "log_entry": charge.log_seq,
            }


def _budgets(services: Services) -> Iterable[Row]:
    for row in model_figures(services.ledger):
        yield {
            "run_id": row.run_id,
            "period": row.period,
            "purpose": row.purpose.value,
            "charges": row.charges,
            "devices": row.devices_max,
            "barred": row.barred,
            "epsilon": row.claim.epsilon,
            "delta": row.claim.delta,
            "unit": row.claim.unit.value,
            "relation": row.claim.relation.value,
            "trust": row.claim.trust.value,
            "composition": row.claim.composition,
        }


def _caps(services: Services) -> Iterable[Row]:
    for cap in services.caps.list(limit=1000):
        line = line_of_bound(services.ledger.policy, cap.unit, cap.bound)
        yield {
            "cap": cap.id,
            "unit": cap.unit.value,
            "relation": line.relation.value,
            "trust": line.trust.value,
            "delta": line.delta,
            "bound": cap.bound,
            "epsilon_max": cap.epsilon_max,
            "composition": "all releases of one device in one budget period",
            "state": cap.state.value,
            "proposed_by": cap.proposed_by,
            "proposed_at": _moment(cap.proposed_at),
            "decided_by": cap.decided_by,
            "decided_at": _moment(cap.decided_at),
            "reason": cap.reason,
            "log_entry": cap.log_seq,
        }


def _requests(services: Services) -> Iterable[Row]:
    for request in services.requests.list(limit=10_000):
        yield {
            "request_id": request.request_id,
            "request": request.request.value,
            "status": request.status.value,
            "law": request.law,
            "verified_by": request.verified_by,
            "received_at": _moment(request.received_at),
            "due_at": _moment(request.due_at),
            "completed_at": _moment(request.completed_at),
            "denial": None if request.denial is None else request.denial.value,
        }


def _log(services: Services) -> Iterable[Row]:
    for entry in services.log.each():
        leaf = entry.leaf
        yield {
            "entry": leaf.seq,
            "time": _moment(leaf.time),
            "about": leaf.kind.value,
            "actor": leaf.actor,
            "subject_commit": None if leaf.subject_commit is None else leaf.subject_commit.hex(),
            "payload_commit": leaf.payload_commit.hex(),
            "leaf_hash": entry.leaf_hash.hex(),
        }


def _day(days: int) -> str:
    return dt.datetime.fromtimestamp(days * 86_400, dt.UTC).strftime("%Y-%m-%d")


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="seconds")


_RELATIVE: Final = ("delta", "unit", "relation", "trust", "composition")
_STATES: Final = tuple(state.value for state in ConsentState if state is not ConsentState.UNKNOWN)
EXPORTS: Final[dict[str, Export]] = {
    "consent-rates": Export("Consent rates", ("purpose", "jurisdiction", "notice_version", "asked", *_STATES), _rates),
    "charges": Export(
        "Charges to the privacy budget",
        (
            *("charge", "day", "period", "run_id", "release", "purpose", "devices", "barred"),
            *("epsilon", *_RELATIVE, "rho", "log_entry"),
        ),
        _charges,
    ),
    "budgets": Export(
        "Privacy budget by training and purpose",
        ("run_id", "period", "purpose", "charges", "devices", "barred", "epsilon", *_RELATIVE),
        _budgets,
    ),
    "caps": Export(
        "Cap changes",
        (
            *("cap", "bound", "epsilon_max", *_RELATIVE, "state", "proposed_by", "proposed_at"),
            *("decided_by", "decided_at", "reason", "log_entry"),
        ),
        _caps,
    ),
    "requests": Export(
        "Requests of data subjects",
        (
            *("request_id", "request", "status", "law", "verified_by"),
            *("received_at", "due_at", "completed_at", "denial"),
        ),
        _requests,
    ),
    "log": Export(
        "Transparency log",
        ("entry", "time", "about", "actor", "subject_commit", "payload_commit", "leaf_hash"),
        _log,
    ),
}
