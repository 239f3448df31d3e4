"""Plays whole sessions of secure aggregation in memory, with devices that vanish after a stage of one's choice."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from common.crypto.keystream import Keystream
from common.crypto.signing import SigningKey
from common.privacy.parameters import CohortParameters
from common.secagg import device
from common.secagg.certificate import issue_certificate
from common.secagg.masking import IntVector
from common.secagg.roster import VerifiedRoster
from common.secagg.server import Aggregator, UnmaskedSum
from common.secagg.terms import SessionTerms
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

NOW = 1_800_000_000.0
AUTHORITY = SigningKey(b"\x07" * 32)
COHORT = CohortParameters(devices_min=3, devices_max=5000, dropout_fraction_max=0.3, corrupt_fraction_max=0.1)
STAGES = tuple(Stage)


def entropy_of(seed: str) -> Callable[[int], bytes]:
    """Repeatable bytes."""
    return Keystream(hashlib.sha256(seed.encode()).digest()).read


def terms_of(*, length: int, bits: int = 32, session: str = "00", cohort: CohortParameters = COHORT) -> SessionTerms:
    return SessionTerms(
        session=hashlib.sha256(session.encode()).hexdigest(),
        length=length,
        bits=bits,
        cohort=cohort,
        authorities=(AUTHORITY.public,),
        now=NOW,
    )


def identity_of(number: int) -> tuple[SigningKey, bytes]:
    key = SigningKey(hashlib.sha256(f"device {number}".encode()).digest())
    return key, issue_certificate(AUTHORITY, key.public.raw, NOW + 86_400)


@dataclass
class Session:
    """One session, stage by stage. ``identities[i]`` belongs to the i-th device as created, not as indexed."""

    terms: SessionTerms
    count: int
    seed: str = "session"
    server: Aggregator = field(init=False)
    states: dict[int, object] = field(init=False, default_factory=dict)
    roster: VerifiedRoster = field(init=False)
    adverts: list[SecAggAdvert] = field(init=False, default_factory=list)
    shares: dict[int, SecAggShares] = field(init=False, default_factory=dict)
    deliveries: dict[int, SecAggDelivery] = field(init=False, default_factory=dict)
    payloads: dict[int, bytes] = field(init=False, default_factory=dict)
    roster_message: SecAggRoster = field(init=False)
    survivors: SecAggSurvivors = field(init=False)
    own_confirmations: dict[int, SecAggConfirmation] = field(init=False, default_factory=dict)
    confirmations: SecAggConfirmations = field(init=False)
    reveals: dict[int, SecAggReveal] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.server = Aggregator(self.terms)
        self.entropy = entropy_of(self.seed)

    def advertise(self) -> None:
        states = {}
        for number in range(self.count):
            key, certificate = identity_of(number)
            state, advert = device.begin(self.terms, key, certificate, self.entropy)
            states[self.server.add_advert(advert)] = state
            self.adverts.append(advert)
        self.roster_message = self.server.close_adverts()
        self.roster = device.verify_roster(self.terms, self.roster_message)
        self.states = {self.roster.index_of(identity): state for identity, state in states.items()}

    def share(self, gone: Iterable[int] = ()) -> None:
        for index in sorted(set(self.states) - set(gone)):
            self.states[index], self.shares[index] = device.share(self.states[index], self.roster, self.entropy)
            self.server.add_shares(self.shares[index])
        self.deliveries = self.server.close_shares()

    def mask(self, vectors: Mapping[int, IntVector], gone: Iterable[int] = ()) -> None:
        for index in sorted(set(self.deliveries) - set(gone)):
            self.states[index], payload = device.mask(
                self.states[index], self.roster, self.deliveries[index], vectors[index]
            )
            self.payloads[index] = payload
            self.server.add_masked(index, payload)
        self.survivors = self.server.close_masked()

    def confirm(self, gone: Iterable[int] = ()) -> None:
        for index in sorted(set(self.payloads) - set(gone)):
            self.states[index], message = device.confirm(self.states[index], self.roster, self.survivors)
            self.own_confirmations[index] = message
            self.server.add_confirmation(message)
        self.confirmations = self.server.close_confirmations()

    def reveal(self, gone: Iterable[int] = ()) -> None:
        (digest,) = {message.survivors_digest for message in self.own_confirmations.values()}
        verified = device.verify_confirmations(self.terms, self.roster, digest, self.confirmations)
        for index in sorted(set(self.own_confirmations) - set(gone)):
            self.states[index], self.reveals[index] = device.reveal(self.states[index], self.roster, verified)
            self.server.add_reveal(self.reveals[index])

    def run(self, vectors: Mapping[int, IntVector], gone: Mapping[Stage, set[int]], limit: int) -> UnmaskedSum:
        """Everything; ``gone[stage]`` are the devices that are silent from that stage on."""
        missing: set[int] = set()

        def absent(stage: Stage) -> set[int]:
            missing.update(gone.get(stage, set()))
            return missing

        self.advertise()
        self.share(absent(Stage.SHARE))
        self.mask(vectors, absent(Stage.MASK))
        self.confirm(absent(Stage.CONFIRM))
        self.reveal(absent(Stage.REVEAL))
        return self.server.finish(limit)


def vectors_of(count: int, length: int, largest: int, seed: int = 0) -> dict[int, IntVector]:
    rng = np.random.default_rng(seed)
    return {index: rng.integers(-largest, largest + 1, length) for index in range(count)}


def sum_of(vectors: Mapping[int, IntVector], indices: Iterable[int]) -> IntVector:
    return np.sum([vectors[index] for index in indices], axis=0)
