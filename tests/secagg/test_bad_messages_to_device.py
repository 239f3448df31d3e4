"""Bad messages to a device: each raises the error named in the table, and the session still ends in the exact sum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.crypto.signing import SigningKey
from common.errors import (
    DtypeMismatch,
    MalformedInput,
    OutOfRange,
    ProtocolViolation,
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
from tests.secagg.feeds import (
    COUNT,
    DONOR,
    LENGTH,
    OTHER,
    STRANGER,
    VECTORS,
    Feed,
    at,
    change,
    complete,
    new,
)
from tests.secagg.sessions import NOW, Session, identity_of, terms_of


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
