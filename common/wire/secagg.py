"""Messages of one secure aggregation, stage by stage. Owns their form; what they mean is ``common.secagg``'s.

A roster orders its devices; ``index`` is a device's place in it. Byte fields hold fixed-size records one after the
other, in the order of indices or of neighbours, so nothing in them has a name that could carry more.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictInt

from common.privacy.parameters import MechanismUse
from common.taxonomy import Task
from common.wire.base import Digest, Message, ShortText

Key = Annotated[bytes, Field(min_length=32, max_length=32)]
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]
Records = Annotated[bytes, Field(max_length=4 * 1024 * 1024)]
Index = Annotated[StrictInt, Field(ge=0, lt=1 << 16)]

# ── from a device ────────────────────────────────────────────────────────────────────────────────────────────────────


class SecAggAdvert(Message):
    """Stage advertise: fresh public keys of one session, signed by the device's certified identity."""

    kind: Literal["secagg_advert"] = "secagg_advert"
    session: Digest
    certificate: Annotated[bytes, Field(min_length=1, max_length=256)]
    agreement_key: Key
    masking_key: Key
    signature: Signature


class SecAggShares(Message):
    """Stage share: a nonce, then shares of this device's two secrets, encrypted for each neighbour, in their order."""

    kind: Literal["secagg_shares"] = "secagg_shares"
    session: Digest
    index: Index
    ciphertexts: Records


class _Masked(Message):
    """Header of a masked integer vector, which travels beside it as bytes."""

    session: Digest
    index: Index
    run_id: ShortText
    round_number: StrictInt = Field(ge=1, lt=1 << 31)
    task: Task
    spec_digest: Digest
    base_digest: Digest
    length: StrictInt = Field(ge=1, lt=1 << 31)
    bits: StrictInt = Field(ge=8, le=32)
    releases: tuple[MechanismUse, ...] = Field(min_length=1, max_length=4)


class MaskedUpdateHeader(_Masked):
    """Stage mask, about a model: the masked, noised vector of one device. Charged."""

    kind: Literal["masked_update"] = "masked_update"


class MaskedMeasurement(_Masked):
    """Stage mask, about behaviour in aggregate (histograms of features). Charged; another consent purpose."""

    kind: Literal["masked_measurement"] = "masked_measurement"


class SecAggConfirmation(Message):
    """Stage confirm: this device saw exactly this set of survivors, signed by its identity."""

    kind: Literal["secagg_confirmation"] = "secagg_confirmation"
    session: Digest
    index: Index
    survivors_digest: Digest
    signature: Signature


class SecAggReveal(Message):
    """Stage reveal: of which neighbours shares are held, one bit each, then one share of each of them.

    It is a share of the neighbour's own mask if that survived, of its masking key if it did not.
    """

    kind: Literal["secagg_reveal"] = "secagg_reveal"
    session: Digest
    index: Index
    shares: Records


# ── to a device ──────────────────────────────────────────────────────────────────────────────────────────────────────


class SecAggRoster(Message):
    """Adverts of all devices of the session, in the order that gives them their index."""

    kind: Literal["secagg_roster"] = "secagg_roster"
    session: Digest
    adverts: tuple[SecAggAdvert, ...] = Field(max_length=1 << 16)


class SecAggDelivery(Message):
    """Who shared, one bit per index of the roster, and for one device the encrypted shares of its neighbours in it."""

    kind: Literal["secagg_delivery"] = "secagg_delivery"
    session: Digest
    index: Index
    senders: Records
    ciphertexts: Records


class SecAggSurvivors(Message):
    """Who sent a masked vector: one bit per index of the roster."""

    kind: Literal["secagg_survivors"] = "secagg_survivors"
    session: Digest
    survivors: Records


class SecAggConfirmations(Message):
    """Who confirmed the survivors, one bit per index, and their signatures in order."""

    kind: Literal["secagg_confirmations"] = "secagg_confirmations"
    session: Digest
    signers: Records
    signatures: Records


SecAggOutbound = (
    SecAggAdvert | SecAggShares | MaskedUpdateHeader | MaskedMeasurement | SecAggConfirmation | SecAggReveal
)
SecAggInbound = SecAggRoster | SecAggDelivery | SecAggSurvivors | SecAggConfirmations
