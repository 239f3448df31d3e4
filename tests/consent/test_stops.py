"""The owner's own no: at once, without anybody, until a newer grant; told by the order of arrival and by no clock."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.consent import FORMAT, Gate
from client.pins import Pins
from client.store.keys import DeviceId
from common.crypto.signing import SigningKey, key_ring
from common.taxonomy import AgeBand, ConsentState, Purpose, RefusalReason
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt
from policies import loader
from policies.consent import Permit, Refusal

KEY = SigningKey.generate()
NOTICE = "a" * 64
ANNA = DeviceId("anna")
HANDLE = "q3Yx0mVbS1uJ7eHcKf2nPw"
NOW = 1_800_000_000.0
RULES = loader.load(prove=False).policies.purposes


def receipt(
    purpose: Purpose, state: ConsentState = ConsentState.GIVEN, *, time: float = NOW - 60, handle: str = HANDLE
) -> str:
    return seal(
        ConsentReceipt(
            receipt_id=f"r-{time}",
            handle=handle,
            purpose=purpose,
            state=state,
            age_band=AgeBand.ADULT,
            notice_digest=NOTICE,
            event_time=int(time),
            valid_until=int(time) + 86_400 * 90,
            locale="en",
            jurisdiction="DE",
            controller="tests",
        ),
        KEY,
    )


def opened(path: Path, now: float = NOW) -> Gate:
    pins = Pins(key_ring(KEY.public), frozenset({NOTICE}))
    return Gate.open(path, RULES, pins=lambda: pins, now=lambda: now)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    with contextlib.closing(opened(tmp_path / "receipts.db")) as gate:
        gate.store_receipt(ANNA, receipt(Purpose.TRAIN_LOCAL))
        gate.store_receipt(ANNA, receipt(Purpose.PLACE_PERSONALISED))
        yield gate


def reason(gate: Gate, purpose: Purpose) -> RefusalReason | None:
    answer = gate.permits(ANNA, purpose)
    assert isinstance(answer, Permit | Refusal)
    return answer.reason if isinstance(answer, Refusal) else None


def test_a_stop_holds_at_once_for_what_was_stopped_alone(gate: Gate) -> None:
    gate.stop(ANNA, [Purpose.PLACE_PERSONALISED])
    assert reason(gate, Purpose.PLACE_PERSONALISED) is RefusalReason.WITHDRAWN
    assert reason(gate, Purpose.TRAIN_LOCAL) is None


def test_a_stopped_prerequisite_stops_what_needs_it(gate: Gate) -> None:
    gate.stop(ANNA, [Purpose.TRAIN_LOCAL])
    assert reason(gate, Purpose.PLACE_PERSONALISED) is RefusalReason.MISSING_PREREQUISITE


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 200.0])
def test_whose_clock_is_ahead_decides_nothing(gate: Gate, ahead: float) -> None:
    """A grant from a server whose clock is ahead does not outlive a later stop; a later grant ends the stop."""
    gate.store_receipt(ANNA, receipt(Purpose.PLACE_PERSONALISED, time=NOW + 250))
    gate.stop(ANNA, [Purpose.PLACE_PERSONALISED])
    assert reason(gate, Purpose.PLACE_PERSONALISED) is RefusalReason.WITHDRAWN
    gate.store_receipt(ANNA, receipt(Purpose.PLACE_PERSONALISED, time=NOW + max(ahead, 251)))
    assert reason(gate, Purpose.PLACE_PERSONALISED) is None


def test_the_same_grant_again_does_not_end_a_stop(gate: Gate) -> None:
    """The control: whoever kept the old receipt hands it in once more."""
    gate.stop(ANNA, [Purpose.PLACE_PERSONALISED])
    gate.store_receipt(ANNA, receipt(Purpose.PLACE_PERSONALISED))
    assert reason(gate, Purpose.PLACE_PERSONALISED) is RefusalReason.WITHDRAWN


def test_a_stop_is_durable_and_is_told_once(gate: Gate, tmp_path: Path) -> None:
    gate.stop(ANNA, [Purpose.PLACE_PERSONALISED, Purpose.TRAIN_LOCAL])
    with contextlib.closing(opened(tmp_path / "receipts.db")) as again:
        assert reason(again, Purpose.PLACE_PERSONALISED) is RefusalReason.WITHDRAWN
        assert again.untold(ANNA) == [Purpose.PLACE_PERSONALISED, Purpose.TRAIN_LOCAL]
        again.told(ANNA, [Purpose.TRAIN_LOCAL])
        assert again.untold(ANNA) == [Purpose.PLACE_PERSONALISED]
    assert reason(gate, Purpose.TRAIN_LOCAL) is RefusalReason.WITHDRAWN, "told is not ended"


def test_another_subject_starts_without_the_stops_of_the_last(gate: Gate) -> None:
    gate.stop(ANNA, list(Purpose))
    gate.enrol(ANNA, "another-handle-entirely")
    assert gate.untold(ANNA) == []
    gate.store_receipt(ANNA, receipt(Purpose.TRAIN_LOCAL, handle="another-handle-entirely"))
    assert reason(gate, Purpose.TRAIN_LOCAL) is None


def test_a_store_of_format_1_is_brought_forward(tmp_path: Path) -> None:
    path = tmp_path / "receipts.db"
    with contextlib.closing(sqlite3.connect(path)) as old, old:
        old.executescript(
            "CREATE TABLE handles (device TEXT PRIMARY KEY, handle TEXT NOT NULL) STRICT;"
            "CREATE TABLE receipts (id INTEGER PRIMARY KEY, device TEXT NOT NULL, jws TEXT NOT NULL, "
            "UNIQUE (device, jws)) STRICT; PRAGMA user_version = 1"
        )
        old.execute("INSERT INTO handles VALUES ('anna', ?)", (HANDLE,))
        old.execute("INSERT INTO receipts (device, jws) VALUES ('anna', ?)", (receipt(Purpose.TRAIN_LOCAL),))
    with contextlib.closing(opened(path)) as gate:
        assert reason(gate, Purpose.TRAIN_LOCAL) is None
        gate.stop(ANNA, [Purpose.TRAIN_LOCAL])
        assert reason(gate, Purpose.TRAIN_LOCAL) is RefusalReason.WITHDRAWN
    with contextlib.closing(sqlite3.connect(path)) as found:
        assert found.execute("PRAGMA user_version").fetchone()[0] == FORMAT


def test_forgetting_leaves_nothing_in_any_file(gate: Gate, tmp_path: Path) -> None:
    jws = receipt(Purpose.TRAIN_LOCAL)
    gate.stop(ANNA, list(Purpose))
    assert any(jws.encode() in path.read_bytes() for path in tmp_path.glob("receipts.db*")), "it was there"
    gate.forget(ANNA)
    for path in tmp_path.glob("receipts.db*"):
        data = path.read_bytes()
        assert jws.encode() not in data
        assert HANDLE.encode() not in data
