"""How many receipts' signatures are verified: all while they are few, a sample nobody can foresee beyond, or all."""

from __future__ import annotations

import hashlib
import json

import pytest

from cli.evidence import receipts
from cli.evidence.receipts import check_receipts
from cli.evidence.show import _signatures
from common.crypto.signing import SigningKey, key_ring
from common.taxonomy import AgeBand, ConsentState, Purpose, Tampering
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt

KEY, STRANGER = SigningKey(b"k" * 32), SigningKey(b"s" * 32)
BEGAN = 1_000
COUNT = 40


def receipt(number: int, moment: int = BEGAN + 1) -> ConsentReceipt:
    return ConsentReceipt(
        receipt_id=f"rcp_{number}",
        handle="h" * 22,
        purpose=Purpose.TRAIN_LOCAL,
        state=ConsentState.GIVEN,
        age_band=AgeBand.ADULT,
        notice_digest="0" * 64,
        event_time=moment,
        valid_until=moment + 1,
        locale="en",
        jurisdiction="CN",
        controller="somebody",
    )


def listed(number: int, key: SigningKey = KEY, *, seq: int | None, moment: int = BEGAN + 1) -> bytes:
    return json.dumps({"receipt_id": f"rcp_{number}", "seq": seq, "jws": seal(receipt(number, moment), key)}).encode()


def promised(lines: list[bytes]) -> dict[int, bytes]:
    found = (json.loads(line) for line in lines)
    return {one["seq"]: hashlib.sha256(one["jws"].encode()).hexdigest().encode() for one in found}


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    return [listed(number, seq=number) for number in range(COUNT)]


def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipts, "ALL_SIGNATURES_MAX", COUNT // 2)
    monkeypatch.setattr(receipts, "SAMPLE", COUNT // 4)


def test_all_of_a_few(lines: list[bytes]) -> None:
    found = check_receipts(lines, promised(lines), key_ring(KEY.public), began=BEGAN, every=False)
    assert (found.signatures, found.good, found.finding) == (COUNT, COUNT, None)
    assert _signatures(found.signatures, found.good).endswith("all 40 verified")


def test_a_sample_of_many_or_all_if_asked(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    found = check_receipts(lines, promised(lines), key_ring(KEY.public), began=BEGAN, every=False)
    assert (found.signatures, found.good, found.finding) == (COUNT // 4, COUNT, None)
    assert "10 of 40 verified, drawn at random" in _signatures(found.signatures, found.good)
    assert check_receipts(lines, promised(lines), key_ring(KEY.public), began=BEGAN, every=True).signatures == COUNT


def test_a_false_signature_is_found_wherever_it_stands(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its digest is in the log, so nothing but the signature tells: a sample misses it at times, all never do."""
    few(monkeypatch)
    sampled = 0
    for row in range(COUNT):
        changed = [*lines[:row], listed(row, STRANGER, seq=row), *lines[row + 1 :]]
        due = promised(changed)
        every = check_receipts(changed, due, key_ring(KEY.public), began=BEGAN, every=True)
        assert every.finding is not None
        assert (every.finding.kind, every.finding.row, every.good) == (Tampering.FORGERY, row, row)
        found = check_receipts(changed, due, key_ring(KEY.public), began=BEGAN, every=False).finding
        sampled += found is not None and found.row == row
    assert 0 < sampled < COUNT  # a quarter of 40: neither none (1e-5) nor all


def test_the_first_bad_row_is_the_first_whatever_is_wrong_there(lines: list[bytes]) -> None:
    changed = [*lines[:5], listed(5, STRANGER, seq=5), *lines[6:9], b"no receipt", *lines[10:]]
    due = promised([line for line in changed if line != b"no receipt"])
    found = check_receipts(changed, due, key_ring(KEY.public), began=BEGAN, every=False).finding
    assert found is not None
    assert (found.kind, found.row) == (Tampering.FORGERY, 5)


def test_what_the_log_does_not_speak_of_is_always_verified(lines: list[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    few(monkeypatch)
    older, forged = listed(99, seq=None, moment=BEGAN - 1), listed(99, STRANGER, seq=None, moment=BEGAN - 1)
    good = check_receipts([*lines, older], promised(lines), key_ring(KEY.public), began=BEGAN, every=False)
    assert (good.older, good.signatures, good.finding) == (1, COUNT // 4 + 1, None)
    late = listed(99, seq=None)
    for bad in (forged, late):
        found = check_receipts([*lines, bad], promised(lines), key_ring(KEY.public), began=BEGAN, every=False)
        assert found.finding is not None
        assert (found.finding.kind, found.finding.row) == (Tampering.FORGERY, COUNT)
