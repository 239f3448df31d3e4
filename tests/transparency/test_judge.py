"""Each way of tampering is found at its row and named, whoever did it and however well they covered it up."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from common.crypto.signing import SigningKey
from common.taxonomy import Tampering
from common.transparency.hashes import pack_leaves
from common.transparency.leaf import Leaf
from tests.transparency import logs
from tests.transparency.logs import START, Attack

SIZE, BATCH = 400, 50
KEY = SigningKey.generate()
HONEST = logs.leaves(SIZE)
ROWS = logs.lines(HONEST)
CHECKPOINTS = logs.signed(ROWS, KEY, range(BATCH, SIZE + 1, BATCH))
HASHES = pack_leaves(ROWS)
RANDOM = [random.Random(7).randrange(1, SIZE - 2) for _ in range(12)]


def attack(entries: list[Leaf], **changes: object) -> Attack:
    return Attack(**({"rows": logs.lines(entries), "own": CHECKPOINTS, "stored": HASHES} | changes))  # type: ignore[arg-type]


def only(found: Attack) -> tuple[Tampering, int]:
    (finding,) = found.judged().findings
    assert finding.last is None, finding
    return finding.kind, finding.row


def edited(row: int) -> list[Leaf]:
    return [*HONEST[:row], replace(HONEST[row], payload_commit=b"e" * 32), *HONEST[row + 1 :]]


def without(row: int, count: int = 1) -> list[Leaf]:
    return [*HONEST[:row], *HONEST[row + count :]]


def swapped(row: int, other: int) -> list[Leaf]:
    found = list(HONEST)
    found[row], found[other] = found[other], found[row]
    return found


def with_extra(row: int) -> list[Leaf]:
    extra = replace(HONEST[row], payload_commit=b"x" * 32)
    return [*HONEST[:row], extra, *HONEST[row:]]


def test_an_honest_log_has_no_findings() -> None:
    found = attack(HONEST).judged()
    assert (found.findings, found.gaps, found.covered) == ((), (), SIZE)


@pytest.mark.parametrize("row", RANDOM)
def test_each_kind_at_random_rows(row: int) -> None:
    other = row + 1 + (row * 7) % (SIZE - row - 1)
    assert only(attack(edited(row))) == (Tampering.EDIT, row)
    assert only(attack(without(row))) == (Tampering.DELETION, row)
    assert only(attack(without(row, 2))) == (Tampering.DELETION, row)
    assert only(attack(swapped(row, other))) == (Tampering.REORDERING, row)
    assert only(attack(HONEST[:row])) == (Tampering.TRUNCATION, row)
    assert only(attack(with_extra(row))) == (Tampering.BACK_DATING, row)


@pytest.mark.parametrize("row", RANDOM)
def test_renumbering_hides_nothing(row: int) -> None:
    other = row + 1 + (row * 7) % (SIZE - row - 1)
    assert only(attack(logs.renumbered(without(row)))) == (Tampering.DELETION, row)
    assert only(attack(logs.renumbered(without(row, 3)))) == (Tampering.DELETION, row)
    assert only(attack(logs.renumbered(swapped(row, other)))) == (Tampering.REORDERING, row)
    assert only(attack(logs.renumbered(with_extra(row)))) == (Tampering.BACK_DATING, row)


@pytest.mark.parametrize("row", RANDOM)
def test_an_entry_dated_back_is_told_from_an_edit(row: int) -> None:
    times = [entry.time - 1 for entry in HONEST]
    changed = [*HONEST[:row], replace(HONEST[row], time=times[row]), *HONEST[row + 1 :]]
    assert only(attack(changed)) == (Tampering.BACK_DATING, row)
    forward = [*HONEST[:row], replace(HONEST[row], time=HONEST[row].time + 5), *HONEST[row + 1 :]]
    assert only(attack(forward)) == (Tampering.EDIT, row)


@pytest.mark.parametrize("row", RANDOM)
def test_rows_that_were_moved_with_their_stored_hashes_are_put_back_to_name_them(row: int) -> None:
    """As somebody does who swaps the keys of two rows in the database: the stored hashes move along."""
    other = row + 1 + (row * 7) % (SIZE - row - 1)
    stored = [HASHES[at * 32 : at * 32 + 32] for at in range(SIZE)]
    stored[row], stored[other] = stored[other], stored[row]
    moved = attack(logs.renumbered(swapped(row, other)), stored=b"".join(stored))
    assert only(moved) == (Tampering.REORDERING, row)


def test_a_row_overwritten_by_a_copy_of_another_is_an_edit() -> None:
    changed = [*HONEST[:10], HONEST[30], *HONEST[11:]]
    assert only(attack(changed)) == (Tampering.EDIT, 10)


def test_what_is_no_entry_is_named() -> None:
    found = attack(HONEST)
    found.rows[123] = b'{"seq":123}'
    assert only(found) == (Tampering.EDIT, 123)
    found.rows[77] = b""
    assert only(found) == (Tampering.EDIT, 77)


@pytest.mark.parametrize("row", RANDOM)
def test_with_every_copy_changed_the_checkpoints_bound_the_row(row: int) -> None:
    entries = edited(row)
    found = attack(entries, stored=pack_leaves(logs.lines(entries))).judged()
    (finding,) = found.findings
    assert finding.row <= row <= (finding.last or 0)
    assert (finding.row, finding.last) == (row // BATCH * BATCH, row // BATCH * BATCH + BATCH - 1)
    assert found.covered <= row


@pytest.mark.parametrize("row", RANDOM)
def test_a_witness_names_the_row_where_the_operator_changed_everything(row: int) -> None:
    """Whoever holds the key can sign another history; a copy kept elsewhere shows where it parts from it."""
    entries = edited(row)
    rows = logs.lines(entries)
    resigned = logs.signed(rows, KEY, range(BATCH, SIZE + 1, BATCH))
    forged = attack(entries, own=resigned, stored=pack_leaves(rows))
    assert forged.judged().findings == ()  # in itself it is flawless: that is what a kept checkpoint is for
    known = replace_kept(forged, HASHES)
    assert only(known) == (Tampering.FORK, row)
    (finding,) = replace_kept(forged, b"").judged().findings
    assert finding.kind is Tampering.FORK
    assert finding.row <= row <= (finding.last or 0)


def replace_kept(found: Attack, witness: bytes) -> Attack:
    return Attack(found.rows, found.own, found.stored, kept=CHECKPOINTS, witness=witness)


def test_a_tail_that_was_cut_off_with_its_checkpoints_is_found_by_a_kept_one() -> None:
    short = Attack(ROWS[:230], [c for c in CHECKPOINTS if c.checkpoint.size <= 230], HASHES[: 230 * 32])
    assert short.judged().findings == ()
    assert sum(gap.count for gap in short.judged().gaps) == 30  # and that they are covered by nothing is said
    assert only(replace_kept(short, HASHES)) == (Tampering.TRUNCATION, 230)
    (finding,) = replace_kept(short, b"").judged().findings
    assert (finding.kind, finding.row, finding.last) == (Tampering.TRUNCATION, 200, 230)


def test_an_entry_written_later_that_claims_an_earlier_time_is_dated_back() -> None:
    early = replace(HONEST[-1], time=START)
    rows = [*ROWS[:-1], early.encode()]
    signed = logs.signed(rows, KEY, [SIZE], lambda _: HONEST[-2].time)
    assert only(Attack(rows, signed, pack_leaves(rows))) == (Tampering.BACK_DATING, SIZE - 1)


def test_an_entry_older_than_a_checkpoint_that_does_not_cover_it_is_dated_back() -> None:
    """Times never decrease, and still: the checkpoint was signed at a time before which this entry cannot have been."""
    late = logs.signed(ROWS, KEY, [200], lambda _: HONEST[200].time + 1)
    assert only(Attack(ROWS, [*late, CHECKPOINTS[-1]], HASHES)) == (Tampering.BACK_DATING, 200)


def test_two_checkpoints_of_one_size_are_a_fork() -> None:
    other = logs.signed(logs.lines(edited(3)), KEY, [100])
    (finding,) = Attack(ROWS, [*CHECKPOINTS, *other], HASHES).judged().findings
    assert finding.kind is Tampering.FORK


def test_entries_after_the_newest_checkpoint_are_held_to_the_kept_hashes() -> None:
    early = [checkpoint for checkpoint in CHECKPOINTS if checkpoint.checkpoint.size <= 300]
    assert only(attack(edited(350), own=early)) == (Tampering.EDIT, 350)


def test_an_empty_log() -> None:
    assert Attack([], [], b"").judged().findings == ()
    (finding,) = Attack([], CHECKPOINTS, HASHES).judged().findings
    assert (finding.kind, finding.row) == (Tampering.TRUNCATION, 0)
