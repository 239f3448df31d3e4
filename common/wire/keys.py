"""Key succession: how a new signing key is named by the old one. Owns the document and how it is followed.

Who has pinned a key learns its successor from a document that the pinned key has signed, and from nothing else. Old
keys stay trusted for what they signed: succession adds, it never takes away. A key that was stolen needs new pins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from common.crypto import signing
from common.crypto.signing import PublicKey, SigningKey
from common.errors import TrustError, UnknownSigner
from common.wire.base import Message

SUCCESSION_TYP: Final = "key-succession+jws"
KeyText = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]


class KeySuccession(Message):
    """From ``not_before`` on, documents are signed by the new key.

    Attributes:
        number: of the new key, in the order of succession; the first key is number 1.
        old_kid, new_kid: RFC 7638 thumbprints.
        new_x: the new public key.
        not_before: seconds since the epoch.
    """

    kind: Literal["key_succession"] = "key_succession"
    number: int = Field(ge=2)
    old_kid: KeyText
    new_kid: KeyText
    new_x: KeyText
    not_before: int


def seal_succession(old: SigningKey, new: PublicKey, *, number: int, not_before: int) -> str:
    """The document by which ``old`` names its successor."""
    document = KeySuccession(number=number, old_kid=old.kid, new_kid=new.kid, new_x=new.x, not_before=not_before)
    return signing.sign(document.model_dump_json().encode(), old, SUCCESSION_TYP)


def open_succession(jws: str, keys: Mapping[str, PublicKey]) -> tuple[KeySuccession, PublicKey]:
    """The document, its signature verified, and the key that it adds.

    Raises:
        UnknownSigner: signed by a key that is not pinned.
        TrustError: the signature does not verify, or the document does not say what it must.
    """
    payload = signing.verify(jws, keys, SUCCESSION_TYP)
    try:
        document = KeySuccession.model_validate_json(payload)
        new = PublicKey(document.new_x)
    except (ValidationError, ValueError):
        raise TrustError("what was signed is not a key succession") from None
    if new.kid != document.new_kid or signing.signer_of(jws) != document.old_kid:
        raise TrustError("a key succession names other keys than those it concerns")
    return document, new


def follow(pinned: Mapping[str, PublicKey], successions: Iterable[str]) -> dict[str, PublicKey]:
    """The pinned keys and every key that they lead to, through documents in any order.

    Documents of keys that nobody pinned are passed over: they add nothing.

    Raises:
        TrustError: a document of a trusted key is not what it must be.
    """
    trusted, waiting = dict(pinned), list(successions)
    while True:
        later = []
        for jws in waiting:
            try:
                _, new = open_succession(jws, trusted)
            except UnknownSigner:
                later.append(jws)
            else:
                trusted[new.kid] = new
        if len(later) == len(waiting):
            return trusted
        waiting = later
