"""Any CSV or Parquet with a description becomes raw events. Streams in batches; nothing here knows a data set by name.

Each row is one exposure with its outcome. Rows without a user column are dealt to simulated devices in turn.
"""

from __future__ import annotations

import csv
import datetime as dt
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from client.behavior.events import Impression
from client.population.description import DataDescription
from common.errors import InvalidLabel, MalformedInput, TruncatedFile, UnknownColumn
from common.model.situation import HOUR, WEEKDAY

BATCH_ROWS = 20_000
APP = "imported"
MISSING = frozenset({"", "na", "n/a", "nan", "null", "none"})
Row = Mapping[str, object]


def rows_of(path: Path, description: DataDescription, *, labelled: bool = True) -> Iterator[tuple[int, Row]]:
    """Rows of a CSV or Parquet file with their numbers (the first data row of a CSV is line 2).

    Raises:
        UnknownColumn: a column of the description is not in the file.
        TruncatedFile: the file stops inside a row, or before its end.
        MalformedInput: not a readable file of its kind.
    """
    if not path.is_file():
        raise MalformedInput(f"no such file: {path.name}")
    needed = [c for c in description.column_names() if labelled or c != description.columns.label]
    return _parquet(path, needed) if path.suffix in {".parquet", ".pq"} else _csv(path, needed)


def header_of(path: Path) -> list[str]:
    """Column names of a CSV or Parquet file."""
    if path.suffix in {".parquet", ".pq"}:
        return list(_open_parquet(path).schema_arrow.names)
    with path.open(newline="", encoding="utf-8-sig") as file:
        return next(csv.reader(file), [])


def _csv(path: Path, needed: list[str]) -> Iterator[tuple[int, Row]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            _check_columns(header, needed)
            for cells in reader:
                if len(cells) < len(header):
                    if not cells:
                        continue
                    raise TruncatedFile(
                        f"{path.name}: line {reader.line_num} has {len(cells)} of {len(header)} columns; "
                        "the file seems cut off: fetch it again"
                    )
                if len(cells) > len(header):
                    raise MalformedInput(f"{path.name}: line {reader.line_num} has more cells than the header")
                yield reader.line_num, dict(zip(header, cells, strict=True))
    except csv.Error as error:
        raise TruncatedFile(f"{path.name}: {error}; the file seems cut off: fetch it again") from None
    except UnicodeDecodeError:
        raise MalformedInput(f"{path.name}: not UTF-8 text") from None


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError):
        raise TruncatedFile(f"{path.name}: not a whole Parquet file: fetch it again") from None


def _parquet(path: Path, needed: list[str]) -> Iterator[tuple[int, Row]]:
    file = _open_parquet(path)
    _check_columns(file.schema_arrow.names, needed)
    number = 0
    try:
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=needed):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowInvalid, OSError):
        raise TruncatedFile(f"{path.name}: unreadable after row {number}: fetch it again") from None


def _check_columns(have: list[str], needed: list[str]) -> None:
    missing = [name for name in needed if name not in have]
    if missing:
        raise UnknownColumn(
            f"the data has no column {', '.join(map(repr, missing))}; it has {', '.join(map(repr, have[:20]))}: "
            "correct the description"
        )


def exposures(path: Path, description: DataDescription, *, labelled: bool = True) -> Iterator[tuple[str, Impression]]:
    """(user, impression) of every row, in file order.

    Raises:
        InvalidLabel: a label outside {0, 1}; the text names the line, never the row's values.
    """
    columns = description.columns
    derived = {HOUR, WEEKDAY} if columns.time else set()
    context_columns = [name for name in description.context if name not in derived]
    for index, (line, row) in enumerate(rows_of(path, description, labelled=labelled)):
        user = _text(row.get(columns.user)) if columns.user else f"row-device-{index % description.row_devices:04d}"
        numbers = {name: number(row.get(name)) for name in description.numbers}
        yield (
            user or "unknown",
            Impression(
                time=_time(row.get(columns.time), line) if columns.time else float(index),
                app=APP,
                item=(_text(row.get(columns.item)) or "missing") if columns.item else "row",
                attributes=_texts(row, description.attributes),
                context=_texts(row, context_columns),
                numbers={name: value for name, value in numbers.items() if value is not None},
                exposure_id=f"{path.stem[:32]}-{line}",
                outcome=_label(row.get(columns.label), line) if labelled else None,
            ),
        )


def _texts(row: Row, names: tuple[str, ...] | list[str]) -> dict[str, str]:
    found = ((name, _text(row.get(name))) for name in names)
    return {name: value for name, value in found if value is not None}


def _text(cell: object) -> str | None:
    """Categorical value; missing is None. Whole floats lose their ``.0`` so that 7 and 7.0 are one category."""
    if cell is None:
        return None
    if isinstance(cell, float):
        if not math.isfinite(cell):
            return None
        cell = int(cell) if cell.is_integer() else cell
    value = str(cell).strip()
    return None if value.lower() in MISSING else value[:200]


def number(cell: object) -> float | None:
    """Numeric value; missing, unreadable or infinite is None."""
    if isinstance(cell, bool | int | float):
        value = float(cell)
    else:
        try:
            value = float(str(cell))
        except ValueError:
            return None
    return value if math.isfinite(value) else None


def _label(cell: object, line: int) -> int:
    value = number(cell) if not isinstance(cell, str) or cell.strip().lower() not in {"true", "false"} else None
    if isinstance(cell, str) and value is None:
        value = {"true": 1.0, "false": 0.0}.get(cell.strip().lower())
    if value not in (0.0, 1.0):
        raise InvalidLabel(f"line {line}: the label must be 0 or 1; correct the row or the description's label column")
    return int(value)


def _time(cell: object, line: int) -> float:
    """Seconds since the epoch from a number (seconds or milliseconds) or an ISO 8601 text."""
    if isinstance(cell, dt.datetime):
        return (cell if cell.tzinfo else cell.replace(tzinfo=dt.UTC)).timestamp()
    if isinstance(cell, dt.date):
        return dt.datetime(cell.year, cell.month, cell.day, tzinfo=dt.UTC).timestamp()
    value = number(cell)
    if value is not None:
        return value / 1000 if abs(value) > 1e11 else value
    try:
        moment = dt.datetime.fromisoformat(str(cell).strip())
    except ValueError:
        raise MalformedInput(f"line {line}: the time is neither a number of seconds nor ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
