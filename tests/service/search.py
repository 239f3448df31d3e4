"""Looks for traces of a person in everything a service has stored: every column of every table, every byte on disk."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from sqlalchemy import MetaData, select

from server.storage import Database

Traces = Mapping[str, bytes]


def spellings(trace: bytes) -> set[bytes]:
    """A trace as bytes, as base64 (both alphabets) and as hex."""
    plain = {base64.b64encode(trace), base64.urlsafe_b64encode(trace)}
    return {trace, trace.hex().encode(), *(text.rstrip(b"=") for text in plain)}


def in_tables(database: Database, traces: Traces) -> list[str]:
    """``table.column: trace`` of every trace in any column of any table that exists, models or not."""
    metadata = MetaData()
    metadata.reflect(database.engine)
    wanted = {name: spellings(trace) for name, trace in traces.items()}
    found = set()
    with database.read() as session:
        for table in metadata.sorted_tables:
            for row in session.execute(select(table)).mappings():
                for column, value in row.items():
                    text = b" ".join(_readable(value))
                    found |= {
                        f"{table.name}.{column}: {n}" for n, forms in wanted.items() if any(f in text for f in forms)
                    }
    return sorted(found)


def on_disk(files: Iterable[Path], traces: Traces) -> list[str]:
    """``file: trace`` of every trace in the bytes of these files, freed pages and logs included."""
    found = []
    for file in files:
        data = file.read_bytes()
        found += [f"{file.name}: {name}" for name, trace in traces.items() if any(f in data for f in spellings(trace))]
    return sorted(found)


def _readable(value: object) -> Iterator[bytes]:
    """A value as bytes, and what is encoded in it (parts of signatures)."""
    data = value if isinstance(value, bytes) else str(value).encode()
    yield data
    for part in data.split(b"."):
        try:
            yield base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
        except (binascii.Error, ValueError):
            continue
