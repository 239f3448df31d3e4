"""Follow-up tokens. Owns their form: a keyed tag over decision, slot, position, creative, moment and kind; no subject.

``rft3.<position>.<moment>.<kind><tag>``: all but the end is the same in all tokens of one placement. One keyed BLAKE2b
(RFC 7693) over it gives 60 bytes; each kind has its own 15 of them as its tag (120 bits), so a placement costs one
hash. The creative is there as a short digest: who holds a token learns nothing from it, and no token of one creative
passes for another's.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Final

import msgspec

from common.crypto.kdf import derive
from common.errors import TokenForged
from common.taxonomy import FollowUp
from server.decisions.repository import PositionKey

_PREFIX: Final = b"rft3"
_TAG_CHARACTERS: Final = 20
_KINDS: Final = {
    FollowUp.IMPRESSION: "i",
    FollowUp.CLICK: "c",
    FollowUp.CONVERSION: "v",
    FollowUp.CLOSE: "x",
}
_KIND_OF: Final = {letter: kind for kind, letter in _KINDS.items()}
_PLACE_OF: Final = {kind: place * _TAG_CHARACTERS for place, kind in enumerate(_KINDS)}
_JSON: Final = (
    b"{" + b",".join(b'"%b":"%%b%b%%b"' % (kind.encode(), letter.encode()) for kind, letter in _KINDS.items()) + b"}"
)
_FORM: Final = re.compile(r"(rft3\.([A-Za-z0-9_-]+)\.(0|[1-9][0-9]{0,14})\.)([civx])([A-Za-z0-9_-]{20})", re.ASCII)
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
        decided_at: when it was decided, in seconds since the epoch.
    """

    key: PositionKey
    creative: str
    follow_up: FollowUp
    decided_at: int


class TokenMint:
    """Makes and recognises tokens under a key derived from the installation's pepper."""

    def __init__(self, pepper: bytes) -> None:
        key = derive(pepper, "follow-up-token")
        self._keyed = hashlib.blake2b(digest_size=15 * len(_KINDS), key=key)

    def issue(self, token: FollowUpToken) -> str:
        """The token as text."""
        return self.issue_all(token.key, token.creative, token.decided_at)[token.follow_up]

    def issue_all(self, key: PositionKey, creative: str, decided_at: int) -> dict[FollowUp, str]:
        """Tokens of one placement, by kind.

        Args:
            key: the position.
            creative: ``creative_mark`` of what is shown there.
            decided_at: seconds since the epoch.
        """
        start = _start(key, creative, decided_at)
        tags = self._tags(start)
        return {kind: f"{start.decode()}{letter}{_tag(tags, kind)}" for kind, letter in _KINDS.items()}

    def issue_json(self, key: PositionKey, creative: str, decided_at: int) -> bytes:
        """The same as a JSON object."""
        start = _start(key, creative, decided_at)
        tags = self._tags(start)
        return _JSON % (start, tags[:20], start, tags[20:40], start, tags[40:60], start, tags[60:])

    def read(self, text: str) -> FollowUpToken:
        """What a token says, once its tag is seen to be ours.

        Raises:
            TokenForged: it is not.
        """
        found = _FORM.fullmatch(text) if len(text) <= _TEXT_MAX else None
        if found is None:
            raise TokenForged("this follow-up token was not made here")
        start, position, decided_at, letter, tag = found.groups()
        kind = _KIND_OF[letter]
        if not hmac.compare_digest(_tag(self._tags(start.encode()), kind), tag):
            raise TokenForged("this follow-up token was not made here")
        decision_id, slot_id, place, creative = _DECODE(_decode(position))
        return FollowUpToken(PositionKey(decision_id, slot_id, place), creative, kind, int(decided_at))

    def _tags(self, start: bytes) -> bytes:
        """The tags of all kinds, one after the other."""
        keyed = self._keyed.copy()
        keyed.update(start)
        return binascii.b2a_base64(keyed.digest(), newline=False).translate(_URL_SAFE)


@functools.lru_cache(maxsize=100_000)
def creative_mark(creative_id: str) -> str:
    """12 bytes of SHA-256 by which a token names its creative."""
    return _text(hashlib.sha256(creative_id.encode()).digest()[:12]).decode()


def _start(key: PositionKey, creative: str, decided_at: int) -> bytes:
    """What the tokens of one placement have in common."""
    position = _ENCODE((key.decision_id, key.slot_id, key.position, creative))
    return b"%b.%b.%d." % (_PREFIX, _text(position), decided_at)


def _tag(tags: bytes, kind: FollowUp) -> str:
    place = _PLACE_OF[kind]
    return tags[place : place + _TAG_CHARACTERS].decode()


def _text(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE, b"=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
