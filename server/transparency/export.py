"""The log as a file for people in office: JSON lines, CSV, PDF. Owns their form.

Each starts with what it is an export of: the checkpoint that was newest when it began, so that it can be checked.
"""

from __future__ import annotations

import csv
import datetime as dt
import io
import itertools
import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final

from common.taxonomy import LogKind
from policies.notices import Locale
from server.reports.pdf import table_pdf
from server.transparency.repository import StoredEntry
from server.transparency.schemas import AuditEvent
from server.transparency.service import TransparencyLog
from server.words import words

ROOM: Final = "transparency"
PDF_ROWS_MAX: Final = 2_000
_PAGE: Final = 1_000
_COLUMNS: Final = ("seq", "time", "kind", "actor", "subject", "record", "leaf_hash")
_HEADS: Final = ("No.", "Time (UTC)", "Kind", "Who", "About", "Record")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_ERASED: Final = "erased"


class ExportFormat(StrEnum):
    """Forms of the export."""

    JSONL = "jsonl"
    CSV = "csv"
    PDF = "pdf"
    BUNDLE = "bundle"


def entries_of(log: TransparencyLog, kind: LogKind | None = None) -> Iterator[StoredEntry]:
    """Every entry that was there when the export began, page by page."""
    size, cursor = log.size(), None
    while True:
        page = log.events(cursor, _PAGE, kind)
        yield from (entry for entry in page if entry.leaf.seq < size)
        if len(page) < _PAGE or page[-1].leaf.seq >= size:
            return
        cursor = page[-1].leaf.seq


def as_jsonl(note: str, entries: Iterable[StoredEntry]) -> Iterator[bytes]:
    """A line with the checkpoint, then one line per entry."""
    yield json.dumps({"checkpoint": note}, ensure_ascii=False).encode() + b"\n"
    for entry in entries:
        yield AuditEvent.of(entry).model_dump_json().encode() + b"\n"


def as_csv(entries: Iterable[StoredEntry]) -> Iterator[bytes]:
    """A head line, then one line per entry. What a spreadsheet would take for a formula begins with an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(_COLUMNS)
    for entry in entries:
        row = AuditEvent.of(entry)
        record = _ERASED if entry.opening is None else entry.opening.record.decode()
        writer.writerow(
            [row.seq, row.time, row.kind.value, *map(_cell, (row.actor, row.subject or "", record)), row.leaf_hash]
        )
        if buffer.tell() > 1 << 16:
            yield _taken(buffer)
    yield _taken(buffer)


def as_pdf(note: str, entries: Iterable[StoredEntry], locale: Locale) -> bytes:
    """The first entries as a table; ``PDF_ROWS_MAX`` of them, and it says so."""
    say = words(locale, ROOM)
    found = list(itertools.islice(entries, PDF_ROWS_MAX + 1))
    title = say("Transparency log, checkpoint of {size} entries", size=note.split("\n", 2)[1])
    if len(found) > PDF_ROWS_MAX:
        title += " · " + say("the first {count} entries; JSON lines and CSV have all", count=PDF_ROWS_MAX)
    rows = [_printed(entry, say(_ERASED)) for entry in found[:PDF_ROWS_MAX]]
    return table_pdf(title, [say(head) for head in _HEADS], rows, locale)


def _printed(entry: StoredEntry, erased: str) -> tuple[str, ...]:
    moment = dt.datetime.fromtimestamp(entry.leaf.time, dt.UTC).strftime("%Y-%m-%d %H:%M:%S")
    opening = entry.opening
    record = erased if opening is None else opening.record.decode()
    short = record if len(record) <= 300 else record[:300] + " …"
    subject = "" if opening is None or opening.subject is None else opening.subject
    return (str(entry.leaf.seq), moment, entry.leaf.kind.value, entry.leaf.actor, subject, short)


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _taken(buffer: io.StringIO) -> bytes:
    data = buffer.getvalue().encode()
    buffer.seek(0)
    buffer.truncate()
    return data
