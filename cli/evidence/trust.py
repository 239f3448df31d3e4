"""Whose signatures count. Owns the way from the one key that the verifier was given to all keys of the bundle.

The given key vouches for its successors by the succession documents it signed. It vouches for its predecessors if it
signed the bundle that lists them *and* each of them named its successor, up to the given key.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from common.crypto.signing import PublicKey, key_ring
from common.errors import MalformedInput, TrustError
from common.wire.evidence import BundleKey
from common.wire.keys import follow, open_succession

_KEYS = TypeAdapter(tuple[BundleKey, ...])


def read_key(text: str) -> PublicKey:
    """A public key as people have it: 43 characters, a JWK, a key for signed notes, or a file with one of these.

    Raises:
        MalformedInput: it is none of them.
    """
    path = Path(text)
    if len(text) < 4096 and not text.startswith("{") and path.is_file():
        text = path.read_text("utf-8", errors="replace")
    text = text.strip()
    try:
        if text.startswith("{"):
            record = json.loads(text)
            return PublicKey(record["x"] if "x" in record else record["keys"][0]["x"])
        if text.count("+") >= 2:
            return _note_key(text)
        return PublicKey(text)
    except (ValueError, KeyError, IndexError, TypeError):
        raise MalformedInput("--key takes a public key: 43 characters, a JWK, or a file with one of them") from None


def read_keys(data: bytes) -> tuple[BundleKey, ...]:
    """The keys that a bundle lists; none if the list cannot be read."""
    try:
        return _KEYS.validate_json(data or b"[]")
    except ValidationError:
        return ()


def successors(given: PublicKey, listed: Sequence[BundleKey]) -> dict[str, PublicKey]:
    """The given key and all that it leads to."""
    try:
        return follow(key_ring(given), [key.succession for key in listed if key.succession])
    except TrustError:
        return key_ring(given)


def predecessors(trusted: Mapping[str, PublicKey], listed: Sequence[BundleKey]) -> dict[str, PublicKey]:
    """Listed keys that lead to a trusted one. Only for a list that a trusted key has signed."""
    found = dict(trusted)
    for key in sorted(listed, key=lambda key: -key.number):
        if key.succession is None:
            continue
        older = next((other for other in listed if other.number == key.number - 1), None)
        if older is None or key.kid not in found:
            continue
        candidate = PublicKey(older.x)
        try:
            document, new = open_succession(key.succession, key_ring(candidate))
        except TrustError:
            continue
        if new.kid == key.kid and document.number == key.number and candidate.kid == older.kid:
            found[candidate.kid] = candidate
    return found


def _note_key(text: str) -> PublicKey:
    """``name+hash+base64`` of signed notes; base64 may hold plus signs of its own."""
    return PublicKey.of_raw(base64.b64decode(text.split("+", 2)[2])[1:])
