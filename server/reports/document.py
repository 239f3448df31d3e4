"""A report as data: sections of text, facts and tables. Owns its form as JSON, CSV and PDF; knows no figure.

One form for all of them, so that what an officer reads on the desk is what an authority gets as a file.
"""

from __future__ import annotations

import csv
import io
from typing import Literal

from pydantic import BaseModel, ConfigDict

from policies.notices import Locale

ReportName = Literal["ropa", "dpia", "pipia", "consent"]


class Part(BaseModel):
    """Base of what a report is made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Fact(Part):
    """One labelled value."""

    label: str
    value: str


class Table(Part):
    """A table of texts; ``caption`` says what its figures are relative to."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(Part):
    """One chapter.

    Attributes:
        open_points: what a person must still write or decide; a draft says where it is one.
    """

    heading: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    tables: tuple[Table, ...] = ()
    open_points: tuple[str, ...] = ()


class Report(Part):
    """A report.

    Attributes:
        draft: True where the law wants a person's judgement on top of these figures.
        generated_at: UTC, ISO 8601.
    """

    schema_id: Literal["reticent-report-1"] = "reticent-report-1"
    name: ReportName
    title: str
    locale: Locale
    controller: str
    generated_at: str
    draft: bool
    summary: str
    sections: tuple[Section, ...]


def report_json(report: Report) -> bytes:
    """The report as JSON."""
    return (report.model_dump_json(indent=2) + "\n").encode()


def report_csv(report: Report) -> bytes:
    """The report as one CSV: section, kind, item, value. A spreadsheet must not take a cell for a formula."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(("section", "kind", "item", "value"))
    for section in report.sections:
        head = section.heading
        rows: list[tuple[str, str, str, str]] = []
        rows += [(head, "text", "", text) for text in section.paragraphs]
        rows += [(head, "fact", fact.label, fact.value) for fact in section.facts]
        for table in section.tables:
            for row in table.rows:
                label = row[0] if row else ""
                rows += [
                    (head, "table", f"{label} | {column}", value)
                    for column, value in zip(table.columns[1:], row[1:], strict=True)
                ]
        rows += [(head, "open", "", text) for text in section.open_points]
        writer.writerows([tuple(plain_cell(cell) for cell in row) for row in rows])
    return out.getvalue().encode("utf-8-sig")


def plain_cell(text: str) -> str:
    """A cell that no spreadsheet runs: a leading sign that begins a formula gets an apostrophe before it."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
