"""Flower's form of secure aggregation: what a request holds and what a reply may hold. Owns the records' names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, RecordDict

from common.errors import MalformedInput
from common.model.arrays import Arrays
from server.rounds.strategy import ARRAYS, JWS, array_record

SECAGG, BODIES, PAYLOAD, MASKED = "secagg", "bodies", "payload", "masked"
Rows = npt.NDArray[np.uint8]


def pack(invitation: str, bodies: Sequence[bytes], model: Arrays | None) -> RecordDict:
    """A request: the signed invitation, messages for the node's devices, and the model where they need it."""
    content = RecordDict({SECAGG: ConfigRecord({JWS: invitation, BODIES: list(bodies)})})
    if model is not None:
        content[ARRAYS] = array_record(model)
    return content


def unpack(content: RecordDict, *, masking: bool) -> tuple[list[bytes], Rows | None]:
    """Bodies of a reply, and in the MASK stage the masked vectors ``[devices, bytes]``.

    Raises:
        MalformedInput: it does not have exactly the agreed records.
    """
    if set(content) != ({SECAGG, PAYLOAD} if masking else {SECAGG}):
        raise MalformedInput("a reply holds other records than agreed")
    record = content[SECAGG]
    bodies = record.get(BODIES) if isinstance(record, ConfigRecord) else None
    if not isinstance(record, ConfigRecord) or set(record) != {BODIES} or not isinstance(bodies, list):
        raise MalformedInput("a reply holds no bodies")
    if not all(isinstance(body, bytes) for body in bodies):
        raise MalformedInput("a body is bytes")
    found = [body for body in bodies if isinstance(body, bytes)]
    return found, _rows(content[PAYLOAD]) if masking else None


def _rows(payload: object) -> Rows:
    if not isinstance(payload, ArrayRecord) or set(payload) != {MASKED}:
        raise MalformedInput("masked vectors travel as one array")
    try:
        rows = payload[MASKED].numpy()
    except (ValueError, TypeError, OSError, EOFError, MemoryError):
        raise MalformedInput("the masked vectors cannot be decoded") from None
    if rows.dtype != np.uint8 or rows.ndim != 2:
        raise MalformedInput("masked vectors are bytes, one row per device")
    return rows
