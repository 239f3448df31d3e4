"""Malformed, replayed, out-of-stage, oversized, wrong-key, wrong-session, truncated and swapped messages, both sides.

Each raises the error named in the table, changes nothing, and the session then still ends in the exact sum.
"""

from __future__ import annotations

import hashlib
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
    TooFewSurvivors,
    TrustError,
    UnknownSigner,
)
from common.secagg import device
from common.secagg.bitmap import bits_of
from common.secagg.certificate import issue_certificate
from common.secagg.pairwise import public_bytes
from common.wire.secagg import SecAggConfirmations, SecAggSurvivors
from tests.secagg.sessions import NOW, Session, identity_of, sum_of, terms_of, vectors_of

COUNT, LENGTH = 12, 4
OTHER = hashlib.sha256(b"another session").hexdigest()
VECTORS = vectors_of(COUNT, LENGTH, 100)
GONE = COUNT - 1

Feed = Callable[[Session], object]


def change(message: Any, **changes: object) -> Any:  # noqa: ANN401 - any message
    return message.model_copy(update=changes)


def at(session: Session, stage: str) -> None:
    """Bring a fresh session to where a stage's messages are due; device GONE is silent from stage mask on."""
    order = ("advertise", "share", "mask", "confirm", "reveal")
    steps = (
        session.advertise,
        session.share,
        lambda: session.mask(VECTORS, gone={GONE}),
        session.confirm,
        session.reveal,
    )
    for name, step in zip(order, steps, strict=True):
        if name == stage:
            return
        step()


def complete(session: Session, stage: str) -> None:
    order = ("advertise", "share", "mask", "confirm", "reveal")
    for name in order[order.index(stage) :]:
        if name == "mask":
            session.mask(VECTORS, gone={GONE})
        else:
            getattr(session, name)()
    found = session.server.finish(100 * COUNT)
    np.testing.assert_array_equal(found.vector, sum_of(VECTORS, range(GONE)))


def new(seed: str = "bad") -> Session:
    return Session(terms_of(length=LENGTH, bits=24), COUNT, seed=seed)


# ── what a server refuses ────────────────────────────────────────────────────────────────────────────────────────────

DONOR = new("donor")
DONOR.run(VECTORS, {}, 100 * COUNT)  # same devices, same session name, other keys
STRANGER = SigningKey(b"\x55" * 32)


def advert(number: int = 0, **changes: object) -> Feed:
    return lambda session: session.server.add_advert(change(DONOR.adverts[number], **changes))


def twice(session: Session) -> None:
    session.server.add_advert(DONOR.adverts[0])
    try:
        session.server.add_advert(DONOR.adverts[0])
    finally:
        session.server._adverts.clear()  # this device is to advertise afresh in the rest of the test


def certified(authority: SigningKey, not_after: float) -> bytes:
    return issue_certificate(authority, identity_of(0)[0].public.raw, not_after)


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


# ── what a device refuses ────────────────────────────────────────────────────────────────────────────────────────────


def roster_with(session: Session, /, **changes: object) -> object:
    return device.verify_roster(session.terms, change(session.roster_message, **changes))


def share_with(session: Session, roster: object) -> object:
    return device.share(session.states[0], roster, session.entropy)  # type: ignore[arg-type]


def mask_with(session: Session, /, vector: object = VECTORS[0], of: int = 0, **changes: object) -> object:
    delivery = change(session.deliveries[of], **changes)
    return device.mask(session.states[0], session.roster, delivery, vector)  # type: ignore[arg-type]


def confirm_with(session: Session, /, **changes: object) -> object:
    survivors = change(session.survivors, **changes)
    return device.confirm(session.states[0], session.roster, survivors)


def alive(*indices: int) -> bytes:
    return bits_of(indices, COUNT)


def proof(session: Session, /, **changes: object) -> object:
    message: SecAggConfirmations = change(session.confirmations, **changes)
    digest = session.own_confirmations[0].survivors_digest
    return device.verify_confirmations(session.terms, session.roster, digest, message)


EVERYBODY = alive(*range(COUNT))

DEVICE: list[tuple[str, str, Feed, type[ReticentError]]] = [
    ("share", "another session", lambda s: roster_with(s, session=OTHER), ProtocolViolation),
    ("share", "nobody", lambda s: roster_with(s, adverts=()), ProtocolViolation),
    ("share", "too few", lambda s: roster_with(s, adverts=s.roster_message.adverts[:2]), ProtocolViolation),
    (
        "share",
        "another's advert",
        lambda s: roster_with(s, adverts=DONOR.roster_message.adverts[::-1]),
        ProtocolViolation,
    ),
    (
        "share",
        "not in it",
        lambda s: share_with(s, roster_with(s, adverts=s.roster_message.adverts[1:])),
        ProtocolViolation,
    ),
    ("share", "old keys", lambda s: share_with(s, DONOR.roster), ProtocolViolation),
    (
        "mask",
        "another roster",
        lambda s: device.mask(s.states[0], DONOR.roster, s.deliveries[0], VECTORS[0]),
        ProtocolViolation,
    ),
    ("mask", "another session", lambda s: mask_with(s, session=OTHER), ProtocolViolation),
    ("mask", "another's delivery", lambda s: mask_with(s, of=1), ProtocolViolation),
    ("mask", "relabelled delivery", lambda s: mask_with(s, ciphertexts=s.deliveries[1].ciphertexts), ProtocolViolation),
    ("mask", "old delivery", lambda s: mask_with(s, ciphertexts=DONOR.deliveries[0].ciphertexts), ProtocolViolation),
    ("mask", "truncated", lambda s: mask_with(s, ciphertexts=s.deliveries[0].ciphertexts[:-1]), MalformedInput),
    ("mask", "oversized", lambda s: mask_with(s, ciphertexts=s.deliveries[0].ciphertexts + bytes(92)), MalformedInput),
    ("mask", "empty", lambda s: mask_with(s, ciphertexts=b""), MalformedInput),
    ("mask", "no senders", lambda s: mask_with(s, senders=b""), MalformedInput),
    ("mask", "too few senders", lambda s: mask_with(s, senders=alive(0, 1)), TooFewSurvivors),
    ("mask", "a bit beyond", lambda s: mask_with(s, senders=b"\xff\xff"), MalformedInput),
    ("mask", "left out", lambda s: mask_with(s, senders=alive(*range(1, COUNT))), ProtocolViolation),
    ("mask", "floats", lambda s: mask_with(s, VECTORS[0].astype(float)), DtypeMismatch),
    ("mask", "NaN", lambda s: mask_with(s, np.full(LENGTH, np.nan)), DtypeMismatch),
    ("mask", "another length", lambda s: mask_with(s, np.zeros(LENGTH + 1, np.int64)), ShapeMismatch),
    ("mask", "beyond the modulus", lambda s: mask_with(s, np.full(LENGTH, 2**23)), OutOfRange),
    ("confirm", "another session", lambda s: confirm_with(s, session=OTHER), ProtocolViolation),
    ("confirm", "another roster", lambda s: device.confirm(s.states[0], DONOR.roster, s.survivors), ProtocolViolation),
    ("confirm", "no set", lambda s: confirm_with(s, survivors=b""), MalformedInput),
    ("confirm", "oversized", lambda s: confirm_with(s, survivors=EVERYBODY + b"\x00"), MalformedInput),
    ("confirm", "too few", lambda s: confirm_with(s, survivors=alive(*range(8))), TooFewSurvivors),
    ("confirm", "without itself", lambda s: confirm_with(s, survivors=alive(*range(1, COUNT))), ProtocolViolation),
    ("reveal", "another session", lambda s: proof(s, session=OTHER), ProtocolViolation),
    ("reveal", "no signers", lambda s: proof(s, signers=b""), MalformedInput),
    (
        "reveal",
        "too few",
        lambda s: proof(s, signers=alive(0), signatures=s.confirmations.signatures[:64]),
        TooFewSurvivors,
    ),
    ("reveal", "truncated", lambda s: proof(s, signatures=s.confirmations.signatures[:-1]), MalformedInput),
    ("reveal", "zeros", lambda s: proof(s, signatures=bytes(len(s.confirmations.signatures))), TrustError),
    ("reveal", "of another time", lambda s: proof(s, signatures=DONOR.confirmations.signatures), TrustError),
    ("reveal", "shifted", lambda s: proof(s, signers=alive(*range(2, 11))), TrustError),
    (
        "reveal",
        "another's proof",
        lambda s: device.reveal(s.states[0], s.roster, verified_of(DONOR)),
        ProtocolViolation,
    ),
    ("reveal", "another roster", lambda s: device.reveal(s.states[0], DONOR.roster, verified_of(s)), ProtocolViolation),
]


def verified_of(session: Session) -> device.VerifiedConfirmations:
    digest = session.own_confirmations[0].survivors_digest
    return device.verify_confirmations(session.terms, session.roster, digest, session.confirmations)


@pytest.mark.parametrize(("stage", "what", "feed", "error"), DEVICE, ids=[f"{row[0]}: {row[1]}" for row in DEVICE])
def test_the_device_names_it_and_can_go_on(stage: str, what: str, feed: Feed, error: type[ReticentError]) -> None:
    session = new()
    at(session, stage)
    with pytest.raises(ReticentError) as caught:
        feed(session)
    assert type(caught.value) is error, caught.value
    complete(session, stage)


def test_a_survivor_that_never_shared_is_refused() -> None:
    session = new()
    session.advertise()
    session.share(gone={5})
    session.mask(VECTORS)
    everybody = SecAggSurvivors(session=session.terms.session, survivors=EVERYBODY)
    with pytest.raises(ProtocolViolation, match="never shared"):
        device.confirm(session.states[0], session.roster, everybody)


def test_a_reveal_of_somebody_who_never_shared_is_refused() -> None:
    session = new()
    session.advertise()
    session.share(gone={5})
    session.mask(VECTORS)
    session.confirm()
    full = bits_of(range(COUNT - 1), COUNT - 1) + bytes(32 * (COUNT - 1))
    verified = verified_of(session)
    _, message = device.reveal(session.states[0], session.roster, verified)
    with pytest.raises(ProtocolViolation, match="never shared"):
        session.server.add_reveal(change(message, shares=full))


@pytest.mark.parametrize("key", ["agreement_key", "masking_key"])
def test_a_key_of_low_order_is_refused_even_if_signed(key: str) -> None:
    from common.secagg.roster import advert_message

    session = new()
    signer, certificate = identity_of(0)
    keys = {"agreement_key": public_bytes(b"\x01" * 32), "masking_key": public_bytes(b"\x02" * 32)} | {key: bytes(32)}
    message = advert_message(session.terms, keys["agreement_key"], keys["masking_key"], certificate)
    with pytest.raises(ProtocolViolation, match="low order"):
        session.server.add_advert(change(DONOR.adverts[0], **keys, signature=signer.sign_bytes(message)))
    same = {"agreement_key": keys["agreement_key"], "masking_key": keys["agreement_key"]}
    message = advert_message(session.terms, same["agreement_key"], same["masking_key"], certificate)
    if key == "masking_key":
        with pytest.raises(ProtocolViolation, match="one key for two uses"):
            session.server.add_advert(change(DONOR.adverts[0], **same, signature=signer.sign_bytes(message)))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"session": "x"}, MalformedInput),
        ({"session": "A" * 64}, MalformedInput),
        ({"bits": 20}, MalformedInput),
        ({"length": 0}, MalformedInput),
        ({"length": 1 << 25}, MalformedInput),
    ],
)
def test_terms_nobody_could_keep(changes: dict[str, object], error: type[ReticentError]) -> None:
    from dataclasses import replace

    with pytest.raises(error):
        replace(terms_of(length=3), **changes)


def test_a_device_needs_a_certificate_of_its_own() -> None:
    terms = terms_of(length=1)
    key, certificate = identity_of(1)
    for wrong, error in (
        (identity_of(2)[1], TrustError),
        (issue_certificate(STRANGER, key.public.raw, NOW + 1), UnknownSigner),
        (issue_certificate(SigningKey(b"\x07" * 32), key.public.raw, NOW - 1), TrustError),
        (certificate[:-1], MalformedInput),
        (b"\x02" + certificate[1:], MalformedInput),
        (b"", MalformedInput),
    ):
        with pytest.raises(error):
            device.begin(terms, key, wrong, DONOR.entropy)
    with pytest.raises(UnknownSigner):
        device.begin(terms.__class__(**{**vars_of(terms), "authorities": ()}), key, certificate, DONOR.entropy)
    for identity, until in ((bytes(31), 1.0), (bytes(32), -1.0), (bytes(32), float("inf"))):
        with pytest.raises(MalformedInput):
            issue_certificate(STRANGER, identity, until)


def vars_of(terms: Any) -> dict[str, object]:  # noqa: ANN401 - a dataclass
    from dataclasses import fields

    return {f.name: getattr(terms, f.name) for f in fields(terms)}
