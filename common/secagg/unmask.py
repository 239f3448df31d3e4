"""Removing the masks from a sum once devices have revealed their shares. Owns the arithmetic, no protocol rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.errors import MalformedInput, ProtocolViolation, TooFewSurvivors
from common.secagg import shamir
from common.secagg.bitmap import BoolArray, unpack_bits
from common.secagg.masking import IntVector, WordArray, expand
from common.secagg.pairwise import SECRET_BYTES, mask_seed, private_key, public_bytes
from common.secagg.roster import VerifiedRoster


@dataclass(frozen=True, slots=True)
class UnmaskedSum:
    """The sum over all survivors.

    Attributes:
        vector: int64 ``[length]``.
        survivors: indices, ascending.
        identities: the survivors' raw Ed25519 keys, in the same order.
    """

    vector: IntVector
    survivors: tuple[int, ...]
    identities: tuple[bytes, ...]


ShareArray = npt.NDArray[np.uint16]
Revealed = tuple[BoolArray, ShareArray]
"""Of which neighbours one device revealed shares, by position, and those shares."""


@dataclass(frozen=True, slots=True)
class Reveals:
    """Shares by who revealed them.

    Attributes:
        held: whose shares were revealed, by position among the revealer's neighbours: ``[size, degree]``.
        values: the shares, ``[size, degree, 16]``.
    """

    held: BoolArray
    values: ShareArray

    @classmethod
    def of(cls, roster: VerifiedRoster, revealed: Mapping[int, Revealed]) -> Reveals:
        """All that was revealed, by index of who revealed it."""
        held = np.zeros(roster.graph.shape, np.bool_)
        values = np.zeros((*roster.graph.shape, SECRET_BYTES // 2), np.uint16)
        for index, (named, shares) in revealed.items():
            held[index] = named
            values[index, named] = shares
        return cls(held, values)


def read_reveal(data: bytes, degree: int) -> Revealed:
    """What a device revealed: one bit for each neighbour, then a share of each whose bit is set.

    Raises:
        MalformedInput: it is not that.
    """
    head = (degree + 7) // 8
    held = unpack_bits(data[:head], degree, "reveal")
    if len(data) != head + int(held.sum()) * SECRET_BYTES:
        raise MalformedInput("reveal: not one share for each neighbour it names")
    return held, np.frombuffer(data, "<u2", offset=head).reshape(-1, SECRET_BYTES // 2)


def remove_masks(
    roster: VerifiedRoster, words: WordArray, *, survivors: set[int], sharers: set[int], reveals: Reveals
) -> None:
    """Subtract, in place, the own masks of survivors and the masks they share with those who dropped out.

    All secrets are reconstructed before the first mask is removed, so a failure leaves nothing half unmasked.

    Args:
        roster: verified.
        words: sum of masked vectors, ``[length]``.
        survivors: whose vectors are in it.
        sharers: who shared: the others have no masks with anybody.
        reveals: shares.

    Raises:
        TooFewSurvivors: a secret with fewer shares than the threshold.
        ProtocolViolation: shares that contradict each other, or the advertised key.
    """
    secrets = {index: _secret(roster, index, reveals) for index in sorted(sharers)}
    for index in sharers - survivors:
        if public_bytes(secrets[index]) != roster.masking_keys[index].public_bytes_raw():
            raise ProtocolViolation("a reconstructed masking key is not the one that was advertised")
    length, bits = roster.terms.length, roster.terms.bits
    for index in survivors:
        words -= expand(secrets[index], length, bits)
    for dropped in sharers - survivors:
        own = private_key(secrets[dropped])
        for other in survivors.intersection(roster.neighbours(dropped)):
            low, high = min(dropped, other), max(dropped, other)
            mask = expand(mask_seed(own, roster.masking_keys[other], roster.digest, low, high), length, bits)
            if other == low:  # the survivor added it
                words -= mask
            else:
                words += mask


def _secret(roster: VerifiedRoster, index: int, reveals: Reveals) -> bytes:
    """Reconstruct a device's secret, twice where there are shares to spare."""
    holders = roster.graph[index]
    places = roster.places[index]
    positions = np.flatnonzero(reveals.held[holders, places])
    threshold = roster.threshold
    if len(positions) < threshold:
        raise TooFewSurvivors(f"{len(positions)} shares of {threshold} needed to remove a mask")
    shares = reveals.values[holders[positions], places[positions]]
    points = positions + 1
    secret = shamir.combine(points[:threshold], shares[:threshold])
    if len(points) > threshold and shamir.combine(points[-threshold:], shares[-threshold:]) != secret:
        raise ProtocolViolation("revealed shares contradict each other")
    return secret
