"""Follow-up tokens. Owns their form: HMAC-SHA-256 over decision, slot, position, kind and expiry; no subject."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Final

from common.crypto.kdf import derive
from common.errors import TokenForged
from common.taxonomy import FollowUp
from server.decisions.repository import PositionKey

_PREFIX: Final = "rft1"


@dataclass(frozen=True, slots=True)
class FollowUpToken:
    """What a token says.

    Attributes:
        key: the position it confirms something about.
        follow_up: what it confirms.
        expires_at: seconds since the epoch.
    """

    key: PositionKey
    follow_up: FollowUp
    expires_at: int


class TokenMint:
    """Makes and recognises tokens under a key derived from the installation's pepper."""

    def __init__(self, pepper: bytes) -> None:
        self._secret = derive(pepper, "follow-up-token")

    def issue(self, token: FollowUpToken) -> str:
        """The token as text."""
        fields = [token.key.decision_id, token.key.slot_id, token.key.position, token.follow_up.value, token.expires_at]
        body = f"{_PREFIX}.{_encode(json.dumps(fields, separators=(',', ':')).encode())}"
        return f"{body}.{_encode(self._mac(body))}"

    def read(self, text: str) -> FollowUpToken:
        """What a token says, once its tag is seen to be ours.

        Raises:
            TokenForged: it is not.
        """
        body, _, tag = text.rpartition(".")
        if not text.isascii() or not hmac.compare_digest(_encode(self._mac(body)), tag):
            raise TokenForged("this follow-up token was not made here")
        try:
            decision_id, slot_id, position, kind, expires_at = json.loads(_decode(body.partition(".")[2]))
            return FollowUpToken(PositionKey(decision_id, slot_id, position), FollowUp(kind), expires_at)
        except (ValueError, TypeError):
            raise TokenForged("this follow-up token was not made here") from None

    def _mac(self, body: str) -> bytes:
        return hmac.new(self._secret, body.encode(), hashlib.sha256).digest()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as error:
        raise ValueError("not base64url") from error
