"""Leaves, their canonical form, and what opens them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.signing import canonical
from common.errors import MalformedInput
from common.taxonomy import LogKind, Tampering
from common.transparency.history import History, whole_lines
from common.transparency.leaf import Leaf, Opening
from common.transparency.records import RecordLine, check_records, encode_record
from tests.transparency import logs

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def pair(count: int) -> tuple[History, list[bytes]]:
    """A log with openings, every third about somebody."""
    rows, records = [], []
    for leaf in logs.leaves(count):
        opening = logs.opening(leaf.seq, subject=f"handle-{leaf.seq}" if leaf.seq % 3 == 0 else None)
        opened = replace(leaf, payload_commit=opening.payload_commit, subject_commit=opening.subject_commit)
        rows.append(opened.encode())
        records.append(line(leaf.seq, opening))
    return History([logs.text(rows)]), records


def line(seq: int, opening: Opening) -> bytes:
    return encode_record(
        seq=seq,
        salt=opening.salt,
        record=opening.record,
        subject=opening.subject,
        subject_salt=opening.subject_salt,
    )


@given(TEXT, st.sampled_from(LogKind), st.integers(0, 2**53 - 1), st.booleans())
def test_a_leaf_is_written_as_rfc_8785_has_it(actor: str, kind: LogKind, number: int, about: bool) -> None:
    leaf = Leaf(number, number, kind, actor, b"s" * 32 if about else None, b"p" * 32)
    assert canonical(leaf.encode()) == leaf.encode()
    assert History([leaf.encode() + b"\n"]).leaf(0) == leaf


def test_an_actor_that_is_no_text_is_refused() -> None:
    with pytest.raises(MalformedInput):
        logs.leaves(1)[0].__class__(0, 0, LogKind.KEY, "\ud800", None, b"p" * 32).encode()


def test_records_that_open_their_entries() -> None:
    log, records = pair(50)
    heard: list[RecordLine] = []
    found = check_records([b"".join(records)], log, lambda lines, _: heard.extend(lines))
    assert (found.opened, found.finding, found.gaps) == (50, None, ())
    assert (heard[7].seq, bytes(heard[7].record)) == (7, b'{"n":7}')
    assert log.of_kinds([7, 8], [log.kind(8)]) == [
        (at, log.kind(8)) for at in (0, 1) if log.kind(7 + at) is log.kind(8)
    ]


@pytest.mark.parametrize("row", [0, 7, 30, 49])
def test_a_changed_record_is_named(row: int) -> None:
    log, records = pair(50)
    for changed in (
        records[row].replace(b'{"n":', b'{"n": '),
        records[row].replace(b'"seq":', b'"seq":1'),
        line(row, logs.opening(row, subject="somebody")),
        line(row, replace(logs.opening(row, subject=None if row % 3 else f"handle-{row}"), salt=b"s" * 32)),
        b"not json\n",
    ):
        found = check_records(whole_lines([b"".join([*records[:row], changed, *records[row + 1 :]])]), log)
        assert found.finding is not None, changed
        assert found.finding.kind is Tampering.EDIT
        if changed != b"not json\n" and b'"seq":1' not in changed:
            assert found.finding.row == row, changed


def test_a_salt_of_another_length_is_refused_even_where_the_hash_fits() -> None:
    """The hash is of salt and record joined: were lengths free, a byte could move from one to the other."""
    opening = Opening(b"s" * 31, b'{"n":0}')
    leaf = replace(logs.leaves(1)[0], payload_commit=opening.payload_commit, subject_commit=None)
    found = check_records([line(0, opening)], History([leaf.encode() + b"\n"]))
    assert found.finding is not None
    fitting = replace(opening, salt=b"s" * 32)
    leaf = replace(leaf, payload_commit=fitting.payload_commit)
    assert check_records([line(0, fitting)], History([leaf.encode() + b"\n"])).finding is None


def test_what_is_missing_is_counted_and_judged() -> None:
    """A record about a person may be erased; one about nobody may not."""
    log, records = pair(12)
    found = check_records([b"".join(record for seq, record in enumerate(records) if seq != 3)], log)
    assert [(gap.count, gap.expected) for gap in found.gaps] == [(1, True)]
    found = check_records([b"".join(record for seq, record in enumerate(records) if seq not in {3, 4, 5})], log)
    assert [(gap.count, gap.expected) for gap in found.gaps] == [(1, True), (2, False)]
    assert "entry 4" in found.gaps[1].detail


def test_records_out_of_order_or_of_no_entry() -> None:
    log, records = pair(5)
    extra = line(9, logs.opening(9))
    for rows in ([*records, extra], [records[1], records[0]], [records[0], records[0]]):
        assert check_records([b"".join(rows)], log).finding is not None


def test_lines_are_cut_at_their_ends() -> None:
    data = b"a\nbb\nccc\ndddd"
    for size in range(1, 14):
        blocks = [data[at : at + size] for at in range(0, len(data), size)]
        found = list(whole_lines(blocks))
        assert b"".join(found) == data
        assert all(chunk.endswith(b"\n") for chunk in found[:-1])


def test_equal_records_have_unequal_commitments() -> None:
    one, other = Opening.of({"a": 1}, "somebody"), Opening.of({"a": 1}, "somebody")
    assert one.payload_commit != other.payload_commit
    assert one.subject_commit != other.subject_commit


@pytest.mark.parametrize("record", [{"a": float("nan")}, {"a": float("inf")}, {"a": 2**60}, {"a": b"x"}, {1: 2}])
def test_what_has_no_canonical_form_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(MalformedInput):
        Opening.of(record)
