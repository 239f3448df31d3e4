"""Signed round invitations. Owns how the server seals one and a device opens it: one recipe for both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import ValidationError

from common.crypto import signing
from common.errors import MalformedInput
from common.wire.codec import describe
from common.wire.messages import RoundInvitation

INVITATION_TYP: Final = "round-invitation+jws"


def seal_invitation(invitation: RoundInvitation, key: signing.SigningKey) -> str:
    """The invitation as a compact JWS."""
    return signing.sign(invitation.model_dump_json().encode(), key, INVITATION_TYP)


def open_invitation(jws: str, keys: Mapping[str, signing.PublicKey]) -> RoundInvitation:
    """The invitation, its signature verified.

    Raises:
        TrustError: the signature does not verify.
        UnknownSigner: signed by a key that is not pinned.
        MalformedInput: what was signed is no invitation; fields are named, values are not echoed.
    """
    payload = signing.verify(jws, keys, INVITATION_TYP)
    try:
        return RoundInvitation.model_validate_json(payload)
    except ValidationError as error:
        raise MalformedInput(f"RoundInvitation: {describe(error)}") from None
