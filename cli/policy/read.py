"""Reads decision logs: JSON Lines, or Parquet of the same fields. Owns file formats and their errors."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from common.errors import InputError, MalformedInput
from common.wire.codec import describe
from policies.evaluation.rows import LogRow
from policies.evaluation.targets import TargetPolicy, as_logged, by_document, by_name, uniform
from policies.loader import load_placement, ready_placements

LINE_BYTES_MAX = 8 * 1024 * 1024


def read_log(path: Path) -> list[LogRow]:
    """All rows of a log.

    Raises:
        MalformedInput: a line is no row; the text names file, line and field.
        InputError: the file cannot be read, is empty, or is neither .jsonl nor .parquet.
    """
    readers = {".jsonl": _lines, ".parquet": _parquet}
    if path.suffix not in readers:
        raise InputError(f"{path.name}: a decision log is .jsonl or .parquet")
    try:
        rows = readers[path.suffix](path)
    except OSError as error:
        raise InputError(f"{path.name} cannot be read ({error.strerror})") from None
    if not rows:
        raise InputError(f"{path.name}: there is no decision in it")
    return rows


def target_of(name: str) -> tuple[str, TargetPolicy]:
    """What a policy argument means: ``uniform``, ``logged``, a ready document, a YAML file, or a target of the log.

    Raises:
        PolicyError, InvariantViolated: a document that is invalid.
        InputError: a file that is not there.
    """
    if name in {"uniform", "logged"}:
        return name, uniform if name == "uniform" else as_logged
    if name.startswith("target:"):
        return name.removeprefix("target:"), by_name(name.removeprefix("target:"))
    path = ready_placements().get(name, Path(name))
    if not path.is_file():
        ready = ", ".join(ready_placements())
        raise InputError(f"{name!r} is no file and no ready policy (uniform, logged, {ready}, or target:NAME)")
    return path.stem, by_document(load_placement(path)[0])


def _lines(path: Path) -> list[LogRow]:
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            if len(line) > LINE_BYTES_MAX:
                raise MalformedInput(f"{path.name}, line {number}: longer than {LINE_BYTES_MAX} bytes")
            try:
                rows.append(LogRow.model_validate_json(line))
            except ValidationError as error:
                raise MalformedInput(f"{path.name}, line {number}: {describe(error)}") from None
    return rows


def _parquet(path: Path) -> list[LogRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = []
    try:
        records = pq.read_table(path).to_pylist(maps_as_pydicts="strict")
    except (pa.ArrowInvalid, pa.ArrowKeyError, KeyError, ValueError):
        raise MalformedInput(f"{path.name} is not a Parquet file that can be read") from None
    for number, record in enumerate(records, 1):
        try:
            rows.append(LogRow.model_validate(_plain(record)))
        except ValidationError as error:
            raise MalformedInput(f"{path.name}, row {number}: {describe(error)}") from None
    return rows


def _plain(record: dict[str, object]) -> dict[str, object]:
    """Absent columns and fields of candidates read as null: they are left out, so that their defaults hold."""
    whole = {name: value for name, value in record.items() if value is not None or name == "shown"}
    candidates = whole.get("candidates")
    if isinstance(candidates, list):
        whole["candidates"] = tuple(
            {name: value for name, value in one.items() if value is not None} if isinstance(one, dict) else one
            for one in candidates
        )
    return whole
