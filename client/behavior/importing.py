"""Importing files of behaviour. Owns streaming, batches and the report; a bad row costs itself and nothing else.

JSON Lines and CSV are read as a stream, in batches of one transaction each; a JSON array is read whole. What was stored
before a file ends too early stays stored, and importing the mended file again skips it as duplicates.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final, Literal

import msgspec

from client.behavior.decoding import event_from_cells, event_from_json, is_column
from client.behavior.events import BehaviourEvent
from client.behavior.recorder import Recorder
from client.behavior.validation import EventRejected, RejectReason
from client.store.keys import DeviceId
from common.errors import InputError, MalformedInput, TruncatedFile, UnknownColumn

Format = Literal["jsonl", "json", "csv"]
Progress = Callable[[int], None]
BATCH_EVENTS: Final = 2_000
LINE_BYTES_MAX: Final = 1024 * 1024
JSON_BYTES_MAX: Final = 256 * 1024 * 1024
LISTED_MAX: Final = 1_000
DEFAULT_APP: Final = "import"
_SUFFIXES: Final[dict[str, Format]] = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv"}


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that was not stored: its line (in a JSON array its position), why, and in which field."""

    line: int
    reason: RejectReason
    field: str


@dataclass(slots=True)
class ImportReport:
    """What became of a file. ``rejected`` lists the first rows only; ``reasons`` counts all."""

    stored: int = 0
    duplicates: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    reasons: Counter[RejectReason] = field(default_factory=Counter)
    truncated_at: int | None = None

    def note(self, line: int, error: EventRejected) -> None:
        """Add a rejected row."""
        self.reasons[error.reason] += 1
        if error.reason is RejectReason.TRUNCATED:
            self.truncated_at = line
        if len(self.rejected) < LISTED_MAX:
            self.rejected.append(RejectedRow(line, error.reason, error.field))

    def require_whole(self) -> None:
        """Raise if the file stopped before its end.

        Raises:
            TruncatedFile: it did; the rows before are stored.
        """
        if self.truncated_at is not None:
            raise TruncatedFile(
                f"the file stops in the middle of line {self.truncated_at}. The {self.stored} new rows before it are "
                "stored; import the whole file again and they are recognised as duplicates"
            )


Row = tuple[int, BehaviourEvent | EventRejected]


def format_of(path: Path) -> Format:
    """The format that a file's name announces.

    Raises:
        MalformedInput: another suffix.
    """
    try:
        return _SUFFIXES[path.suffix.lower()]
    except KeyError:
        raise MalformedInput(f"{path.name}: expected a name that ends in {', '.join(_SUFFIXES)}") from None


def import_file(
    recorder: Recorder, device: DeviceId, path: Path, *, form: Format | None = None, progress: Progress | None = None
) -> ImportReport:
    """Record every acceptable event of a file.

    Args:
        recorder: where events go in.
        device: whose they are.
        path: the file.
        form: its format, if the name does not say so.
        progress: told the bytes read so far.

    Raises:
        UnknownColumn: a table has a column that means nothing, or lacks one that is needed; nothing was stored.
        MalformedInput, TruncatedFile: a JSON array that cannot be read; nothing was stored.
    """
    form = form or format_of(path)
    report = ImportReport()
    try:
        with path.open("rb") as file:
            batch: list[Row] = []
            for row in _READERS[form](file):
                batch.append(row)
                if len(batch) >= BATCH_EVENTS:
                    _store(recorder, device, batch, report)
                    batch.clear()
                    if progress is not None:
                        progress(file.tell())
            _store(recorder, device, batch, report)
            if progress is not None:
                progress(file.tell())
    except OSError as error:
        raise InputError(f"{path.name}: {error.strerror or 'cannot be read'}") from None
    return report


def _store(recorder: Recorder, device: DeviceId, batch: list[Row], report: ImportReport) -> None:
    """One batch, one transaction."""
    lines: list[int] = []
    events: list[BehaviourEvent] = []
    for line, found in batch:
        if isinstance(found, EventRejected):
            report.note(line, found)
        else:
            lines.append(line)
            events.append(found)
    if not events:
        return
    done = recorder.record_all(device, events, lambda position, error: report.note(lines[position], error))
    report.stored += done.stored
    report.duplicates += done.duplicates


def _read_jsonl(file: BinaryIO) -> Iterator[Row]:
    number = 0
    while line := file.readline(LINE_BYTES_MAX):
        number += 1
        if not line.strip():
            continue
        whole = line.endswith(b"\n")
        if not whole and len(line) == LINE_BYTES_MAX:
            yield number, EventRejected(RejectReason.TOO_LONG, "row")
            while (rest := file.readline(LINE_BYTES_MAX)) and not rest.endswith(b"\n"):
                pass
            continue
        try:
            yield number, event_from_json(line)
        except EventRejected as error:
            cut = not whole and error.reason is RejectReason.UNDECODABLE
            yield number, EventRejected(RejectReason.TRUNCATED, "row") if cut else error


def _read_json(file: BinaryIO) -> Iterator[Row]:
    data = file.read(JSON_BYTES_MAX + 1)
    if len(data) > JSON_BYTES_MAX:
        raise MalformedInput(f"a JSON array of more than {JSON_BYTES_MAX >> 20} MiB: use JSON Lines, one event a line")
    try:
        items = msgspec.json.decode(data, type=list[msgspec.Raw])
    except msgspec.DecodeError as error:
        if "truncated" in str(error):
            raise TruncatedFile("the JSON array stops before its end; nothing was stored") from None
        raise MalformedInput("the file is not a JSON array of events; nothing was stored") from None
    for number, item in enumerate(items, start=1):
        try:
            yield number, event_from_json(item)
        except EventRejected as error:
            yield number, error


def _read_csv(file: BinaryIO) -> Iterator[Row]:
    whole = _ends_in_newline(file)
    reader = csv.reader(_lines(file), strict=True)
    try:
        columns = [name.strip() for name in next(reader, [])]
    except csv.Error:
        raise MalformedInput("the first line is not a list of column names; nothing was stored") from None
    _check_columns(columns)
    held: tuple[int, list[str]] | None = None  # one row back, because only the last one can be cut
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            reason = RejectReason.TRUNCATED if "unexpected end" in str(error) else RejectReason.UNDECODABLE
            yield reader.line_num, EventRejected(reason, "row")
            continue
        if held is not None:
            yield held[0], _from_cells(columns, held[1], cut=cells is None and not whole)
        if cells is None:
            return
        held = (reader.line_num, cells) if cells else None


def _from_cells(columns: list[str], cells: list[str], *, cut: bool) -> BehaviourEvent | EventRejected:
    if len(cells) != len(columns):
        cut = cut and len(cells) < len(columns)
        return EventRejected(RejectReason.TRUNCATED if cut else RejectReason.WRONG_COLUMNS, "row")
    try:
        return event_from_cells(columns, cells, DEFAULT_APP)
    except EventRejected as error:
        return error


def _lines(file: BinaryIO) -> Iterator[str]:
    """Lines as text; bytes that are not UTF-8 come through marked and are rejected with their row."""
    for number, line in enumerate(file):
        yield line.decode("utf-8-sig" if number == 0 else "utf-8", errors="surrogateescape")


def _ends_in_newline(file: BinaryIO) -> bool:
    if not file.seek(0, io.SEEK_END):
        return True
    file.seek(-1, io.SEEK_END)
    last = file.read(1)
    file.seek(0)
    return last == b"\n"


def _check_columns(columns: list[str]) -> None:
    unknown = [name for name in columns if not is_column(name)]
    if unknown:
        raise UnknownColumn(
            f"unknown columns: {', '.join(name[:40] or '(empty)' for name in unknown[:5])}. Known are kind, time, app, "
            "item and the other fields of events, and attributes.NAME, context.NAME, numbers.NAME; nothing was stored"
        )
    missing = [name for name in ("kind", "time") if name not in columns]
    if missing or len(set(columns)) != len(columns):
        problem = f"the column {missing[0]} is missing" if missing else "a column appears twice"
        raise UnknownColumn(f"{problem}; nothing was stored")


_READERS: Final[dict[Format, Callable[[BinaryIO], Iterator[Row]]]] = {
    "jsonl": _read_jsonl,
    "json": _read_json,
    "csv": _read_csv,
}
