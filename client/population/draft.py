"""Drafts a data set description from column names and a glance at the first rows. A person corrects it.

Only kinds of columns are guessed, from a sample; no statistic of the data is put into the description.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

from client.population.description import DataDescription, HistoryPlan
from client.population.tabular import header_of, number, rows_of
from common.errors import MalformedInput, UnknownColumn
from common.model.situation import ITEM

SAMPLE_ROWS = 2_000
_WORDS = {
    "label": ("label", "click", "clicked", "y", "target", "is_click", "conversion", "converted", "clk", "outcome"),
    "user": ("user", "user_id", "userid", "uid", "visitor", "customer", "household", "device", "device_id", "member"),
    "item": ("item", "item_id", "itemid", "ad", "ad_id", "adgroup_id", "product", "product_id", "creative_id", "sku"),
    "time": ("time", "timestamp", "time_stamp", "datetime", "date", "ts", "event_time", "created_at"),
}
_ITEM_FACTS = ("brand", "category", "cate", "cat", "campaign", "advertiser", "customer_id", "genre", "department")


def draft_description(path: Path, *, label: str | None = None) -> str:
    """YAML text (JSON is YAML) of a description of the table at ``path``.

    Raises:
        UnknownColumn: no column looks like a label, or the named one is absent.
    """
    if not path.is_file():
        raise MalformedInput(f"no such file: {path.name}")
    header = header_of(path)
    if label is not None and label not in header:
        raise UnknownColumn(f"the data has no column {label!r}; it has {', '.join(map(repr, header[:20]))}")
    roles = {role: _pick(header, words) for role, words in _WORDS.items()}
    roles["label"] = label or roles["label"]
    if roles["label"] is None:
        raise UnknownColumn("no column looks like a label; name it with --label")
    rest = [name for name in header if name not in roles.values()]
    sample = list(itertools.islice(rows_of(path, _only(roles["label"])), SAMPLE_ROWS))
    numeric = [name for name in rest if _is_numeric([row.get(name) for _, row in sample])]
    facts = [name for name in rest if name not in numeric and _starts(name, _ITEM_FACTS)]
    facts += [name for name in numeric if _starts(name, _ITEM_FACTS)]
    context = [name for name in rest if name not in facts + numeric]
    return _text(path.stem, roles, facts, context, [name for name in numeric if name not in facts])


def _only(label: str) -> DataDescription:
    return DataDescription.model_validate({"name": "glance", "base_rate": 0.5, "columns": {"label": label}})


def _pick(header: Sequence[str], words: Sequence[str]) -> str | None:
    lower = {name.lower(): name for name in header}
    return next((lower[word] for word in words if word in lower), None)


def _starts(name: str, words: Sequence[str]) -> bool:
    return any(name.lower().startswith(word) for word in words)


def _is_numeric(cells: Sequence[object]) -> bool:
    found = [number(cell) for cell in cells if cell not in (None, "")]
    return bool(found) and all(value is not None for value in found)


def _text(name: str, roles: dict[str, str | None], facts: list[str], context: list[str], numbers: list[str]) -> str:
    history = roles["user"] is not None and roles["item"] is not None and roles["time"] is not None
    body: dict[str, object] = {
        "version": 1,
        "name": name[:60],
        "base_rate": 0.1,
        "columns": {role: column for role, column in roles.items() if column is not None},
        "attributes": facts,
        "context": context + (["hour", "weekday"] if roles["time"] else []),
        "numbers": {number_name: {"transform": "signed_log1p", "scale": 2.0} for number_name in numbers},
        "buckets": {ITEM: 1024, "default": 256},
    }
    if history:
        plan = HistoryPlan(families=("engaged", "shown"), attributes=(ITEM, *facts))
        body["history"] = plan.model_dump()
    head = "# A draft: check every line. Public guesses only; base_rate is yours to set.\n"
    return head + "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in body.items())
