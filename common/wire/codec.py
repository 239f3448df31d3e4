"""Bytes of wire messages. Owns the version byte, the size cap and the refusal of anything undecodable."""

from __future__ import annotations

from typing import TypeVar

from pydantic import ValidationError

from common.errors import MalformedInput
from common.wire.base import Message

VERSION = 1
SIZE_BYTES_MAX = 8 * 1024 * 1024

M = TypeVar("M", bound=Message)


def encode(message: Message) -> bytes:
    """Version byte, then compact JSON."""
    return bytes([VERSION]) + message.model_dump_json().encode()


def decode(data: bytes, message_type: type[M]) -> M:
    """Decode exactly one message of the expected type.

    Raises:
        MalformedInput: empty, oversized, of another version, or not a valid ``message_type``. The text names fields
            and error types only; values are never echoed.
    """
    if not data or len(data) > SIZE_BYTES_MAX:
        raise MalformedInput(f"{message_type.__name__}: expected 1 to {SIZE_BYTES_MAX} bytes, got {len(data)}")
    if data[0] != VERSION:
        raise MalformedInput(f"{message_type.__name__}: wire version {data[0]} is not supported (expected {VERSION})")
    try:
        return message_type.model_validate_json(data[1:])
    except ValidationError as error:
        raise MalformedInput(f"{message_type.__name__}: {describe(error)}") from None


def describe(error: ValidationError) -> str:
    """Where and what is wrong, without any of the values."""
    rows = error.errors(include_input=False, include_url=False, include_context=False)
    return "; ".join(f"{'.'.join(str(part) for part in row['loc']) or 'body'}: {row['type']}" for row in rows[:5])
