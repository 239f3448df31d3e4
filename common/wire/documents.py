"""Signed documents of the service: catalogue, placement policy, placement permit, consent receipt and standing.

Owns one recipe for all of them: compact JWS whose ``typ`` names the kind, so that none passes for another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

from pydantic import ValidationError

from common.crypto import signing
from common.errors import InvalidReceipt, TrustError
from common.wire.experiments import ExperimentDocument
from common.wire.messages import Catalogue, ConsentReceipt, ConsentStanding, PlacementPermit, PolicyDocument
from common.wire.pick import CandidateList
from common.wire.pick_cap import PickCap
from common.wire.requests import RequestAcknowledgement

RECEIPT_TYP: Final = "consent-receipt+jws"
PERMIT_TYP: Final = "placement-permit+jws"
STANDING_TYP: Final = "consent-standing+jws"
ACKNOWLEDGEMENT_TYP: Final = "dsr-ack+jws"
_KINDS: Final[Mapping[type, tuple[str, type[TrustError]]]] = {
    Catalogue: ("catalogue+jws", TrustError),
    PolicyDocument: ("policy-document+jws", TrustError),
    PlacementPermit: (PERMIT_TYP, TrustError),
    ConsentReceipt: (RECEIPT_TYP, InvalidReceipt),
    ConsentStanding: (STANDING_TYP, TrustError),
    CandidateList: ("candidate-list+jws", TrustError),
    PickCap: ("pick-cap+jws", TrustError),
    ExperimentDocument: ("experiment+jws", TrustError),
    RequestAcknowledgement: (ACKNOWLEDGEMENT_TYP, TrustError),
}

Signed = (
    Catalogue
    | CandidateList
    | PickCap
    | PolicyDocument
    | PlacementPermit
    | ConsentReceipt
    | ConsentStanding
    | ExperimentDocument
    | RequestAcknowledgement
)
D = TypeVar(
    "D",
    Catalogue,
    CandidateList,
    PickCap,
    PolicyDocument,
    PlacementPermit,
    ConsentReceipt,
    ConsentStanding,
    ExperimentDocument,
    RequestAcknowledgement,
)


def seal(document: Signed, key: signing.SigningKey) -> str:
    """The document as a compact JWS."""
    return signing.sign(document.model_dump_json().encode(), key, _KINDS[type(document)][0])


def open_document(jws: str, kind: type[D], keys: Mapping[str, signing.PublicKey]) -> D:
    """The document, its signature verified.

    Raises:
        InvalidReceipt: a receipt does not verify.
        TrustError: another document does not verify.
        UnknownSigner: signed by a key that is not pinned.
    """
    typ, error = _KINDS[kind]
    payload = signing.verify(jws, keys, typ, error=error)
    try:
        return kind.model_validate_json(payload)
    except ValidationError:
        raise error(f"what was signed is not a {kind.__name__}") from None
