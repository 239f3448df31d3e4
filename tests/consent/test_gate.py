"""The device's gate: verified receipts in, Permit or Refusal out, and never a Permit by accident."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.consent import Gate
from client.pins import PinFile, Pins, read_pins, write_pins
from client.store.keys import DeviceId
from common.crypto.signing import SigningKey, key_ring, sign
from common.errors import InvalidReceipt, MalformedInput, UnknownSigner, VaultCorrupt
from common.taxonomy import AgeBand, ConsentState, Purpose, RefusalReason
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt
from policies import loader
from policies.consent import Permit, Refusal
from policies.schema import PurposesPolicy

RULES = PurposesPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "purposes.yaml"))
KEY = SigningKey(bytes(range(32)))
NOTICE = "a" * 64
HANDLE = "handle-of-anna-000"
DAY = 86_400
NOW = 1_800_000_000
ANNA, BEN = DeviceId("anna"), DeviceId("ben")
TRUSTED = Pins(key_ring(KEY.public), frozenset({NOTICE}))


class World:
    """A clock and pins that a test can move."""

    now = float(NOW)
    pins = TRUSTED


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def gate(tmp_path: Path, world: World) -> Iterator[Gate]:
    opened = open_gate(tmp_path / "receipts.db", world)
    yield opened
    opened.close()


def open_gate(path: Path, world: World) -> Gate:
    return Gate.open(path, RULES, pins=lambda: world.pins, now=lambda: world.now)


def receipt(purpose: Purpose, state: ConsentState = ConsentState.GIVEN, **changes: object) -> ConsentReceipt:
    fields: dict[str, object] = {
        "receipt_id": f"r-{purpose}-{state}-{changes}"[:200], "handle": HANDLE, "purpose": purpose, "state": state,
        "age_band": AgeBand.ADULT, "notice_digest": NOTICE, "event_time": NOW - DAY, "valid_until": NOW + DAY,
        "locale": "en", "jurisdiction": "DE", "controller": "Example Ltd",
    }  # fmt: skip
    return ConsentReceipt.model_validate(fields | changes)


def signed(purpose: Purpose, state: ConsentState = ConsentState.GIVEN, **changes: object) -> str:
    return seal(receipt(purpose, state, **changes), KEY)


def answers(gate: Gate, device: DeviceId = ANNA) -> dict[Purpose, RefusalReason | None]:
    found = {purpose: gate.permits(device, purpose) for purpose in Purpose}
    return {purpose: answer.reason if isinstance(answer, Refusal) else None for purpose, answer in found.items()}


def test_nobody_is_permitted_anything_to_begin_with(gate: Gate) -> None:
    assert set(answers(gate).values()) == {RefusalReason.UNKNOWN_SUBJECT}


def test_receipts_permit_their_purpose_once_its_prerequisites_are_there(
    gate: Gate, tmp_path: Path, world: World
) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_CONTRIBUTE))
    assert answers(gate)[Purpose.TRAIN_CONTRIBUTE] is RefusalReason.MISSING_PREREQUISITE
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    expected = {
        Purpose.TRAIN_LOCAL: None,
        Purpose.TRAIN_CONTRIBUTE: None,
        Purpose.PLACE_PERSONALISED: RefusalReason.NO_CONSENT,
        Purpose.MEASURE_AGGREGATE: RefusalReason.NO_CONSENT,
    }
    assert answers(gate) == expected
    again = open_gate(tmp_path / "receipts.db", world)
    assert answers(again) == expected
    assert again.permits(ANNA, Purpose.TRAIN_LOCAL) == Permit(Purpose.TRAIN_LOCAL, float(NOW + DAY), NOTICE)
    assert set(answers(again, BEN).values()) == {RefusalReason.UNKNOWN_SUBJECT}
    again.close()


def test_a_withdrawal_is_seen_at_once_by_every_process(gate: Gate, tmp_path: Path, world: World) -> None:
    gate.store_receipts([(ANNA, signed(purpose)) for purpose in Purpose])
    other = open_gate(tmp_path / "receipts.db", world)
    assert set(answers(other).values()) == {None}
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL, ConsentState.WITHDRAWN, event_time=NOW - 5))
    for seen in (gate, other):
        assert answers(seen) == {
            Purpose.TRAIN_LOCAL: RefusalReason.WITHDRAWN,
            Purpose.TRAIN_CONTRIBUTE: RefusalReason.MISSING_PREREQUISITE,
            Purpose.PLACE_PERSONALISED: RefusalReason.MISSING_PREREQUISITE,
            Purpose.MEASURE_AGGREGATE: None,
        }
    other.close()


def test_the_latest_event_counts_in_whatever_order_it_arrives(gate: Gate) -> None:
    late = signed(Purpose.TRAIN_LOCAL, ConsentState.WITHDRAWN, event_time=NOW - 10)
    early = signed(Purpose.TRAIN_LOCAL, event_time=NOW - 20)
    for jws in (late, early, early, late):  # a replayed grant does not undo its withdrawal
        gate.store_receipt(ANNA, jws)
        assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.WITHDRAWN
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL, event_time=NOW - 5))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is None


@pytest.mark.parametrize("first", [ConsentState.GIVEN, ConsentState.WITHDRAWN])
def test_in_the_same_second_the_one_that_permits_less_counts(gate: Gate, first: ConsentState) -> None:
    second = ConsentState.WITHDRAWN if first is ConsentState.GIVEN else ConsentState.GIVEN
    for state in (first, second):
        gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL, state))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.WITHDRAWN


def test_age_is_the_latest_declared(gate: Gate) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    gate.store_receipt(ANNA, signed(Purpose.MEASURE_AGGREGATE, age_band=AgeBand.MINOR, event_time=NOW - 9))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.MINOR
    gate.store_receipt(ANNA, signed(Purpose.MEASURE_AGGREGATE, age_band=AgeBand.ADULT, event_time=NOW - 8))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is None
    gate.store_receipt(ANNA, signed(Purpose.PLACE_PERSONALISED, age_band=AgeBand.UNKNOWN, event_time=NOW - 8))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.MINOR


def test_time_notices_and_keys_are_asked_afresh(gate: Gate, world: World) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is None
    world.now = NOW + DAY
    assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.EXPIRED
    world.now = NOW
    world.pins = Pins(TRUSTED.keys, frozenset({"b" * 64}))
    assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.SUPERSEDED
    world.pins = Pins({}, TRUSTED.notices)
    assert answers(gate)[Purpose.TRAIN_LOCAL] is RefusalReason.UNVERIFIED
    world.pins = TRUSTED
    assert answers(gate)[Purpose.TRAIN_LOCAL] is None


BAD = {
    "text": "no receipt at all",
    "flipped": signed(Purpose.TRAIN_LOCAL)[:-20] + "AAAA" + signed(Purpose.TRAIN_LOCAL)[-16:],
    "other-typ": sign(receipt(Purpose.TRAIN_LOCAL).model_dump_json().encode(), KEY, "catalogue+jws"),
    "other-purpose": sign({"kind": "consent_receipt", "purpose": "sell.everything"}, KEY, "consent-receipt+jws"),
    "extra-field": sign(
        receipt(Purpose.TRAIN_LOCAL).model_dump(mode="json") | {"also": "this"}, KEY, "consent-receipt+jws"
    ),
}


@pytest.mark.parametrize("jws", BAD.values(), ids=BAD.keys())
def test_what_does_not_verify_is_not_stored(gate: Gate, jws: str) -> None:
    with pytest.raises(InvalidReceipt):
        gate.store_receipt(ANNA, jws)
    assert gate.handle(ANNA) is None
    assert gate.receipts(ANNA) == []


def test_a_stranger_s_receipt_is_not_stored(gate: Gate) -> None:
    with pytest.raises(UnknownSigner):
        gate.store_receipt(ANNA, seal(receipt(Purpose.TRAIN_LOCAL), SigningKey.generate()))
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    with pytest.raises(InvalidReceipt, match="another subject"):
        gate.store_receipts(
            [
                (ANNA, signed(Purpose.MEASURE_AGGREGATE)),
                (ANNA, signed(Purpose.PLACE_PERSONALISED, handle="handle-of-another0")),
            ]
        )
    assert [r.purpose for r in gate.receipts(ANNA)] == [Purpose.TRAIN_LOCAL]  # all of them, or none


def test_a_damaged_withdrawal_does_not_bring_the_grant_back(gate: Gate, tmp_path: Path) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL, event_time=NOW - 100))
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL, ConsentState.WITHDRAWN, event_time=NOW - 50))
    with sqlite3.connect(tmp_path / "receipts.db") as connection:
        connection.execute("UPDATE receipts SET jws = jws || 'x' WHERE id = 2")
    connection.close()
    assert set(answers(gate).values()) == {RefusalReason.UNVERIFIED}


def test_another_handle_is_another_person(gate: Gate) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    gate.enrol(ANNA, HANDLE)
    assert answers(gate)[Purpose.TRAIN_LOCAL] is None
    gate.enrol(ANNA, "handle-of-another0")
    assert set(answers(gate).values()) == {RefusalReason.UNKNOWN_SUBJECT}
    with pytest.raises(InvalidReceipt):
        gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))


def test_forgetting_ends_every_permission(gate: Gate) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    gate.forget(ANNA)
    assert set(answers(gate).values()) == {RefusalReason.UNKNOWN_SUBJECT}
    assert gate.receipts(ANNA) == []


def test_storage_that_cannot_be_read_is_a_no(gate: Gate, tmp_path: Path) -> None:
    gate.store_receipt(ANNA, signed(Purpose.TRAIN_LOCAL))
    gate._connection.execute("DROP TABLE handles")
    gate._cache.clear()
    assert set(answers(gate).values()) == {RefusalReason.UNAVAILABLE}
    (tmp_path / "ruined.db").write_bytes(b"x" * 5000)
    with pytest.raises(VaultCorrupt, match="consent receipts"):
        open_gate(tmp_path / "ruined.db", World())


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from(Purpose), st.sampled_from(ConsentState), st.integers(-40, 40)), max_size=12))
def test_no_sequence_of_receipts_permits_without_a_live_grant(steps: list[tuple[Purpose, ConsentState, int]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        gate = open_gate(Path(folder) / "receipts.db", World())
        latest: dict[Purpose, tuple[int, bool]] = {}
        for purpose, state, minutes in steps:
            moment = NOW + 60 * minutes
            gate.store_receipt(ANNA, signed(purpose, state, event_time=moment))
            held = latest.get(purpose, (0, False))
            given_now = state is ConsentState.GIVEN and (moment > held[0] or held[1])
            if moment >= held[0]:
                latest[purpose] = (moment, given_now)
        live = {purpose: ok and moment <= NOW + 300 for purpose, (moment, ok) in latest.items()}
        for purpose in Purpose:
            needs = (
                [purpose]
                if purpose in (Purpose.TRAIN_LOCAL, Purpose.MEASURE_AGGREGATE)
                else [purpose, Purpose.TRAIN_LOCAL]
            )
            assert isinstance(gate.permits(ANNA, purpose), Permit) == all(live.get(p, False) for p in needs)
        gate.close()


def test_pins_are_private_replaced_whole_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    pins = PinFile(path)
    assert pins.current() == Pins()
    write_pins(path, [KEY.public], [NOTICE])
    assert set(pins.current().keys) == {KEY.kid}
    assert pins.current().notices == {NOTICE}
    assert path.stat().st_mode & 0o777 == 0o600
    other = SigningKey.generate()
    write_pins(path, [KEY.public, other.public], [])
    assert set(pins.current().keys) == {KEY.kid, other.kid}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"format": "reticent-pins-1", "keys": ["x"], "notices": []}'])
def test_damaged_pins_trust_nobody(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "keys.json"
    path.write_bytes(content)
    with pytest.raises(MalformedInput, match="pin them again"):
        read_pins(path)
