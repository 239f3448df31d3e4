"""Follow-up tokens. Owns their form: HMAC-SHA-256 over decision, slot, position, creative, kind and expiry; no subject.

``rft2.<position>.<kind><expiry>.<tag>``: the position is the same text in all tokens of one placement, so a decision
encodes it once and pays one HMAC per token. The creative is there as a short digest: who holds a token learns nothing
from it, and no token of one creative passes for another's.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec

from common.crypto.kdf import KeyedHash, derive
from common.errors import TokenForged
from common.taxonomy import FollowUp
from server.decisions.repository import PositionKey

_PREFIX: Final = "rft2"
_KINDS: Final = {
    FollowUp.IMPRESSION: "i",
    FollowUp.CLICK: "c",
    FollowUp.CONVERSION: "v",
    FollowUp.CLOSE: "x",
}
_LETTERS: Final = {kind: letter.encode() for kind, letter in _KINDS.items()}
_NAMES: Final = {kind: kind.value.encode() for kind in FollowUp}
_KIND_OF: Final = {letter: kind for kind, letter in _KINDS.items()}
_FORM: Final = re.compile(r"rft2\.([A-Za-z0-9_-]+)\.([civx])(0|[1-9][0-9]{0,14})\.([A-Za-z0-9_-]{43})", re.ASCII)
_ENCODE: Final = msgspec.json.Encoder().encode
_DECODE: Final = msgspec.json.Decoder(tuple[str, str, int, str]).decode
_TEXT_MAX: Final = 1_024
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


@dataclass(frozen=True, slots=True)
class FollowUpToken:
    """What a token says.

    Attributes:
        key: the position it confirms something about.
        creative: ``creative_mark`` of what was shown there.
        follow_up: what it confirms.
        expires_at: seconds since the epoch.
    """

    key: PositionKey
    creative: str
    follow_up: FollowUp
    expires_at: int


class TokenMint:
    """Makes and recognises tokens under a key derived from the installation's pepper."""

    def __init__(self, pepper: bytes) -> None:
        self._keyed = KeyedHash(derive(pepper, "follow-up-token"))

    def issue(self, token: FollowUpToken) -> str:
        """The token as text."""
        return self.issue_all(token.key, token.creative, [(token.follow_up, token.expires_at)])[token.follow_up]

    def issue_all(self, key: PositionKey, creative: str, wanted: Iterable[tuple[FollowUp, int]]) -> dict[FollowUp, str]:
        """Tokens of one placement, by kind; one HMAC each.

        Args:
            key: the position.
            creative: ``creative_mark`` of what is shown there.
            wanted: kinds, each with its expiry in seconds since the epoch.
        """
        start = f"{_PREFIX}.{_encode(_ENCODE((key.decision_id, key.slot_id, key.position, creative)))}."
        tokens: dict[FollowUp, str] = {}
        for kind, expires_at in wanted:
            body = f"{start}{_KINDS[kind]}{expires_at}"
            tokens[kind] = f"{body}.{_encode(self._mac(body))}"
        return tokens

    def issue_json(self, key: PositionKey, creative: str, wanted: Iterable[tuple[FollowUp, int]]) -> bytes:
        """The same as ``issue_all`` as a JSON object; what the tokens of a placement share is hashed once."""
        start = f"{_PREFIX}.{_encode(_ENCODE((key.decision_id, key.slot_id, key.position, creative)))}.".encode()
        begun, parts = self._keyed.begin(start), []
        for kind, expires_at in wanted:
            end = b"%b%d" % (_LETTERS[kind], expires_at)
            tag = binascii.b2a_base64(begun.digest(end), newline=False).translate(_URL_SAFE, b"=")
            parts.append(b'"%b":"%b%b.%b"' % (_NAMES[kind], start, end, tag))
        return b"{%b}" % b",".join(parts)

    def read(self, text: str) -> FollowUpToken:
        """What a token says, once its tag is seen to be ours.

        Raises:
            TokenForged: it is not.
        """
        found = _FORM.fullmatch(text) if len(text) <= _TEXT_MAX else None
        if found is None:
            raise TokenForged("this follow-up token was not made here")
        body, _, tag = text.rpartition(".")
        if not hmac.compare_digest(_encode(self._mac(body)), tag):
            raise TokenForged("this follow-up token was not made here")
        position, kind, expires_at, _ = found.groups()
        decision_id, slot_id, place, creative = _DECODE(_decode(position))
        return FollowUpToken(PositionKey(decision_id, slot_id, place), creative, _KIND_OF[kind], int(expires_at))

    def _mac(self, body: str) -> bytes:
        return self._keyed.digest(body.encode())


@functools.lru_cache(maxsize=100_000)
def creative_mark(creative_id: str) -> str:
    """12 bytes of SHA-256 by which a token names its creative."""
    return _encode(hashlib.sha256(creative_id.encode()).digest()[:12])


def _encode(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
