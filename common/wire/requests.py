"""What a data subject's request proves and what it is answered with. Owns the proof of an identity and the receipt.

The privacy ledger knows a device by the hash of the identity key it signs with in a secure aggregation, the rest of
the service by a random handle with a key of its own. Where the two keys differ, only the device can say that they are
one's. ``prove_identity`` says it for one request: the service uses the proof in the transaction that answers and keeps
neither it nor the pair. An acknowledgement names no subject: its request's id is 128 random bits.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from common.crypto import signing
from common.errors import TrustError
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import DenialReason, RequestKind, RequestStatus
from common.wire.base import Handle, Message, ShortText

PROOF_TYP: Final = "ledger-proof+jws"
PROOF_AGE_S_MAX: Final = 300.0


class LedgerProof(Message):
    """Says that whoever holds a handle also holds an identity key.

    Attributes:
        identity: base64url text of the identity's public key.
        jws: ``OwnIdentity``, signed by that key.
    """

    identity: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
    jws: Annotated[str, Field(max_length=1024)]


class OwnIdentity(Message):
    """What the identity key signs."""

    handle: Handle
    issued_at: int


class RemainingModel(Message):
    """What bounds that which remains of one device in one training.

    Attributes:
        model_versions: released models that came of it.
        releases: how many sums of it the device was charged for.
        bounds: one statement per line, for this device alone.
    """

    run_id: ShortText
    model_versions: tuple[int, ...]
    releases: int = Field(ge=0)
    bounds: tuple[PrivacyStatement, ...]


class Remains(Message):
    """What an erasure cannot take back, and what bounds it. Whoever was never charged has no bound and no models.

    Attributes:
        models: trainings that the device contributed to.
        bounds: everything together, one statement per line: lines are never added up.
        explanation: the same in words.
        tombstone_until: last day, since the epoch, on which the ledger could still recognise the erased identity.
    """

    models: tuple[RemainingModel, ...] = ()
    bounds: tuple[PrivacyStatement, ...] = ()
    explanation: Annotated[str, Field(max_length=2000)]
    tombstone_until: int | None = None


class RequestAcknowledgement(Message):
    """Signed answer to a data subject's request, as it stands.

    Attributes:
        law: under which the deadline was reckoned.
        received_at, due_at, completed_at: seconds since the epoch.
        destroyed: after an erasure, rows destroyed per room.
        remains: after an erasure, what it could not take back.
    """

    kind: Literal["request_acknowledgement"] = "request_acknowledgement"
    schema_version: Literal["reticent-dsr-1"] = "reticent-dsr-1"
    request_id: ShortText
    request: RequestKind
    status: RequestStatus
    law: ShortText
    controller: ShortText
    received_at: int
    due_at: int
    completed_at: int | None = None
    denial: DenialReason | None = None
    destroyed: dict[str, int] | None = None
    remains: Remains | None = None


def prove_identity(identity: signing.SigningKey, handle: str, issued_at: float) -> LedgerProof:
    """A proof for one request.

    Args:
        identity: the device's identity key of secure aggregations.
        handle: for whom.
        issued_at: seconds since the epoch.
    """
    said = OwnIdentity(handle=handle, issued_at=int(issued_at))
    jws = signing.sign(said.model_dump_json().encode(), identity, PROOF_TYP)
    return LedgerProof(identity=identity.public.x, jws=jws)


def proven_identity(proof: LedgerProof, handle: str, now: float) -> bytes:
    """The identity in a proof, raw Ed25519 public key of 32 bytes.

    Raises:
        TrustError: not signed by that identity, for another handle, or not of now.
    """
    try:
        key = signing.PublicKey(proof.identity)
        said = OwnIdentity.model_validate_json(signing.verify(proof.jws, signing.key_ring(key), PROOF_TYP))
    except (ValueError, ValidationError):
        raise TrustError("the proof of the ledger identity does not verify") from None
    if said.handle != handle or not abs(now - said.issued_at) <= PROOF_AGE_S_MAX:
        raise TrustError("the proof of the ledger identity is for another request")
    return key.raw
