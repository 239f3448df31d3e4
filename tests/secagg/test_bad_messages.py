"""Malformed, replayed, out-of-stage, oversized, wrong-key, wrong-session, truncated and swapped messages to a server.

Each raises the error named in the table, changes nothing, and the session then still ends in the exact sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from common.crypto.signing import SigningKey
from common.errors import (
    DtypeMismatch,
    MalformedInput,
    OutOfRange,
    OutOfStage,
    ProtocolViolation,
    Replayed,
    ReticentError,
    ShapeMismatch,
    TrustError,
    UnknownSigner,
)
from common.secagg import device
from common.secagg.pairwise import public_bytes
from tests.secagg.feeds import (
    COUNT,
    DONOR,
    GONE,
    LENGTH,
    OTHER,
    STRANGER,
    VECTORS,
    Feed,
    at,
    certified,
    change,
    complete,
    new,
)
from tests.secagg.sessions import NOW, Session, terms_of


def advert(number: int = 0, **changes: object) -> Feed:
    return lambda session: session.server.add_advert(change(DONOR.adverts[number], **changes))


def twice(session: Session) -> None:
    session.server.add_advert(DONOR.adverts[0])
    try:
        session.server.add_advert(DONOR.adverts[0])
    finally:
        session.server._adverts.clear()  # this device is to advertise afresh in the rest of the test


def shares_of(session: Session, /, **changes: object) -> object:
    _, message = device.share(session.states[0], session.roster, session.entropy)
    return session.server.add_shares(change(message, **changes))


def payload(session: Session) -> bytes:
    return device.mask(session.states[0], session.roster, session.deliveries[0], VECTORS[0])[1]


def confirmation(session: Session, /, **changes: object) -> object:
    _, message = device.confirm(session.states[0], session.roster, session.survivors)
    return session.server.add_confirmation(change(message, **changes))


def reveal_of(session: Session, /, edit: Callable[[bytes], bytes] = bytes, **changes: object) -> object:
    verified = device.verify_confirmations(
        session.terms, session.roster, session.own_confirmations[0].survivors_digest, session.confirmations
    )
    _, message = device.reveal(session.states[0], session.roster, verified)
    return session.server.add_reveal(change(message, **{"shares": edit(message.shares)} | changes))


def add_twice(session: Session, add: Callable[[Session], object], seen: Callable[[Session], Any]) -> None:
    add(session)
    try:
        add(session)
    finally:
        seen(session).pop(0)


SERVER: list[tuple[str, str, Feed, type[ReticentError]]] = [
    ("advertise", "another session", advert(session=OTHER), ProtocolViolation),
    ("advertise", "swapped key", advert(agreement_key=public_bytes(b"\x02" * 32)), TrustError),
    ("advertise", "swapped signature", advert(signature=DONOR.adverts[1].signature), TrustError),
    ("advertise", "another's certificate", advert(certificate=DONOR.adverts[1].certificate), TrustError),
    ("advertise", "truncated certificate", advert(certificate=DONOR.adverts[0].certificate[:-1]), MalformedInput),
    ("advertise", "oversized certificate", advert(certificate=bytes(256)), MalformedInput),
    ("advertise", "foreign authority", advert(certificate=certified(STRANGER, NOW + 9)), UnknownSigner),
    (
        "advertise",
        "expired certificate",
        advert(certificate=certified(SigningKey(b"\x07" * 32), NOW - 1)),
        TrustError,
    ),
    ("advertise", "replayed", twice, Replayed),
    ("advertise", "roster asked", lambda s: s.server.roster, OutOfStage),
    ("advertise", "shares too early", lambda s: s.server.add_shares(DONOR.shares[0]), OutOfStage),
    ("advertise", "close too early", lambda s: s.server.close_masked(), OutOfStage),
    ("share", "advert too late", advert(), OutOfStage),
    ("share", "another session", lambda s: shares_of(s, session=OTHER), ProtocolViolation),
    ("share", "index beyond", lambda s: shares_of(s, index=COUNT), OutOfRange),
    ("share", "empty", lambda s: shares_of(s, ciphertexts=b""), MalformedInput),
    ("share", "truncated", lambda s: shares_of(s, ciphertexts=bytes(12 + 11 * 80 - 1)), MalformedInput),
    ("share", "oversized", lambda s: shares_of(s, ciphertexts=bytes(12 + 12 * 80)), MalformedInput),
    ("share", "replayed", lambda s: add_twice(s, shares_of, lambda s: s.server._shares), Replayed),
    ("share", "masked too early", lambda s: s.server.add_masked(0, bytes(3 * LENGTH)), OutOfStage),
    ("share", "finish too early", lambda s: s.server.finish(1), OutOfStage),
    ("mask", "shares too late", lambda s: s.server.add_shares(DONOR.shares[0]), OutOfStage),
    ("mask", "index beyond", lambda s: s.server.add_masked(COUNT, payload(s)), OutOfRange),
    ("mask", "negative index", lambda s: s.server.add_masked(-1, payload(s)), OutOfRange),
    ("mask", "truncated", lambda s: s.server.add_masked(0, payload(s)[:-1]), ShapeMismatch),
    ("mask", "oversized", lambda s: s.server.add_masked(0, payload(s) + b"\x00"), ShapeMismatch),
    ("mask", "empty", lambda s: s.server.add_masked(0, b""), ShapeMismatch),
    ("mask", "floats", lambda s: s.server.add_masked(0, np.full(3 * LENGTH, np.nan)), DtypeMismatch),
    ("mask", "wrong words", lambda s: s.server.add_masked(0, np.zeros(3 * LENGTH, np.uint16)), DtypeMismatch),
    ("mask", "two rows", lambda s: s.server.add_masked(0, np.zeros((1, 3 * LENGTH), np.uint8)), ShapeMismatch),
    ("mask", "confirmation too early", lambda s: s.server.add_confirmation(DONOR.own_confirmations[0]), OutOfStage),
    ("confirm", "masked too late", lambda s: s.server.add_masked(GONE, bytes(3 * LENGTH)), OutOfStage),
    ("confirm", "another session", lambda s: confirmation(s, session=OTHER), ProtocolViolation),
    ("confirm", "index beyond", lambda s: confirmation(s, index=COUNT), OutOfRange),
    ("confirm", "another's index", lambda s: confirmation(s, index=1), TrustError),
    ("confirm", "no survivor", lambda s: confirmation(s, index=GONE), ProtocolViolation),
    ("confirm", "other survivors", lambda s: confirmation(s, survivors_digest="0" * 64), ProtocolViolation),
    (
        "confirm",
        "of another time",
        lambda s: s.server.add_confirmation(change(DONOR.own_confirmations[0], survivors_digest=s.server._digest)),
        TrustError,
    ),
    ("confirm", "bad signature", lambda s: confirmation(s, signature=bytes(64)), TrustError),
    ("confirm", "replayed", lambda s: add_twice(s, confirmation, lambda s: s.server._signatures), Replayed),
    ("confirm", "reveal too early", lambda s: s.server.add_reveal(DONOR.reveals[0]), OutOfStage),
    ("reveal", "confirmation too late", lambda s: s.server.add_confirmation(DONOR.own_confirmations[0]), OutOfStage),
    ("reveal", "another session", lambda s: reveal_of(s, session=OTHER), ProtocolViolation),
    ("reveal", "index beyond", lambda s: reveal_of(s, index=COUNT), OutOfRange),
    ("reveal", "no survivor", lambda s: s.server.add_reveal(change(DONOR.reveals[0], index=GONE)), ProtocolViolation),
    ("reveal", "empty", lambda s: reveal_of(s, edit=lambda data: b""), MalformedInput),
    ("reveal", "truncated", lambda s: reveal_of(s, edit=lambda data: data[:-1]), MalformedInput),
    ("reveal", "oversized", lambda s: reveal_of(s, edit=lambda data: data + bytes(32)), MalformedInput),
    ("reveal", "a bit too many", lambda s: reveal_of(s, edit=lambda data: b"\xff\xff" + data[2:]), MalformedInput),
    ("reveal", "a bit too few", lambda s: reveal_of(s, edit=lambda data: b"\x00\x00" + data[2:]), MalformedInput),
    ("reveal", "replayed", lambda s: add_twice(s, reveal_of, lambda s: s.server._reveals), Replayed),
]


@pytest.mark.parametrize(("stage", "what", "feed", "error"), SERVER, ids=[f"{row[0]}: {row[1]}" for row in SERVER])
def test_the_server_names_it_and_goes_on(stage: str, what: str, feed: Feed, error: type[ReticentError]) -> None:
    session = new()
    at(session, stage)
    with pytest.raises(ReticentError) as caught:
        feed(session)
    assert type(caught.value) is error, caught.value
    complete(session, stage)


def test_a_masked_vector_may_not_be_added_twice() -> None:
    session = new()
    at(session, "mask")
    session.mask(VECTORS, gone={GONE, 0})
    late = new()
    at(late, "mask")
    late.server.add_masked(0, bytes(3 * LENGTH))
    before = late.server._sum.copy()
    with pytest.raises(Replayed):
        late.server.add_masked(0, bytes([1]) * (3 * LENGTH))
    np.testing.assert_array_equal(late.server._sum, before)


def test_a_device_that_did_not_share_may_not_be_summed() -> None:
    session = new()
    session.advertise()
    session.share(gone={5})
    with pytest.raises(ProtocolViolation, match="not shared"):
        session.server.add_masked(5, bytes(3 * LENGTH))


def test_a_full_roster_takes_nobody_more() -> None:
    cohort = terms_of(length=1).cohort.model_copy(update={"devices_max": 3})
    session = Session(terms_of(length=1, cohort=cohort), 4)
    with pytest.raises(OutOfRange, match="full"):
        session.advertise()
