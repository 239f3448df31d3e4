"""The verified roster and the verified confirmations: what a node checks once for all its devices.

Whole-cohort confirmation. A device reveals shares only after ``survivors_min`` distinct members of the roster have
signed one digest of who shared and who survived. Suppose honest devices were brought to reveal for two different
digests. Each has at least q = survivors_min signers; together at most n + |both| sign, so at least 2q - n members
signed both. The policy proves 2q - n > corrupt_max, hence an honest device signed both; honest devices sign once per
session. Contradiction: all honest devices reveal for the same sets, so for no device do they reveal both secrets.

Checking neighbours only (Bell et al.) would be cheaper, and leaves different neighbourhoods with different views.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from common.errors import MalformedInput, ProtocolViolation, TooFewSurvivors, TrustError
from common.secagg.bitmap import BoolArray, unpack_bits
from common.secagg.certificate import SIGNATURE_BYTES, open_certificate, verified
from common.secagg.graph import IndexArray, Plan, neighbours, plan
from common.secagg.pairwise import has_low_order, load_public
from common.secagg.terms import SessionTerms
from common.wire.secagg import SecAggAdvert, SecAggConfirmations, SecAggRoster

_ADVERT: Final = b"reticent/secagg/advert/v1\x00"
_ROSTER: Final = b"reticent/secagg/roster/v1\x00"
_SURVIVORS: Final = b"reticent/secagg/survivors/v1\x00"
_CONFIRMATION: Final = b"reticent/secagg/confirmation/v1\x00"


@dataclass(frozen=True, eq=False)
class VerifiedRoster:
    """A roster whose every advert was verified. Made by ``verify_roster`` only.

    Attributes:
        terms: of the session.
        plan: figures for its size.
        digest: SHA-256 of terms and adverts; binds all keys and signatures of the session.
        identities: raw Ed25519 keys, ascending: a device's place is its index.
        agreement_keys, masking_keys: X25519 keys by index.
        graph: neighbours of each, ``[size, degree]``, each row ascending.
        places: ``places[i, j]`` is i's position among the neighbours of its j-th neighbour.
    """

    terms: SessionTerms
    plan: Plan
    digest: bytes
    identities: tuple[bytes, ...]
    agreement_keys: tuple[X25519PublicKey, ...]
    masking_keys: tuple[X25519PublicKey, ...]
    graph: IndexArray
    places: IndexArray

    @property
    def size(self) -> int:
        """Devices in it."""
        return len(self.identities)

    @property
    def threshold(self) -> int:
        """Shares that reconstruct a secret."""
        return self.plan.threshold

    def index_of(self, identity: bytes) -> int:
        """A device's index.

        Raises:
            ProtocolViolation: it is not in the roster.
        """
        place = _places(self).get(identity)
        if place is None:
            raise ProtocolViolation("this device is not in the roster")
        return place

    def neighbours(self, index: int) -> list[int]:
        """A device's neighbours, ascending."""
        return [int(other) for other in self.graph[index]]

    def position(self, index: int, other: int) -> int:
        """Position of ``other`` among the neighbours of ``index``."""
        return int(np.searchsorted(self.graph[index], other))

    def members(self, data: bytes, what: str) -> BoolArray:
        """A set that may go on: enough devices, and each with enough neighbours in it.

        Raises:
            MalformedInput: not a set of this roster.
            TooFewSurvivors: the set is too small, or leaves somebody too few neighbours.
        """
        return _members(self, data, what)


def advert_message(terms: SessionTerms, agreement_key: bytes, masking_key: bytes, certificate: bytes) -> bytes:
    """What a device signs in stage advertise."""
    return _ADVERT + terms.digest + agreement_key + masking_key + hashlib.sha256(certificate).digest()


def verify_advert(terms: SessionTerms, advert: SecAggAdvert) -> bytes:
    """The identity behind an advert, raw.

    Raises:
        ProtocolViolation: of another session, or with keys that agree with nobody.
        MalformedInput, UnknownSigner, TrustError: its certificate or its signature does not verify for these terms.
    """
    if advert.session != terms.session:
        raise ProtocolViolation("an advert of another session")
    identity = open_certificate(advert.certificate, terms.authorities, terms.now)
    message = advert_message(terms, advert.agreement_key, advert.masking_key, advert.certificate)
    if not verified(identity, advert.signature, message):
        raise TrustError("an advert's signature does not verify for these terms")
    if advert.agreement_key == advert.masking_key:
        raise ProtocolViolation("an advert with one key for two uses")
    if has_low_order(advert.agreement_key) or has_low_order(advert.masking_key):
        raise ProtocolViolation("an advert with a key of low order")
    return identity


def verify_roster(terms: SessionTerms, roster: SecAggRoster) -> VerifiedRoster:
    """Verify every advert: the counting argument is about distinct certified devices, not about neighbours alone.

    Raises:
        ProtocolViolation: another session, an order or a size that the terms exclude.
        MalformedInput, UnknownSigner, TrustError: an advert does not verify.
        PolicyError: no graph of this size keeps the promise.
    """
    if roster.session != terms.session:
        raise ProtocolViolation("a roster of another session")
    check_size(terms, len(roster.adverts))
    identities = tuple(verify_advert(terms, advert) for advert in roster.adverts)
    return assemble(terms, roster.adverts, identities)


def check_size(terms: SessionTerms, size: int) -> None:
    """Refuse rosters that the cohort's bounds exclude.

    Raises:
        ProtocolViolation: too few or too many devices.
    """
    cohort = terms.cohort
    if not cohort.devices_min <= size <= cohort.devices_max:
        raise ProtocolViolation(f"a roster of {size}; {cohort.devices_min} to {cohort.devices_max} were agreed")


def assemble(terms: SessionTerms, adverts: tuple[SecAggAdvert, ...], identities: tuple[bytes, ...]) -> VerifiedRoster:
    """Order, digest and graph of adverts that were verified one by one.

    Raises:
        ProtocolViolation: not in strictly ascending order of identities: unordered, or one device twice.
    """
    if any(a >= b for a, b in pairwise(identities)):
        raise ProtocolViolation("a roster names a device twice or is out of order")
    rows = (i + a.agreement_key + a.masking_key for i, a in zip(identities, adverts, strict=True))
    digest = hashlib.sha256(_ROSTER + terms.digest + b"".join(rows)).digest()
    planned = plan(len(adverts), terms.cohort)
    graph = neighbours(planned, digest)
    return VerifiedRoster(
        terms=terms,
        plan=planned,
        digest=digest,
        identities=identities,
        agreement_keys=tuple(load_public(a.agreement_key) for a in adverts),
        masking_keys=tuple(load_public(a.masking_key) for a in adverts),
        graph=graph,
        places=_positions(graph),
    )


def survivors_digest(roster: VerifiedRoster, sharers: bytes, survivors: bytes) -> str:
    """SHA-256, in hex, of who shared and who survived: what devices confirm to each other."""
    return hashlib.sha256(_SURVIVORS + roster.digest + sharers + survivors).hexdigest()


def confirmation_message(roster: VerifiedRoster, digest: str) -> bytes:
    """What a device signs in stage confirm."""
    return _CONFIRMATION + roster.digest + bytes.fromhex(digest)


@dataclass(frozen=True, slots=True)
class VerifiedConfirmations:
    """Proof that a quorum of the roster confirmed one digest. Made by ``verify_confirmations`` only."""

    roster_digest: bytes
    survivors_digest: str
    signers: int


def verify_confirmations(
    terms: SessionTerms, roster: VerifiedRoster, digest: str, confirmations: SecAggConfirmations
) -> VerifiedConfirmations:
    """Verify a quorum of distinct signatures over one survivors digest.

    Args:
        terms: of the session.
        roster: verified.
        digest: the survivors digest that this node's devices signed.
        confirmations: from the server.

    Raises:
        ProtocolViolation: of another session.
        MalformedInput: not one signature for each signer.
        TooFewSurvivors: no quorum.
        TrustError: a signature does not verify.
    """
    if confirmations.session != terms.session or roster.terms.digest != terms.digest:
        raise ProtocolViolation("confirmations of another session")
    signers = unpack_bits(confirmations.signers, roster.size, "signers")
    count = int(signers.sum())
    signatures = confirmations.signatures
    if len(signatures) != count * SIGNATURE_BYTES:
        raise MalformedInput("confirmations: not one signature for each signer")
    quorum = roster.plan.survivors_min
    if count < quorum:
        raise TooFewSurvivors(f"{count} confirmations of {quorum} needed")
    message = confirmation_message(roster, digest)
    for row, index in enumerate(np.flatnonzero(signers)[:quorum]):
        start = row * SIGNATURE_BYTES
        if not verified(roster.identities[index], signatures[start : start + SIGNATURE_BYTES], message):
            raise TrustError("a confirmation does not verify: not everybody saw the same survivors")
    return VerifiedConfirmations(roster.digest, digest, quorum)


def _positions(graph: IndexArray) -> IndexArray:
    """Edges sorted by (neighbour, device) are edges sorted by (device, neighbour) seen from the other end."""
    size, degree = graph.shape
    device = np.repeat(np.arange(size), degree)
    order = np.lexsort((device, graph.reshape(-1)))
    positions = np.empty(size * degree, np.intp)
    positions[order] = np.tile(np.arange(degree), size)
    return positions.reshape(size, degree)


@lru_cache(maxsize=8)
def _places(roster: VerifiedRoster) -> dict[bytes, int]:
    return {identity: index for index, identity in enumerate(roster.identities)}


@lru_cache(maxsize=32)
def _members(roster: VerifiedRoster, data: bytes, what: str) -> BoolArray:
    members = unpack_bits(data, roster.size, what)
    count = int(members.sum())
    if count < roster.plan.survivors_min:
        raise TooFewSurvivors(f"{what}: {count} devices of {roster.plan.survivors_min} needed")
    beside = members[roster.graph[members]].sum(axis=1)
    if beside.min() < roster.plan.neighbours_min:
        raise TooFewSurvivors(f"{what}: a device would have {beside.min()} of {roster.plan.neighbours_min} neighbours")
    members.flags.writeable = False
    return members
