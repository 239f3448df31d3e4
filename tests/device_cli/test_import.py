"""Importing files: a bad row costs itself and nothing else."""

import contextlib
import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.behavior.decoding import COLUMNS, GROUPS, event_from_fields, event_from_json
from client.behavior.events import BehaviourEvent, Cart, Click, Impression, Purchase, Search, View
from client.behavior.importing import _READERS, Format, RejectedRow, import_file
from client.behavior.recorder import Recorder
from client.behavior.summary import json_lines
from client.behavior.validation import EventRejected, RejectReason, TimeLimits, normalise
from client.store.keys import DeviceId, KeyStore
from client.store.vault import Vault
from common.errors import InputError, MalformedInput, TruncatedFile, UnknownColumn
from common.taxonomy import EventKind
from policies import loader
from policies.schema import RetentionPolicy

POLICY = RetentionPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "retention.yaml"))
NOW = 1_800_000_000.0
ANNA = DeviceId("anna")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    opened = Vault.open(tmp_path / "vault.db", KeyStore(tmp_path / "keys"))
    yield opened
    opened.close()


@pytest.fixture
def recorder(vault: Vault) -> Recorder:
    return Recorder(vault, POLICY, lambda: NOW)


def row(**fields: object) -> str:
    return json.dumps({"kind": "click", "time": NOW, "app": "shop", "item": "shoe"} | fields)


def test_json_lines_with_every_kind_of_bad_row(tmp_path: Path, vault: Vault, recorder: Recorder) -> None:
    rows = [
        row(),
        row(item="hat", time="2027-01-15T08:00:00Z"),
        row(item="cap", time=str(NOW)),
        "",
        row(kind="dance"),
        row(colour="red"),
        '{"kind": "click", "time": 1}',
        row(time="yesterday"),
        row(item=7),
        "[1]",
        "{nonsense",
        row(time=NOW + 999),
        row(kind="cart", quantity="2"),
        row(kind="cart", quantity="two"),
        row(),
        row(attributes={"a": 1}),
        '{"time": 5}',
        "\xff",
        row(kind=["click"]),
    ]
    path = tmp_path / "events.jsonl"
    path.write_bytes("\n".join(rows).encode("latin-1") + b"\n")
    report = import_file(recorder, ANNA, path)
    assert (report.stored, report.duplicates, report.truncated_at) == (4, 1, None)
    assert sorted(report.rejected, key=lambda r: r.line) == [
        RejectedRow(5, RejectReason.UNKNOWN_KIND, "kind"),
        RejectedRow(6, RejectReason.UNKNOWN_FIELD, "row"),
        RejectedRow(7, RejectReason.MISSING_FIELD, "app"),
        RejectedRow(8, RejectReason.BAD_TIME, "time"),
        RejectedRow(9, RejectReason.WRONG_TYPE, "item"),
        RejectedRow(10, RejectReason.WRONG_TYPE, "row"),
        RejectedRow(11, RejectReason.UNDECODABLE, "row"),
        RejectedRow(12, RejectReason.FUTURE, "time"),
        RejectedRow(14, RejectReason.WRONG_TYPE, "quantity"),
        RejectedRow(16, RejectReason.WRONG_TYPE, "attributes"),
        RejectedRow(17, RejectReason.MISSING_FIELD, "kind"),
        RejectedRow(18, RejectReason.UNDECODABLE, "row"),
        RejectedRow(19, RejectReason.UNKNOWN_KIND, "kind"),
    ]
    assert sum(report.reasons.values()) == 13
    assert {event.item for event in vault.read(ANNA) if isinstance(event, Click | Cart)} == {"shoe", "hat", "cap"}


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_truncated_file_keeps_what_came_before_and_can_be_imported_again(
    tmp_path: Path, vault: Vault, recorder: Recorder, suffix: str
) -> None:
    if suffix == "jsonl":
        whole = "".join(row(item=f"item-{n}") + "\n" for n in range(5000))
    else:
        whole = "kind,time,app,item\n" + "".join(f"click,{NOW},shop,item-{n}\n" for n in range(5000))
    path = tmp_path / f"events.{suffix}"
    path.write_text(whole[: -len("p,item-4999\n")], encoding="utf-8")
    report = import_file(recorder, ANNA, path)
    assert report.stored == 4999
    assert report.truncated_at == (5000 if suffix == "jsonl" else 5001)
    with pytest.raises(TruncatedFile, match=rf"line {report.truncated_at}\. The 4999 new rows"):
        report.require_whole()
    path.write_text(whole, encoding="utf-8")
    report = import_file(recorder, ANNA, path)
    assert (report.stored, report.duplicates, report.truncated_at) == (1, 4999, None)
    report.require_whole()
    assert vault.count(ANNA) == 5000


def test_the_last_line_needs_no_newline(tmp_path: Path, recorder: Recorder) -> None:
    for suffix, text in (("jsonl", row()), ("csv", f"kind,time,app,item\nclick,{NOW},shop,hat")):
        path = tmp_path / f"events.{suffix}"
        path.write_text(text, encoding="utf-8")
        report = import_file(recorder, ANNA, path)
        assert (report.stored, report.rejected) == (1, [])


def test_csv_with_groups_quotes_and_missing_values(tmp_path: Path, vault: Vault, recorder: Recorder) -> None:
    path = tmp_path / "events.csv"
    path.write_text(
        "\ufeffkind,time,item,query,attributes.brand,context.slot,numbers.price,quantity,dwell_s,outcome,exposure_id\r\n"
        f"view,{NOW},shoe,,Acme,,,,2.5,,\r\n"
        f'search,{NOW},,"red, ""big""\r\nshoes",,,,,,,\r\n'
        f"impression,{NOW},hat,,NA,top,9.5,,,1,e1\r\n"
        f"purchase,{NOW},hat,,null,,,,,,\r\n"
        f"view,{NOW},cap,,,top,,,,,\r\n"
        f"view,{NOW},,,,,,,,,\r\n"
        f"view,{NOW}\r\n"
        f"view,{NOW},b\xe9ret,,,,,,,,\r\n",
        encoding="utf-8",
        newline="",
    )
    path.write_bytes(path.read_bytes() + f"view,{NOW},caf\xe9,,,,,,,,\r\n".encode("latin-1"))
    report = import_file(recorder, ANNA, path)
    assert sorted(report.rejected, key=lambda r: r.line) == [
        RejectedRow(7, RejectReason.UNKNOWN_FIELD, "row"),
        RejectedRow(8, RejectReason.MISSING_FIELD, "item"),
        RejectedRow(9, RejectReason.WRONG_COLUMNS, "row"),
        RejectedRow(11, RejectReason.UNDECODABLE, "text"),
    ]
    expected: list[BehaviourEvent] = [
        View(NOW, "import", "shoe", {"brand": "Acme"}, 2.5),
        Search(NOW, "import", 'red, "big"\r\nshoes'),
        Impression(NOW, "import", "hat", {}, {"slot": "top"}, {"price": 9.5}, "e1", 1),
        Purchase(NOW, "import", "hat"),
        View(NOW, "import", "b\xe9ret"),
    ]
    assert vault.read(ANNA) == expected


def test_a_quote_that_never_closes_is_a_truncation(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "events.csv"
    path.write_text(f'kind,time,item\nclick,{NOW},a\nclick,{NOW},"b\nclick,{NOW},c\n', encoding="utf-8")
    report = import_file(recorder, ANNA, path)
    assert report.stored == 1
    assert report.truncated_at is not None


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("kind,time,item,colour", "unknown columns: colour"),
        ("kind,time,item,attributes", "unknown columns: attributes"),
        ("kind,time,item,attributes.", "unknown columns"),
        ("time,item", "column kind is missing"),
        ("kind,item", "column time is missing"),
        ("kind,time,item,item", "appears twice"),
        ("", "kind is missing"),
    ],
)
def test_columns_are_checked_before_anything_is_stored(
    tmp_path: Path, vault: Vault, recorder: Recorder, header: str, said: str
) -> None:
    path = tmp_path / "events.csv"
    path.write_text(f"{header}\nclick,{NOW},shoe,x\n", encoding="utf-8")
    with pytest.raises(UnknownColumn, match=said):
        import_file(recorder, ANNA, path)
    assert vault.devices() == []


def test_json_arrays(tmp_path: Path, vault: Vault, recorder: Recorder) -> None:
    path = tmp_path / "events.json"
    whole = f"[{row()}, {row(item='hat')}, {row(item=1)}]"
    for text, error in (
        (whole[:-30], TruncatedFile),
        ("{}", MalformedInput),
        ("[1,]", MalformedInput),
        ("", TruncatedFile),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(error, match="nothing was stored"):
            import_file(recorder, ANNA, path)
    assert vault.devices() == []
    path.write_text(whole, encoding="utf-8")
    report = import_file(recorder, ANNA, path)
    assert (report.stored, report.rejected) == (2, [RejectedRow(3, RejectReason.WRONG_TYPE, "item")])


def test_files_that_are_none(tmp_path: Path, recorder: Recorder) -> None:
    with pytest.raises(MalformedInput, match=r"ends in \.jsonl"):
        import_file(recorder, ANNA, tmp_path / "events.xlsx")
    with pytest.raises(InputError, match="No such file"):
        import_file(recorder, ANNA, tmp_path / "events.csv")
    (tmp_path / "empty.jsonl").touch()
    assert import_file(recorder, ANNA, tmp_path / "empty.jsonl").stored == 0


def test_an_endless_line_costs_itself_only(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(f"{row()}\n{row(item='x' * 3_000_000)}\n{row(item='hat')}\n", encoding="utf-8")
    report = import_file(recorder, ANNA, path)
    assert report.stored == 2
    assert report.rejected == [RejectedRow(2, RejectReason.TOO_LONG, "row")]


def test_nothing_said_about_a_bad_row_repeats_it(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "events.jsonl"
    canary = "CANARY"
    bad = [
        row(kind=canary),
        row(**{canary: 1}),
        row(time=canary),
        row(attributes={canary: 1}),
        row(item=[canary]),
        canary,
    ]
    path.write_text("\n".join(bad) + "\n", encoding="utf-8")
    report = import_file(recorder, ANNA, path)
    assert len(report.rejected) == len(bad)
    assert canary not in repr(report)


words = st.sampled_from(["click", "time", "1e999", "nan", "-5", "2027-01-15", "0001-01-01T00:00+23:59", "\ud800", ""])
values = st.recursive(
    words | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(words | st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=300)
@given(st.dictionaries(st.sampled_from(sorted(COLUMNS | set(GROUPS) | {"other"})), values), st.sampled_from(EventKind))
def test_whatever_fields_hold_the_answer_is_an_event_or_a_rejection(fields: dict[str, Any], kind: str) -> None:
    for given_fields in (fields, {"kind": kind, "time": NOW, "app": "a", "item": "i"} | fields):
        with contextlib.suppress(EventRejected):
            normalise(event_from_fields(given_fields), TimeLimits(NOW, dict.fromkeys(EventKind, 0.0)))
        with contextlib.suppress(EventRejected):
            event_from_json(json.dumps(given_fields).encode())


@settings(max_examples=300)
@given(st.binary(max_size=60), st.sampled_from(["csv", "jsonl", "json"]))
def test_whatever_a_file_holds_it_is_reported(data: bytes, form: Format) -> None:
    file = io.BytesIO((b"kind,time,item\n" if form == "csv" else b"") + data)
    try:
        rows = list(_READERS[form](file))
    except (MalformedInput, TruncatedFile):
        assert form == "json"
        return
    for _, found in rows:
        assert isinstance(found, EventRejected | BehaviourEvent)


def test_progress_reaches_the_end(tmp_path: Path, recorder: Recorder) -> None:
    path = tmp_path / "events.csv"
    path.write_text("kind,time,item\n" + "".join(f"click,{NOW},{n}\n" for n in range(4500)), encoding="utf-8")
    seen: list[int] = []
    import_file(recorder, ANNA, path, progress=seen.append)
    assert seen == sorted(seen)
    assert len(seen) == 3
    assert seen[-1] == path.stat().st_size


names = st.text("ab\u00e9,\"\n' ", min_size=1, max_size=5).filter(lambda s: bool(s.strip()))
clicks = st.builds(Click, st.integers(1, 99).map(lambda n: NOW - n), names, names, st.dictionaries(st.just("k"), names))


@settings(max_examples=25)
@given(st.lists(clicks | st.builds(Search, st.just(NOW), names, names), max_size=5))
def test_export_and_csv_come_back_the_same(events: list[BehaviourEvent]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        vaults = []
        for suffix in ("jsonl", "csv"):
            vault = Vault.open(Path(folder) / f"{suffix}.db", KeyStore(Path(folder) / suffix))
            path = Path(folder) / f"events.{suffix}"
            path.write_bytes(b"".join(json_lines(events)) if suffix == "jsonl" else as_csv(events))
            import_file(Recorder(vault, POLICY, lambda: NOW), ANNA, path)
            vaults.append(vault.read(ANNA))
            vault.close()
        assert sorted(map(repr, vaults[0])) == sorted(map(repr, vaults[1]))


def as_csv(events: list[BehaviourEvent]) -> bytes:
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["kind", "time", "app", "item", "query", "attributes.k"])
    for event in events:
        if isinstance(event, Click):
            table.writerow(["click", event.time, event.app, event.item, "", event.attributes.get("k", "")])
        elif isinstance(event, Search):
            table.writerow(["search", event.time, event.app, "", event.query, ""])
    return text.getvalue().encode()
