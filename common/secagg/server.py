"""The server's side of one session: a state machine that checks every message and ends in a sum or in nothing.

Messages come one by one, in any order within their stage. A bad one raises a named error and changes nothing; whoever
carries messages (``server.rounds``) also checks that a message came over the connection of the device that it names.
Closing a stage with too few devices ends the session: no partial sum exists at any time, because what is held until
``finish`` is a sum of uniformly masked vectors.

Memory is one vector and, until deliveries are made, the encrypted shares.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from common.errors import (
    MalformedInput,
    OutOfRange,
    OutOfStage,
    ProtocolViolation,
    Replayed,
    SumOutOfRange,
    TooFewSurvivors,
    TrustError,
)
from common.secagg.bitmap import bits_of, unpack_bits
from common.secagg.certificate import verified
from common.secagg.graph import Plan
from common.secagg.masking import ByteArray, WordArray, centred, unpack, word_type
from common.secagg.pairwise import NONCE_BYTES, SEALED_BYTES
from common.secagg.roster import VerifiedRoster, assemble, confirmation_message, survivors_digest, verify_advert
from common.secagg.terms import SessionTerms
from common.secagg.unmask import Revealed, Reveals, UnmaskedSum, read_reveal, remove_masks
from common.taxonomy import Stage
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

__all__ = ["Aggregator", "UnmaskedSum"]

_NOTHING: Final = np.zeros(0, np.uint16)


class Aggregator:
    """One session.

    Attributes:
        stage: whose messages are due; None when the session has ended, well or not.
    """

    def __init__(self, terms: SessionTerms) -> None:
        """Begin a session under ``terms``; its authorities and time are the server's own."""
        self.terms: Final = terms
        self.stage: Stage | None = Stage.ADVERTISE
        self._adverts: dict[bytes, SecAggAdvert] = {}
        self._roster: VerifiedRoster | None = None
        self._shares: dict[int, bytes] = {}
        self._sharers = b""
        self._sum: WordArray = np.zeros(terms.length, word_type(terms.bits))
        self._survivors: set[int] = set()
        self._digest = ""
        self._signatures: dict[int, bytes] = {}
        self._reveals: dict[int, Revealed] = {}

    def add_advert(self, advert: SecAggAdvert) -> bytes:
        """Take one device's keys; returns its identity (raw), by which ``index_of`` knows it later.

        Raises:
            OutOfStage, ProtocolViolation, MalformedInput, UnknownSigner, TrustError: it does not verify.
            Replayed: this device has advertised.
            OutOfRange: the roster is full.
        """
        self._due(Stage.ADVERTISE)
        identity = verify_advert(self.terms, advert)
        if identity in self._adverts:
            raise Replayed("this device has advertised before")
        if len(self._adverts) >= self.terms.cohort.devices_max:
            raise OutOfRange("the roster is full")
        self._adverts[identity] = advert
        return identity

    def close_adverts(self) -> SecAggRoster:
        """Fix the roster.

        Raises:
            OutOfStage: not now.
            TooFewSurvivors: fewer devices than the cohort's minimum; the session has ended.
            PolicyError: no graph of this size keeps the promise; the session has ended.
        """
        self._due(Stage.ADVERTISE)
        self.stage = None
        if len(self._adverts) < self.terms.cohort.devices_min:
            raise TooFewSurvivors(f"{len(self._adverts)} devices of {self.terms.cohort.devices_min} needed")
        identities = tuple(sorted(self._adverts))
        adverts = tuple(self._adverts[identity] for identity in identities)
        self._roster = assemble(self.terms, adverts, identities)
        self.stage = Stage.SHARE
        return SecAggRoster(session=self.terms.session, adverts=adverts)

    @property
    def roster(self) -> VerifiedRoster:
        """The roster.

        Raises:
            OutOfStage: it is not fixed yet.
        """
        if self._roster is None:
            raise OutOfStage("the roster is not fixed yet")
        return self._roster

    @property
    def plan(self) -> Plan:
        """Figures of this roster."""
        return self.roster.plan

    @property
    def identities(self) -> tuple[bytes, ...]:
        """Raw Ed25519 keys by index."""
        return self.roster.identities

    def index_of(self, identity: bytes) -> int:
        """Index of a device. Raises ProtocolViolation if it is not in the roster."""
        return self.roster.index_of(identity)

    def add_shares(self, message: SecAggShares) -> None:
        """Take one device's encrypted shares.

        Raises:
            OutOfStage, ProtocolViolation, OutOfRange, Replayed: not due from this device in this session.
            MalformedInput: not one share for each neighbour.
        """
        self._check(Stage.SHARE, message.session, message.index, set(self._shares))
        if len(message.ciphertexts) != NONCE_BYTES + self.plan.degree * SEALED_BYTES:
            raise MalformedInput("shares: not one for each neighbour")
        self._shares[message.index] = message.ciphertexts

    def close_shares(self) -> dict[int, SecAggDelivery]:
        """Deliveries for all devices that shared, by index.

        Raises:
            OutOfStage: not now.
            TooFewSurvivors: too few shared; the session has ended.
        """
        self._due(Stage.SHARE)
        self.stage = None
        self._sharers = bits_of(self._shares, self.roster.size)
        self.roster.members(self._sharers, "sharers")
        deliveries = {index: self._delivery(index) for index in sorted(self._shares)}
        self._shares = dict.fromkeys(self._shares, b"")  # who shared is still needed, what they shared is not
        self.stage = Stage.MASK
        return deliveries

    def _delivery(self, index: int) -> SecAggDelivery:
        pieces = []
        for other, place in zip(self.roster.neighbours(index), self.roster.places[index].tolist(), strict=True):
            sent = self._shares.get(other)
            if sent is not None:
                start = NONCE_BYTES + place * SEALED_BYTES
                pieces += [sent[:NONCE_BYTES], sent[start : start + SEALED_BYTES]]
        return SecAggDelivery(
            session=self.terms.session, index=index, senders=self._sharers, ciphertexts=b"".join(pieces)
        )

    def add_masked(self, index: int, payload: bytes | ByteArray) -> None:
        """Add one device's masked vector to the sum.

        Raises:
            OutOfStage, OutOfRange, Replayed: not due from this device.
            ProtocolViolation: this device has not shared.
            DtypeMismatch, ShapeMismatch: not a vector of these terms.
        """
        self._check(Stage.MASK, self.terms.session, index, self._survivors)
        if index not in self._shares:
            raise ProtocolViolation("a masked vector from a device that has not shared")
        words = unpack(payload, self.terms.length, self.terms.bits)
        self._sum += words
        self._survivors.add(index)

    def close_masked(self) -> SecAggSurvivors:
        """Fix who survived.

        Raises:
            OutOfStage: not now.
            TooFewSurvivors: too few; the session has ended.
        """
        self._due(Stage.MASK)
        self.stage = None
        survivors = bits_of(self._survivors, self.roster.size)
        self.roster.members(survivors, "survivors")
        self._digest = survivors_digest(self.roster, self._sharers, survivors)
        self.stage = Stage.CONFIRM
        return SecAggSurvivors(session=self.terms.session, survivors=survivors)

    @property
    def survivors(self) -> tuple[int, ...]:
        """Indices of those whose masked vectors are in the sum, ascending."""
        return tuple(sorted(self._survivors))

    def add_confirmation(self, message: SecAggConfirmation) -> None:
        """Take one device's signature.

        Raises:
            OutOfStage, OutOfRange, Replayed: not due from this device.
            ProtocolViolation: of another session, other survivors, or a device that is none.
            TrustError: the signature does not verify.
        """
        self._check(Stage.CONFIRM, message.session, message.index, set(self._signatures))
        if message.index not in self._survivors:
            raise ProtocolViolation("a confirmation from a device that is not among the survivors")
        if message.survivors_digest != self._digest:
            raise ProtocolViolation("a confirmation of other survivors")
        text = confirmation_message(self.roster, self._digest)
        if not verified(self.identities[message.index], message.signature, text):
            raise TrustError("a confirmation's signature does not verify")
        self._signatures[message.index] = message.signature

    def close_confirmations(self) -> SecAggConfirmations:
        """A quorum's signatures, no more than are needed.

        Raises:
            OutOfStage: not now.
            TooFewSurvivors: no quorum; the session has ended.
        """
        self._due(Stage.CONFIRM)
        self.stage = None
        quorum = self.plan.survivors_min
        if len(self._signatures) < quorum:
            raise TooFewSurvivors(f"{len(self._signatures)} confirmations of {quorum} needed")
        signers = sorted(self._signatures)[:quorum]
        self.stage = Stage.REVEAL
        return SecAggConfirmations(
            session=self.terms.session,
            signers=bits_of(signers, self.roster.size),
            signatures=b"".join(self._signatures[index] for index in signers),
        )

    def add_reveal(self, message: SecAggReveal) -> None:
        """Take one device's shares.

        Raises:
            OutOfStage, OutOfRange, Replayed: not due from this device.
            ProtocolViolation: of another session, from no survivor, or of neighbours that never shared.
            MalformedInput: not one share for each neighbour that it names.
        """
        self._check(Stage.REVEAL, message.session, message.index, set(self._reveals))
        if message.index not in self._survivors:
            raise ProtocolViolation("a reveal from a device that is not among the survivors")
        held, shares = read_reveal(message.shares, self.plan.degree)
        named = self.roster.graph[message.index][held]
        if not unpack_bits(self._sharers, self.roster.size, "sharers")[named].all():
            raise ProtocolViolation("a reveal of a neighbour that never shared")
        self._reveals[message.index] = held, shares

    def finish(self, limit: int) -> UnmaskedSum:
        """Remove all masks; ends the session.

        Args:
            limit: largest absolute value a coordinate of an honest sum can have.

        Raises:
            OutOfStage: not now.
            TooFewSurvivors: too few shares to remove a mask.
            ProtocolViolation: shares that contradict each other or the key that was advertised.
            SumOutOfRange: a coordinate beyond ``limit``: the sum wrapped around, or is not what honest devices sent.
        """
        self._due(Stage.REVEAL)
        self.stage = None
        words, self._sum = self._sum, _NOTHING
        reveals = Reveals.of(self.roster, self._reveals)
        remove_masks(self.roster, words, survivors=self._survivors, sharers=set(self._shares), reveals=reveals)
        vector = centred(words, self.terms.bits)
        if np.abs(vector).max() > limit:
            raise SumOutOfRange("the sum lies where no sum of honest devices can")
        survivors = self.survivors
        return UnmaskedSum(vector, survivors, tuple(self.identities[index] for index in survivors))

    def abort(self) -> None:
        """End the session; what was collected is dropped."""
        self.stage = None
        self._sum = _NOTHING

    def _due(self, stage: Stage) -> None:
        if self.stage is not stage:
            due = "the session has ended" if self.stage is None else f"{self.stage.value} is"
            raise OutOfStage(f"stage {stage.value} is not due: {due}")

    def _check(self, stage: Stage, session: str, index: int, seen: set[int]) -> None:
        self._due(stage)
        if session != self.terms.session:
            raise ProtocolViolation("a message of another session")
        if not 0 <= index < self.roster.size:
            raise OutOfRange("an index beyond the roster")
        if index in seen:
            raise Replayed(f"this device has answered stage {stage.value} before")
