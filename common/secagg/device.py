"""One device's side of a session: a pure state machine. Owns what a device may say, in which order, and to whom.

``begin`` ▸ ``share`` ▸ ``mask`` ▸ ``confirm`` ▸ ``reveal``: each takes the state that the one before returned, so a
stage cannot be skipped. The caller keeps the new state durably *before* it sends the message, and gives each state to
one call only: masking two vectors from one ``Shared`` would reveal their difference, revealing twice from one
``Confirmed`` is refused by the session having ended. After any error the session is over for this device.

Which secrets exist when: after ``mask`` the device's own are gone; after ``reveal``, all.

**Privacy:** the server and up to ``corrupt_max`` devices together learn the sum of all honest survivors' vectors, and
who took part; nothing else about any vector, except with probability 2^-security_bits (``common.secagg.graph``).
**Source:** Bonawitz et al. 2017, Figure 4 (malicious variant); Bell et al. 2020.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from common.crypto.signing import SigningKey
from common.errors import MalformedInput, ProtocolViolation, TrustError
from common.secagg import shamir
from common.secagg.bitmap import BoolArray, pack_bits, unpack_bits
from common.secagg.certificate import open_certificate
from common.secagg.masking import IntVector, expand, pack, to_words
from common.secagg.pairwise import (
    NONCE_BYTES,
    SEALED_BYTES,
    SECRET_BYTES,
    SHARE_BYTES,
    associated_data,
    mask_seed,
    open_share,
    private_key,
    public_bytes,
    seal_share,
    share_keys,
)
from common.secagg.roster import (
    VerifiedConfirmations,
    VerifiedRoster,
    advert_message,
    confirmation_message,
    survivors_digest,
    verify_confirmations,
    verify_roster,
)
from common.secagg.shamir import Entropy
from common.secagg.states import Advertised, Confirmed, Masked, Revealed, Shared
from common.secagg.terms import SessionTerms
from common.wire.secagg import (
    SecAggAdvert,
    SecAggConfirmation,
    SecAggDelivery,
    SecAggReveal,
    SecAggShares,
    SecAggSurvivors,
)

__all__ = [
    "DELIVERED_BYTES",
    "Advertised",
    "Confirmed",
    "Masked",
    "Revealed",
    "Shared",
    "begin",
    "confirm",
    "mask",
    "reveal",
    "share",
    "verify_confirmations",
    "verify_roster",
]

DELIVERED_BYTES: Final = NONCE_BYTES + SEALED_BYTES


def begin(
    terms: SessionTerms, identity: SigningKey, certificate: bytes, entropy: Entropy
) -> tuple[Advertised, SecAggAdvert]:
    """Stage advertise: two fresh key pairs, signed by the device's identity for these terms.

    Args:
        terms: of the session.
        identity: the device's Ed25519 key.
        certificate: of that key.
        entropy: cryptographically secure bytes, such as ``os.urandom``.

    Raises:
        MalformedInput, UnknownSigner, TrustError: the certificate is not one for this key at this time.
    """
    if open_certificate(certificate, terms.authorities, terms.now) != identity.public.raw:
        raise TrustError("the certificate is not for this device's identity")
    agreement, masking = entropy(SECRET_BYTES), entropy(SECRET_BYTES)
    agreement_key, masking_key = public_bytes(agreement), public_bytes(masking)
    advert = SecAggAdvert(
        session=terms.session,
        certificate=certificate,
        agreement_key=agreement_key,
        masking_key=masking_key,
        signature=identity.sign_bytes(advert_message(terms, agreement_key, masking_key, certificate)),
    )
    return Advertised(terms.digest, identity.public.raw, identity.secret, agreement, masking), advert


def share(state: Advertised, roster: VerifiedRoster, entropy: Entropy) -> tuple[Shared, SecAggShares]:
    """Stage share: shares of the seed of the own mask and of the masking key, one of each for every neighbour.

    Raises:
        ProtocolViolation: the roster is of other terms, or has other keys under this device's name.
    """
    index = _own_index(state, roster)
    agreement = private_key(state.agreement_secret)
    if (
        roster.agreement_keys[index] != agreement.public_key()
        or roster.masking_keys[index] != private_key(state.masking_secret).public_key()
    ):
        raise ProtocolViolation("the roster has other keys under this device's name")
    self_seed, nonce = entropy(SECRET_BYTES), entropy(NONCE_BYTES)
    shares = shamir.split(
        self_seed + state.masking_secret, threshold=roster.threshold, count=roster.plan.degree, entropy=entropy
    )
    inbound, sealed = [], [nonce]
    for other, piece in zip(roster.neighbours(index), shares, strict=True):
        outwards, back = share_keys(agreement, roster.agreement_keys[other], roster.digest, index, other)
        sealed.append(seal_share(outwards, nonce, piece, associated_data(roster.digest, index, other)))
        inbound.append(back)
    after = Shared(
        terms=state.terms,
        identity=state.identity,
        signing_secret=state.signing_secret,
        masking_secret=state.masking_secret,
        self_seed=self_seed,
        inbound_keys=b"".join(inbound),
        roster=roster.digest,
        index=index,
    )
    return after, SecAggShares(session=roster.terms.session, index=index, ciphertexts=b"".join(sealed))


def mask(state: Shared, roster: VerifiedRoster, delivery: SecAggDelivery, vector: IntVector) -> tuple[Masked, bytes]:
    """Stage mask: the vector plus the own mask plus a mask with every neighbour that shared, modulo 2^bits.

    A neighbour's share that does not open is done without, as if that neighbour had sent none: otherwise one bad device
    could drive out all its neighbours. As many as could not be corrupt devices' doing end the session.

    Args:
        state: after stage share; never given to a second call.
        roster: verified.
        delivery: neighbours' shares for this device, and who shared.
        vector: int64 ``[length]``, noised already.

    Returns:
        The new state and the masked vector's bytes.

    Raises:
        MalformedInput, TooFewSurvivors, ProtocolViolation: the delivery is not one for this device in this session.
        DtypeMismatch, ShapeMismatch, OutOfRange: the vector does not fit the terms.

    **Privacy:** the bytes are uniform to whoever lacks a secret of this device; the release in the vector is spent
        when they leave.
    """
    _check(state, roster)
    terms, index = roster.terms, state.index
    if delivery.session != terms.session or delivery.index != index:
        raise ProtocolViolation("a delivery for another session or another device")
    words = to_words(vector, terms.length, terms.bits)
    sharers = roster.members(delivery.senders, "sharers")
    if not sharers[index]:
        raise ProtocolViolation("the server says that this device did not share")
    held, shares = _opened(state, roster, delivery.ciphertexts, sharers)
    words += expand(state.self_seed, terms.length, terms.bits)
    masking = private_key(state.masking_secret)
    for other in roster.neighbours(index):
        if sharers[other]:
            low, high = min(index, other), max(index, other)
            seed = mask_seed(masking, roster.masking_keys[other], roster.digest, low, high)
            if index == low:
                words += expand(seed, terms.length, terms.bits)
            else:
                words -= expand(seed, terms.length, terms.bits)
    after = Masked(
        terms=state.terms,
        identity=state.identity,
        signing_secret=state.signing_secret,
        roster=state.roster,
        index=index,
        sharers=delivery.senders,
        held=pack_bits(held),
        shares=shares,
    )
    return after, pack(words, terms.bits)


def confirm(state: Masked, roster: VerifiedRoster, survivors: SecAggSurvivors) -> tuple[Confirmed, SecAggConfirmation]:
    """Stage confirm: sign who shared and who survived, once.

    Raises:
        ProtocolViolation: another session, survivors that never shared, or a set without this device.
        MalformedInput, TooFewSurvivors: not a set, or one that would leave too few (neighbours included).
    """
    _check(state, roster)
    if survivors.session != roster.terms.session:
        raise ProtocolViolation("survivors of another session")
    alive = roster.members(survivors.survivors, "survivors")
    if (alive & ~roster.members(state.sharers, "sharers")).any():
        raise ProtocolViolation("a survivor that never shared")
    if not alive[state.index]:
        raise ProtocolViolation("this device is not among the survivors")
    digest = survivors_digest(roster, state.sharers, survivors.survivors)
    signature = SigningKey(state.signing_secret).sign_bytes(confirmation_message(roster, digest))
    after = Confirmed(
        terms=state.terms,
        identity=state.identity,
        roster=state.roster,
        index=state.index,
        survivors=survivors.survivors,
        digest=digest,
        held=state.held,
        shares=state.shares,
    )
    return after, SecAggConfirmation(
        session=roster.terms.session, index=state.index, survivors_digest=digest, signature=signature
    )


def reveal(state: Confirmed, roster: VerifiedRoster, verified: VerifiedConfirmations) -> tuple[Revealed, SecAggReveal]:
    """Stage reveal: for each neighbour one share, of its own mask if it survived, of its masking key if it did not.

    Raises:
        ProtocolViolation: the quorum confirmed something else than this device did.

    **Privacy:** never both shares of one neighbour, by construction; the same choice as every honest device, by the
        quorum (``common.secagg.roster``).
    """
    _check(state, roster)
    if verified.roster_digest != state.roster or verified.survivors_digest != state.digest:
        raise ProtocolViolation("others confirmed other survivors than this device")
    survivors = roster.members(state.survivors, "survivors")
    held = unpack_bits(state.held, roster.plan.degree, "held shares")
    pieces = [state.held]
    for row, position in enumerate(np.flatnonzero(held)):
        alive = survivors[roster.graph[state.index, position]]
        start = row * SHARE_BYTES + (0 if alive else SECRET_BYTES)
        pieces.append(state.shares[start : start + SECRET_BYTES])
    return (
        Revealed(state.terms, state.identity, state.roster, state.digest),
        SecAggReveal(session=roster.terms.session, index=state.index, shares=b"".join(pieces)),
    )


def _own_index(state: Advertised, roster: VerifiedRoster) -> int:
    if roster.terms.digest != state.terms:
        raise ProtocolViolation("a roster of other terms than were advertised for")
    return roster.index_of(state.identity)


def _check(state: Shared | Masked | Confirmed, roster: VerifiedRoster) -> None:
    if roster.digest != state.roster:
        raise ProtocolViolation("another roster than in the stage before")


def _opened(state: Shared, roster: VerifiedRoster, ciphertexts: bytes, sharers: BoolArray) -> tuple[BoolArray, bytes]:
    """Which neighbours' shares open, by position, and those shares."""
    others = roster.neighbours(state.index)
    senders = [position for position, other in enumerate(others) if sharers[other]]
    if len(ciphertexts) != len(senders) * DELIVERED_BYTES:
        raise MalformedInput("a delivery has not one share from each neighbour that shared")
    held, shares = np.zeros(len(others), np.bool_), []
    for row, position in enumerate(senders):
        sealed = ciphertexts[row * DELIVERED_BYTES : (row + 1) * DELIVERED_BYTES]
        key = state.inbound_keys[position * SECRET_BYTES : (position + 1) * SECRET_BYTES]
        associated = associated_data(roster.digest, others[position], state.index)
        piece = open_share(key, sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], associated)
        if piece is not None and len(piece) == SHARE_BYTES:
            held[position] = True
            shares.append(piece)
    if len(senders) - len(shares) > roster.plan.corrupt_neighbours_max:
        raise ProtocolViolation("shares do not open: more than corrupt devices could have spoilt")
    return held, b"".join(shares)
