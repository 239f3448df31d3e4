"""Any table with a description: columns, labels, times, truncation; nothing depends on a data set's names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from client.population.description import DataDescription, load_description
from client.population.tabular import exposures
from common.errors import InvalidLabel, MalformedInput, ReticentError, TruncatedFile, UnknownColumn

CLICKS = DataDescription.model_validate(
    {
        "name": "clicks",
        "base_rate": 0.2,
        "columns": {"user": "who", "item": "ad", "time": "at", "label": "clicked"},
        "attributes": ["brand"],
        "context": ["page", "hour"],
        "numbers": {"price": {"transform": "log1p"}},
        "history": {"families": ["engaged", "shown"], "attributes": ["item", "brand"]},
    }
)
ROWS = [
    {"who": "u1", "ad": "7", "at": "2024-01-01T10:00:00", "clicked": 1, "brand": "acme", "page": "home", "price": 3.5},
    {"who": "u2", "ad": "8", "at": "2024-01-01T11:00:00", "clicked": 0, "brand": "", "page": "cart", "price": None},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    frame = pd.DataFrame(rows)
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("name", ["clicks.csv", "clicks.parquet"])
def test_csv_and_parquet_give_the_same_exposures(tmp_path: Path, name: str) -> None:
    (user1, first), (user2, second) = exposures(write(tmp_path / name, ROWS), CLICKS)
    assert (user1, user2) == ("u1", "u2")
    assert (first.item, first.outcome, first.attributes, first.context) == ("7", 1, {"brand": "acme"}, {"page": "home"})
    assert first.numbers == {"price": 3.5}
    assert first.time == 1704103200.0
    assert (second.attributes, second.numbers) == ({}, {})


def test_times_may_be_seconds_or_milliseconds(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"at": 1704103200}, ROWS[0] | {"at": 1704103200000}]
    assert {event.time for _, event in exposures(write(tmp_path / "a.csv", rows), CLICKS)} == {1704103200.0}


def test_rows_without_users_are_dealt_to_devices(tmp_path: Path) -> None:
    seed = load_description("seed_v1v2v3")
    table = write(tmp_path / "seed.csv", [{"v1": i, "v2": 1, "v3": 0, "y": i % 2} for i in range(45)])
    users = [user for user, _ in exposures(table, seed)]
    assert len(set(users)) == seed.row_devices
    assert max(map(users.count, users)) <= 3


@pytest.mark.parametrize("label", ["2", "-1", "", "yes", "nan", "0.5"])
def test_a_label_outside_zero_and_one_names_its_line(tmp_path: Path, label: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(f"v1,v2,v3,y\n1,2,3,1\n1,2,3,{label}\n")
    with pytest.raises(InvalidLabel, match="line 3"):
        list(exposures(path, load_description("seed_v1v2v3")))


def test_a_truncated_csv_is_told_from_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "cut.csv"
    path.write_text("v1,v2,v3,y\n1,2,3,1\n4,5")
    with pytest.raises(TruncatedFile, match="line 3"):
        list(exposures(path, load_description("seed_v1v2v3")))


def test_a_truncated_parquet_is_told_from_a_whole_one(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.parquet", ROWS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(TruncatedFile):
        list(exposures(path, CLICKS))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownColumn, match="'ad'"):
        list(exposures(write(tmp_path / "a.csv", [{"who": 1, "clicked": 1}]), CLICKS))


_TABLE = "{name: x, base_rate: 0.1, columns: {label: y, user: u, item: i}, "


def test_history_fields_come_in_their_order_with_their_own_constants(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    fields = "{bought.item.yield: {center: -2.5, scale: 1.25}, bought.item.any: {}}"
    path.write_text(_TABLE + "history: {fields: " + fields + "}}")
    first, second = load_description(path).feature_spec().numeric
    assert (first.name, first.center, first.scale, first.clip) == ("bought.item.yield", -2.5, 1.25, 3.0)
    assert (second.name, second.center, second.scale) == ("bought.item.any", 0.0, 1.0)


def test_crossed_history_keeps_its_plain_names() -> None:
    names = [number.name for number in CLICKS.feature_spec().numeric if number.name != "price"]
    assert names[:2] == ["engaged.item.any", "engaged.item.count90"]
    assert names[-3:] == ["shown.activity.count", "shown.activity.count30", "shown.activity.recent7"]
    assert len(names) == 2 * (2 * 5 + 3)


def test_the_grocery_model_is_small_enough_for_noise() -> None:
    spec = load_description("completejourney").feature_spec()
    assert (spec.table_rows, len(spec.numeric)) == (641, 17)
    assert spec.personal_intercept is not None


@pytest.mark.parametrize(
    "broken",
    [
        "name: x",
        "- 1\n- 2",
        "{name: x, base_rate: 2, columns: {label: y}}",
        "{name: x, base_rate: 0.1, columns: {label: y}, history: {families: [engaged], attributes: [item]}}",
        "{name: x, base_rate: 0.1, columns: {label: y}, surprise: 1}",
        "name: [unclosed",
        _TABLE + "history: {fields: {engaged.item.median: {}}}}",
        _TABLE + "history: {fields: {sold.item.any: {}}}}",
        _TABLE + "history: {fields: {engaged.brand.any: {}}}}",
        _TABLE + "history: {fields: {engaged.item.any: {scale: 0}}}}",
        _TABLE + "history: {fields: {engaged.item.any: {}}, families: [engaged]}}",
    ],
)
def test_a_broken_description_is_refused_by_name(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(broken)
    with pytest.raises(ReticentError):
        load_description(path)


def test_an_unknown_description_lists_the_known_ones() -> None:
    with pytest.raises(MalformedInput, match="completejourney"):
        load_description("nope")
