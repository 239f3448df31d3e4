"""Erased subjects of the ledger. Owns how their spend is kept inside a budget period without keeping their name.

A subject that is erased loses its pseudonym. If it has spent anything in the running period, a keyed tombstone stands
in its place: HMAC-SHA-256(epoch key, pseudonym). Should the same identity come back inside the period, it is found by
that tombstone and goes on with what it has spent: erasing refills nothing. With the period the key is destroyed, and
nobody can tell any more whose the tombstone was. Who has spent nothing in the period gets random bytes at once.

What a tombstone is not: proof against whoever holds this database *and* a candidate identity key inside the period.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from typing import Final

from server.ledger import repository
from server.ledger.repository import PSEUDONYM_BYTES, SubjectSpend, pseudonym
from server.storage import Transaction

KEY_BYTES: Final = 32


def resolve(
    session: Transaction, identities: Iterable[bytes], period: int
) -> tuple[dict[bytes, bytes], dict[bytes, SubjectSpend]]:
    """Under which name each identity stands, and those of the names that are known with their spend.

    Args:
        session: the transaction.
        identities: identity public keys.
        period: the running one.
    """
    names = {identity: pseudonym(identity) for identity in identities}
    found = repository.subjects(session, names.values())
    key = repository.epoch_key(session, period)
    if key is None or len(found) == len(names):  # nobody was erased in this period, or nobody of these
        return names, found
    stones = {who: _stone(key, name) for who, name in names.items() if name not in found}
    erased = repository.subjects(session, stones.values())
    return names | {who: stone for who, stone in stones.items() if stone in erased}, found | erased


def bury(session: Transaction, identities: Iterable[bytes], period: int) -> int:
    """Take the pseudonyms of these identities away; how many were known. The caller holds the ledger exclusively.

    **Privacy:** nothing is spent and nothing refilled. The numbers by which charges name their members stay.
    """
    names = {pseudonym(identity) for identity in identities}
    found = repository.subjects(session, names)
    for name, subject in found.items():
        if subject.period >= period:
            stone = _stone(_key(session, period), name)
        else:
            stone = secrets.token_bytes(PSEUDONYM_BYTES)
        repository.rename(session, subject.number, stone, erased_in=period)
    return len(found)


def retire(session: Transaction, period: int) -> int:
    """Destroy the keys of periods that are over; how many there were."""
    return repository.drop_epoch_keys(session, before=period)


def _key(session: Transaction, period: int) -> bytes:
    found = repository.epoch_key(session, period)
    if found is None:
        found = secrets.token_bytes(KEY_BYTES)
        repository.add_epoch_key(session, period, found)
    return found


def _stone(key: bytes, name: bytes) -> bytes:
    return hmac.digest(key, b"reticent ledger tombstone\0" + name, hashlib.sha256)[:PSEUDONYM_BYTES]
