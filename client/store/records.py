"""One sealed record. Owns the bytes of a stored event, of a device's summary and of a cached derivation.

Every record is sealed under a subkey of the device's key and bound to its device and place, so that no record can be
moved, swapped between devices or replayed under another number without failing to authenticate.
"""

from __future__ import annotations

import hmac
from typing import Final

import msgspec

from client.behavior.events import BehaviourEvent, identity
from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive, fingerprint
from common.taxonomy import EventKind

RECORD_VERSION: Final = 1
_PREFIX: Final = bytes([RECORD_VERSION])
_ENCODE: Final = msgspec.msgpack.Encoder().encode
_DECODE: Final = msgspec.msgpack.Decoder(BehaviourEvent).decode


class BadRecord(ValueError):
    """A record that does not authenticate, has another version, or does not decode. Callers name it further."""


class Summary(msgspec.Struct, forbid_unknown_fields=True):
    """What the vault knows about a device's records without opening them; sealed like a record.

    Attributes:
        count: how many events there must be: a record that was cut out is missed.
        oldest: earliest time per kind; tells whether retention has anything to do.
    """

    count: int = 0
    oldest: dict[EventKind, float] = {}


_DECODE_SUMMARY: Final = msgspec.msgpack.Decoder(Summary).decode


def check_value(key: bytes) -> bytes:
    """16 bytes that tell the right key from a wrong one, and nothing else about it."""
    return derive(key, "vault/check", length=16)


def is_key_for(key: bytes, check: bytes) -> bool:
    """Whether ``check`` was made from ``key``."""
    return hmac.compare_digest(check_value(key), check)


class RecordBox:
    """Seals and opens the records of one device."""

    __slots__ = ("_aead", "_event_place", "_place", "_tag_key")

    def __init__(self, key: bytes, device: str) -> None:
        """Take the device's key and name."""
        self._aead = Aead(derive(key, "vault/records"))
        self._tag_key = derive(key, "vault/duplicates")
        self._place = b"reticent/vault\0" + device.encode() + b"\0"
        self._event_place = self._place + b"event\0"

    def tag(self, event: BehaviourEvent) -> bytes:
        """By which a duplicate is recognised without opening anything."""
        return fingerprint(self._tag_key, identity(event))

    def seal_event(self, event: BehaviourEvent, sequence: int) -> bytes:
        """The event as record number ``sequence``."""
        return self._aead.seal(_PREFIX + _ENCODE(event), self._event_place + sequence.to_bytes(8, "big"))

    def open_event(self, sealed: bytes, sequence: int) -> BehaviourEvent:
        """The event of record number ``sequence``.

        Raises:
            BadRecord: it is not that record.
        """
        body = self._open(sealed, self._event_place + sequence.to_bytes(8, "big"))
        try:
            event: BehaviourEvent = _DECODE(memoryview(body)[1:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRecord("does not decode") from None
        return event

    def seal_summary(self, summary: Summary) -> bytes:
        """The device's summary."""
        return self._aead.seal(_PREFIX + _ENCODE(summary), self._place + b"summary")

    def open_summary(self, sealed: bytes) -> Summary:
        """The device's summary.

        Raises:
            BadRecord: it is not that.
        """
        body = self._open(sealed, self._place + b"summary")
        try:
            return _DECODE_SUMMARY(memoryview(body)[1:])
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise BadRecord("does not decode") from None

    def seal_derived(self, payload: bytes, name: str) -> bytes:
        """A derivation cached under ``name``."""
        return self._aead.seal(_PREFIX + payload, self._place + b"derived\0" + name.encode())

    def open_derived(self, sealed: bytes, name: str) -> bytes:
        """The derivation cached under ``name``.

        Raises:
            BadRecord: it is not that.
        """
        return self._open(sealed, self._place + b"derived\0" + name.encode())[1:]

    def _open(self, sealed: bytes, place: bytes) -> bytes:
        try:
            body = self._aead.open(sealed, place)
        except NotAuthentic:
            raise BadRecord("does not authenticate") from None
        if not body.startswith(_PREFIX):
            raise BadRecord("has another version")
        return body
