"""Stored states: round trips at every stage, strictness, and no secret in anything that could be printed."""

from __future__ import annotations

import base64
import copy

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MalformedInput, ReticentError
from common.secagg import device
from common.secagg.states import Advertised, Confirmed, Masked, Revealed, Shared
from common.wire import codec
from common.wire.secagg import (
    SecAggAdvert,
    SecAggConfirmation,
    SecAggConfirmations,
    SecAggDelivery,
    SecAggReveal,
    SecAggRoster,
    SecAggShares,
    SecAggSurvivors,
)
from tests.secagg.sessions import Session, identity_of, sum_of, terms_of, vectors_of

KINDS = (Advertised, Shared, Masked, Confirmed, Revealed)


def played() -> tuple[Session, list[object]]:
    """A session in which every state and message goes through bytes between stages."""
    session = Session(terms_of(length=3, bits=16), 7)
    seen: list[object] = []
    vectors = vectors_of(7, 3, 50)

    def store() -> None:
        seen.append(session.states[2])
        session.states = {i: type(state).load(state.dump()) for i, state in session.states.items()}  # type: ignore[attr-defined]

    for step in (
        session.advertise,
        session.share,
        lambda: session.mask(vectors),
        session.confirm,
        session.reveal,
    ):
        step()
        store()
    np.testing.assert_array_equal(session.server.finish(1000).vector, sum_of(vectors, range(7)))
    return session, seen


SESSION, STATES = played()


def test_a_session_survives_being_stored_after_every_stage() -> None:
    assert tuple(type(state) for state in STATES) == KINDS


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_state_of_the_same_stage_loads(kind: type[Advertised]) -> None:
    for state in STATES:
        if type(state) is kind:
            assert kind.load(state.dump()) == state  # type: ignore[attr-defined]
        else:
            with pytest.raises(MalformedInput):
                kind.load(state.dump())  # type: ignore[attr-defined]


@given(st.integers(0, 4), st.data())
def test_damaged_states_are_refused_or_whole(which: int, data: st.DataObject) -> None:
    state = STATES[which]
    whole = state.dump()  # type: ignore[attr-defined]
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(MalformedInput):
        type(state).load(whole[:cut])  # type: ignore[attr-defined]


def secrets_of(state: object) -> list[bytes]:
    names = ("signing_secret", "agreement_secret", "masking_secret", "self_seed", "inbound_keys", "shares")
    return [value[:32] for name in names if (value := getattr(state, name, b""))]


def spellings(secret: bytes) -> list[str]:
    return [secret.hex(), base64.b64encode(secret).decode()[:20], repr(secret)[2:30], str(list(secret))[1:40]]


def test_nothing_printable_holds_a_secret() -> None:
    shown = [
        form
        for state in STATES
        for form in (repr(state), str(state), f"{state}", str(state.__rich_repr__()), repr([state]), repr({1: state}))  # type: ignore[attr-defined]
    ]
    found = [secret for state in STATES for secret in secrets_of(state)]
    assert len(found) >= 9
    for secret in found:
        for spelling in spellings(secret):
            assert not any(spelling in text for text in shown)


def test_error_texts_hold_no_secret() -> None:
    """Every state, given to every function with the wrong partner, fails without repeating anything of it."""
    other = Session(terms_of(length=3, bits=16, session="other"), 7, seed="other")
    other.advertise()
    texts = []
    calls = (
        lambda: device.share(STATES[0], other.roster, other.entropy),
        lambda: device.mask(STATES[1], other.roster, SESSION.deliveries[2], np.zeros(3, np.int64)),
        lambda: device.mask(STATES[1], SESSION.roster, SESSION.deliveries[1], np.zeros(3, np.int64)),
        lambda: device.mask(STATES[1], SESSION.roster, SESSION.deliveries[2], np.array([7_654_321, 0, 0])),
        lambda: device.confirm(STATES[2], other.roster, SESSION.survivors),
        lambda: device.reveal(STATES[3], other.roster, device.VerifiedConfirmations(b"", "", 9)),
        lambda: Advertised.load(STATES[1].dump()),  # type: ignore[attr-defined]
        lambda: Shared.load(STATES[1].dump()[:-3]),  # type: ignore[attr-defined]
    )
    for call in calls:
        with pytest.raises(ReticentError) as caught:
            call()
        texts.append(repr(caught.value) + repr(caught.value.__cause__))
    for state in STATES:
        for secret in secrets_of(state):
            assert not any(spelling in text for text in texts for spelling in spellings(secret))
    assert not any("7654321" in text or "7_654_321" in text for text in texts)


def test_own_secrets_are_gone_after_masking_and_all_after_revealing() -> None:
    own = (STATES[1].masking_secret, STATES[1].self_seed, STATES[0].agreement_secret)  # type: ignore[attr-defined]
    for state in STATES[2:]:
        assert not any(secret in state.dump() for secret in own)  # type: ignore[attr-defined]
    signing = identity_of(0)[0].secret
    assert signing not in STATES[4].dump()  # type: ignore[attr-defined]
    assert not secrets_of(STATES[4])
    assert "signing_secret" not in {field.name for field in msgspec.structs.fields(Confirmed)}


def test_states_cannot_be_changed() -> None:
    for state in STATES:
        with pytest.raises(AttributeError):
            state.terms = b""  # type: ignore[attr-defined]
        assert copy.deepcopy(state) == state


MESSAGES = [
    SESSION.adverts[0],
    SESSION.shares[0],
    SESSION.deliveries[0],
    SESSION.survivors,
    SESSION.own_confirmations[0],
    SESSION.confirmations,
    SESSION.reveals[0],
    SESSION.roster_message,
]


@given(st.sampled_from(MESSAGES), st.data())
def test_flipped_bytes_of_messages_are_decoded_or_refused_by_name(message: object, data: st.DataObject) -> None:
    body = bytearray(codec.encode(message))  # type: ignore[arg-type]
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    session = Session(SESSION.terms, 7)
    try:
        found = codec.decode(bytes(body), type(message))  # type: ignore[type-var]
        feed(session, found)
    except ReticentError:
        pass


@given(st.sampled_from([type(m) for m in MESSAGES]), st.binary(max_size=400))
def test_random_bytes_are_refused_by_name(kind: type[SecAggAdvert], body: bytes) -> None:
    with pytest.raises(MalformedInput):
        codec.decode(b"\x01" + body, kind)


def feed(session: Session, message: object) -> None:
    """Give a message to the side and stage that it is for."""
    server, device_states = session.server, STATES
    if isinstance(message, SecAggAdvert):
        server.add_advert(message)
        return
    if isinstance(message, SecAggRoster):
        device.verify_roster(session.terms, message)
        return
    session.advertise()
    if isinstance(message, SecAggShares):
        server.add_shares(message)
        return
    session.share()
    if isinstance(message, SecAggDelivery):
        device.mask(device_states[1], SESSION.roster, message, np.zeros(3, np.int64))  # type: ignore[arg-type]
        return
    session.mask(vectors_of(7, 3, 50))
    if isinstance(message, SecAggSurvivors):
        device.confirm(device_states[2], SESSION.roster, message)  # type: ignore[arg-type]
    elif isinstance(message, SecAggConfirmation):
        server.add_confirmation(message)
    elif isinstance(message, SecAggConfirmations):
        digest = SESSION.own_confirmations[0].survivors_digest
        device.verify_confirmations(SESSION.terms, SESSION.roster, digest, message)
    elif isinstance(message, SecAggReveal):
        session.confirm()
        server.add_reveal(message)
