"""Keys that this installation has published: which sign now, which signed before. Owns their table and rotation.

The private key in force is a file; the database knows public keys only. Rotation can be cut off anywhere and is taken
up again: the new private key is on disk before the database names it, and takes its place only afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from common.crypto import keyfile
from common.crypto.signing import PublicKey, SigningKey
from common.errors import MalformedInput
from common.taxonomy import LogKind, Role
from common.wire.keys import seal_succession
from server.storage import Database, Transaction, exclusive
from server.transparency import key_repository
from server.transparency.key_repository import StoredKey
from server.transparency.service import TransparencyLog

_ROOM: Final = "published keys"
_NEXT: Final = ".next"


class KeyRing(Mapping[str, PublicKey]):
    """Every key that may have signed something of ours, by id: the one in force and those it succeeded.

    A key that it does not know is looked for in the database, so that a running worker follows a rotation.
    """

    def __init__(self, database: Database, own: PublicKey) -> None:
        """``own`` is known without asking anybody."""
        self._database, self._known = database, {own.kid: own}

    def __getitem__(self, kid: str) -> PublicKey:
        """The key of that id; KeyError for one that was never published."""
        if kid not in self._known:
            self._read()
        return self._known[kid]

    def __iter__(self) -> Iterator[str]:
        self._read()
        return iter(self._known)

    def __len__(self) -> int:
        self._read()
        return len(self._known)

    def _read(self) -> None:
        self._known |= {stored.key.kid: stored.key for stored in published(self._database)}


def published(database: Database) -> list[StoredKey]:
    """Every published key, oldest first."""
    with database.read() as session:
        return key_repository.every(session)


def publish_first(database: Database, log: TransparencyLog, key: PublicKey) -> None:
    """Publish the key in force if none is published yet.

    Raises:
        MalformedInput: another key is in force: the key file is not the one this database belongs to.
    """
    with database.write() as session:
        exclusive(session, _ROOM)
        newest = key_repository.newest(session)
        if newest is None:
            key_repository.add(session, StoredKey(1, key, log.now(), None, None))
            record = {"event": "published", "number": 1, "kid": key.kid, "x": key.x}
            log.append(session, LogKind.KEY, record, actor=Role.ADMIN.value)
        elif newest.key.kid != key.kid:
            raise MalformedInput(
                "the signing key is not the one that this database has published last; put that one back, "
                "or rotate: reticent server rotate-key"
            )


def rotate(database: Database, log: TransparencyLog, path: Path) -> StoredKey:
    """Put a new signing key in force: named by the old one, published, logged; the old private key is destroyed.

    Args:
        database: where keys are published.
        log: gets one entry.
        path: the private key file in force.

    Returns:
        The new key as published. Services that run keep signing with the old one until they are restarted; what they
        sign verifies, because old keys stay published.

    Raises:
        MalformedInput: the key file is not the one in force.
        FileNotFoundError: there is none.
    """
    recover(database, path)
    old, waiting = keyfile.load(path), path.with_name(path.name + _NEXT)
    new = keyfile.load_or_create(waiting).public
    with database.write() as session:
        exclusive(session, _ROOM)
        last = key_repository.newest(session)
        if last is None or last.key.kid != old.kid:
            raise MalformedInput("the signing key is not the one that this database has published last")
        stored = _succeed(session, last, old, new, now=max(log.now(), last.published_at))
        record = {
            "event": "succeeded",
            "number": stored.number,
            "kid": new.kid,
            "x": new.x,
            "old_kid": old.kid,
            "succession": stored.succession,
        }
        log.append(session, LogKind.KEY, record, actor=Role.ADMIN.value)
    recover(database, path)
    return stored


def recover(database: Database, path: Path) -> None:
    """Put the key that the database names in its place; a rotation may have been cut off before that.

    Several processes may do so at once: whoever finds nothing waiting any more was second.
    """
    waiting = path.with_name(path.name + _NEXT)
    if not waiting.exists():
        return
    with database.read() as session:
        last = key_repository.newest(session)
    with contextlib.suppress(FileNotFoundError):
        if last is not None and keyfile.load(waiting).kid == last.key.kid:
            waiting.replace(path)


def _succeed(session: Transaction, last: StoredKey, old: SigningKey, new: PublicKey, *, now: int) -> StoredKey:
    number = last.number + 1
    jws = seal_succession(old, new, number=number, not_before=now)
    stored = StoredKey(number, new, now, None, jws)
    key_repository.retire(session, last.number, now=now)
    key_repository.add(session, stored)
    return stored
