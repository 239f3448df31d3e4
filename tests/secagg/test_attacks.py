"""Active servers: split views, swapped keys, starved devices, invented peers. Attacks fail; their controls succeed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from common.crypto.signing import SigningKey
from common.errors import (
    MalformedInput,
    ProtocolViolation,
    ReticentError,
    TooFewSurvivors,
    TrustError,
    UnknownSigner,
)
from common.privacy.parameters import CohortParameters
from common.secagg import device, shamir
from common.secagg.bitmap import bits_of
from common.secagg.certificate import issue_certificate
from common.secagg.masking import centred, expand, unpack
from common.secagg.pairwise import mask_seed, private_key, public_bytes
from common.secagg.roster import VerifiedConfirmations, advert_message, confirmation_message, survivors_digest
from common.secagg.unmask import read_reveal
from common.wire.secagg import SecAggConfirmations, SecAggDelivery, SecAggRoster, SecAggSurvivors
from tests.secagg.sessions import COHORT, NOW, Session, identity_of, terms_of, vectors_of

COUNT, LENGTH, BITS, VICTIM = 100, 6, 24, 41


def masked() -> tuple[Session, dict[int, np.ndarray]]:
    session = Session(terms_of(length=LENGTH, bits=BITS), COUNT)
    vectors = vectors_of(COUNT, LENGTH, 50)
    session.advertise()
    session.share()
    session.mask(vectors)
    return session, vectors


def views(session: Session) -> tuple[dict[int, device.Confirmed], str, str, list[bytes]]:
    """Tell half of the devices that the victim survived, the others that it dropped out; collect what they sign."""
    everybody = bits_of(range(COUNT), COUNT)
    without = bits_of(set(range(COUNT)) - {VICTIM}, COUNT)
    confirmed, signatures, digests = {}, [], ["", ""]
    for index in range(COUNT):
        side = int(index % 2 == 0 and index != VICTIM)
        survivors = SecAggSurvivors(session=session.terms.session, survivors=(everybody, without)[side])
        confirmed[index], message = device.confirm(session.states[index], session.roster, survivors)
        signatures.append(message.signature)
        digests[side] = message.survivors_digest
    return confirmed, digests[0], digests[1], signatures


def recover(session: Session, vector_of: int, confirmed: dict[int, device.Confirmed], digests: list[str]) -> np.ndarray:
    """Both secrets of the victim from reveals made without a quorum, and its vector from them."""
    roster, shares = session.roster, {0: ([], []), 1: ([], [])}
    for index, state in confirmed.items():
        side = digests.index(state.digest)
        forged = VerifiedConfirmations(roster.digest, state.digest, roster.plan.survivors_min)
        _, message = device.reveal(state, roster, forged)
        held, values = read_reveal(message.shares, roster.plan.degree)
        for row, position in enumerate(np.flatnonzero(held)):
            if roster.graph[index, position] == vector_of:
                shares[side][0].append(roster.position(vector_of, index) + 1)
                shares[side][1].append(values[row])
    secrets = [shamir.combine(np.array(shares[side][0]), np.array(shares[side][1])) for side in (0, 1)]
    words = unpack(session.payloads[vector_of], LENGTH, BITS) - expand(secrets[0], LENGTH, BITS)
    for other in roster.neighbours(vector_of):
        low, high = min(vector_of, other), max(vector_of, other)
        seed = mask_seed(private_key(secrets[1]), roster.masking_keys[other], roster.digest, low, high)
        mask = expand(seed, LENGTH, BITS)
        words = words - mask if vector_of == low else words + mask
    return centred(words, BITS)


def test_control_split_views_recover_a_vector_where_nobody_confirms() -> None:
    session, vectors = masked()
    confirmed, alive, dropped, _ = views(session)
    np.testing.assert_array_equal(recover(session, VICTIM, confirmed, [alive, dropped]), vectors[VICTIM])


def test_split_views_never_find_a_quorum() -> None:
    session, _ = masked()
    _, alive, dropped, signatures = views(session)
    quorum = session.roster.plan.survivors_min
    for digest, side in ((alive, 0), (dropped, 1)):
        honest = [i for i in range(COUNT) if int(i % 2 == 0 and i != VICTIM) == side]
        assert len(honest) < quorum
        with pytest.raises(TooFewSurvivors):
            check(session, digest, honest, signatures)
        with pytest.raises(TrustError):  # filled up with signatures over the other view
            check(session, digest, range(COUNT), signatures)
        signers = bits_of(range(COUNT), COUNT)
        forged = SecAggConfirmations(session=session.terms.session, signers=signers, signatures=signatures[0])
        with pytest.raises(MalformedInput):  # one signature for many signers
            device.verify_confirmations(session.terms, session.roster, digest, forged)


def check(session: Session, digest: str, signers: object, signatures: list[bytes]) -> VerifiedConfirmations:
    chosen = list(signers)  # type: ignore[call-overload]
    message = SecAggConfirmations(
        session=session.terms.session,
        signers=bits_of(chosen, COUNT),
        signatures=b"".join(signatures[i] for i in chosen),
    )
    return device.verify_confirmations(session.terms, session.roster, digest, message)


def test_two_quorums_need_more_corrupt_devices_than_are_allowed() -> None:
    """The counting argument at every size: both quorums together leave out fewer devices than are corrupt."""
    for size in range(COHORT.devices_min, 2000):
        in_both = 2 * COHORT.survivors_min(size) - size
        assert in_both > COHORT.corrupt_max(size)


def test_a_quorum_for_one_view_does_not_open_the_other() -> None:
    """Corrupt devices sign both views; honest ones of the other view refuse to reveal."""
    session, _ = masked()
    roster = session.roster
    survivors = SecAggSurvivors(session=session.terms.session, survivors=bits_of(range(COUNT), COUNT))
    state, _ = device.confirm(session.states[3], roster, survivors)
    other = survivors_digest(roster, session.states[3].sharers, bits_of(set(range(COUNT)) - {VICTIM}, COUNT))
    keys = {identity_of(i)[0].public.raw: identity_of(i)[0] for i in range(COUNT)}
    signatures = [keys[identity].sign_bytes(confirmation_message(roster, other)) for identity in roster.identities]
    verified = check(session, other, range(COUNT), signatures)
    with pytest.raises(ProtocolViolation, match="other survivors"):
        device.reveal(state, roster, verified)


def test_different_deliveries_make_different_digests() -> None:
    """A server that tells devices different sharers (to leave out masks) finds no quorum afterwards."""
    session = Session(terms_of(length=LENGTH, bits=BITS), 10)
    session.advertise()
    session.share()
    digests = set()
    for index in (0, 1):
        delivery = session.deliveries[index]
        if index == 0:  # device 9 is said not to have shared
            rows = [r for r, other in enumerate(session.roster.neighbours(0)) if other != 9]
            parts = [delivery.ciphertexts[r * device.DELIVERED_BYTES : (r + 1) * device.DELIVERED_BYTES] for r in rows]
            delivery = SecAggDelivery(
                session=delivery.session, index=0, senders=bits_of(range(9), 10), ciphertexts=b"".join(parts)
            )
        state, _ = device.mask(session.states[index], session.roster, delivery, np.zeros(LENGTH, np.int64))
        survivors = SecAggSurvivors(session=session.terms.session, survivors=bits_of(range(9), 10))
        digests.add(device.confirm(state, session.roster, survivors)[1].survivors_digest)
    assert len(digests) == 2


def test_nobody_can_be_left_without_masks() -> None:
    """Too few sharers, or too few around one device, are refused before a vector is masked."""
    session = Session(terms_of(length=LENGTH, bits=BITS), COUNT)
    session.advertise()
    session.share()
    around = session.roster.neighbours(VICTIM)
    starved = set(range(COUNT)) - set(around[: COUNT - session.roster.plan.survivors_min])
    delivery = SecAggDelivery(
        session=session.terms.session, index=VICTIM, senders=bits_of(starved, COUNT), ciphertexts=b""
    )
    with pytest.raises(TooFewSurvivors, match="neighbours"):
        device.mask(session.states[VICTIM], session.roster, delivery, np.zeros(LENGTH, np.int64))
    alone = delivery.model_copy(update={"senders": bits_of([VICTIM], COUNT)})
    with pytest.raises(TooFewSurvivors, match="1 devices"):
        device.mask(session.states[VICTIM], session.roster, alone, np.zeros(LENGTH, np.int64))


def test_survivors_that_starve_another_device_are_not_confirmed() -> None:
    """Every device checks everybody's neighbours: a refusal of the starved one alone would not save it."""
    session, _ = masked()
    around = set(session.roster.neighbours(VICTIM)[: COUNT - session.roster.plan.survivors_min])
    alive = set(range(COUNT)) - around
    survivors = SecAggSurvivors(session=session.terms.session, survivors=bits_of(alive, COUNT))
    far = next(i for i in alive if i not in session.roster.neighbours(VICTIM) and i != VICTIM)
    with pytest.raises(TooFewSurvivors, match="neighbours"):
        device.confirm(session.states[far], session.roster, survivors)


def swapped(session: Session, **changes: object) -> SecAggRoster:
    adverts = list(session.roster_message.adverts)
    adverts[1] = adverts[1].model_copy(update=changes)
    return session.roster_message.model_copy(update={"adverts": tuple(adverts)})


@pytest.mark.parametrize("which", ["agreement_key", "masking_key"])
def test_a_key_swapped_by_the_server_is_refused(which: str) -> None:
    session = Session(terms_of(length=LENGTH), 5)
    session.advertise()
    with pytest.raises(TrustError, match="signature"):
        device.verify_roster(session.terms, swapped(session, **{which: public_bytes(b"\x01" * 32)}))


def test_an_invented_peer_needs_the_enrolment_authority() -> None:
    session = Session(terms_of(length=LENGTH), 5)
    session.advertise()
    fake, authority = SigningKey(b"\x03" * 32), SigningKey(b"\x04" * 32)
    certificate = issue_certificate(authority, fake.public.raw, NOW + 10)
    _state, advert = device.begin(
        replace(session.terms, authorities=(authority.public,)), fake, certificate, session.entropy
    )
    adverts = tuple(sorted([*session.adverts, advert], key=lambda a: a.certificate[1:33]))
    with pytest.raises(UnknownSigner):
        device.verify_roster(session.terms, session.roster_message.model_copy(update={"adverts": adverts}))


def test_a_server_in_the_middle_cannot_impersonate_towards_the_device_itself() -> None:
    """A roster with other keys under the device's own (certified) name is refused by that device."""
    session = Session(terms_of(length=LENGTH), 5)
    session.advertise()
    key, certificate = identity_of(0)
    _again, other = device.begin(session.terms, key, certificate, session.entropy)
    adverts = tuple(other if a.certificate == certificate else a for a in session.roster_message.adverts)
    roster = device.verify_roster(session.terms, session.roster_message.model_copy(update={"adverts": adverts}))
    with pytest.raises(ProtocolViolation, match="other keys"):
        device.share(session.states[session.roster.index_of(key.public.raw)], roster, session.entropy)


def test_terms_cannot_differ_between_devices() -> None:
    """Another length, modulus, session or cohort is another digest under every signature."""
    session = Session(terms_of(length=LENGTH), 5)
    session.advertise()
    weaker = CohortParameters(devices_min=3, devices_max=5000, dropout_fraction_max=0.3, corrupt_fraction_max=0.0)
    for terms in (
        replace(session.terms, length=LENGTH + 1),
        replace(session.terms, bits=24),
        replace(session.terms, cohort=weaker),
    ):
        with pytest.raises(TrustError):
            device.verify_roster(terms, session.roster_message)


def test_one_device_cannot_count_twice() -> None:
    session = Session(terms_of(length=LENGTH), 5)
    session.advertise()
    adverts = session.roster_message.adverts
    for rows in ((adverts[0], *adverts), tuple(reversed(adverts))):
        with pytest.raises(ProtocolViolation, match="twice or is out of order"):
            device.verify_roster(session.terms, session.roster_message.model_copy(update={"adverts": rows}))


def test_a_corrupt_device_that_sends_bad_shares_drives_nobody_out_and_leaks_nothing() -> None:
    """One bad sender is done without; its own vector cannot be unmasked, so the round ends without a sum."""
    session = Session(terms_of(length=LENGTH), 20)
    session.advertise()
    for index in range(20):
        session.states[index], message = device.share(session.states[index], session.roster, session.entropy)
        if index == 4:
            message = message.model_copy(update={"ciphertexts": bytes(len(message.ciphertexts))})
        session.server.add_shares(message)
    session.deliveries = session.server.close_shares()
    session.mask(vectors_of(20, LENGTH, 9))
    session.confirm()
    session.reveal()
    with pytest.raises(TooFewSurvivors):
        session.server.finish(1000)


def test_inconsistent_shares_are_noticed() -> None:
    session = Session(terms_of(length=LENGTH), 20)
    session.advertise()
    session.share()
    session.mask(vectors_of(20, LENGTH, 9))
    session.confirm()
    (digest,) = {m.survivors_digest for m in session.own_confirmations.values()}
    verified = device.verify_confirmations(session.terms, session.roster, digest, session.confirmations)
    for index in range(20):
        _, message = device.reveal(session.states[index], session.roster, verified)
        if index == 19:
            message = message.model_copy(update={"shares": message.shares[:3] + bytes(len(message.shares) - 3)})
        session.server.add_reveal(message)
    with pytest.raises(ProtocolViolation, match="contradict"):
        session.server.finish(1000)


def test_a_false_masking_key_is_noticed() -> None:
    """A device shares something else than its masking key and drops out: the reconstructed key gives it away."""
    session = Session(terms_of(length=LENGTH), 20)
    session.advertise()
    import msgspec

    honest = session.states[0]
    session.states[0] = msgspec.structs.replace(honest, masking_secret=b"\x09" * 32)
    with pytest.raises(ProtocolViolation, match="other keys"):
        device.share(session.states[0], session.roster, session.entropy)
    session.states[0] = honest
    session.share()
    session.mask(vectors_of(20, LENGTH, 9), gone={0})
    session.confirm()
    session.reveal()
    roster = session.server.roster
    keys = (roster.masking_keys[1], *roster.masking_keys[1:])
    session.server._roster = replace(roster, masking_keys=keys)
    with pytest.raises(ProtocolViolation, match="not the one that was advertised"):
        session.server.finish(1000)


def test_an_advert_signature_covers_its_certificate() -> None:
    session = Session(terms_of(length=LENGTH), 5)
    session.advertise()
    key, _ = identity_of(0)
    renewed = issue_certificate(SigningKey(b"\x07" * 32), key.public.raw, NOW + 5)
    advert = session.adverts[0].model_copy(update={"certificate": renewed})
    with pytest.raises(TrustError, match="signature"):
        device.verify_roster(
            session.terms,
            session.roster_message.model_copy(
                update={"adverts": tuple(sorted((advert, *session.adverts[1:]), key=lambda a: a.certificate[1:33]))}
            ),
        )
    assert advert_message(session.terms, b"", b"", renewed) != advert_message(session.terms, b"", b"", b"")
    assert issubclass(TrustError, ReticentError)
