"""The catalogue. Owns its publication (check, number, sign) and reading; the same bytes for everybody."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from common.crypto.signing import SIZE_BYTES_MAX, PublicKey, SigningKey, canonical
from common.errors import MalformedInput, NotFound, PreconditionFailed
from common.taxonomy import Role
from common.wire.documents import open_document, seal
from common.wire.messages import Catalogue, Creative
from server.campaigns import repository
from server.campaigns.repository import StoredCatalogue
from server.storage import Database, exclusive
from server.transparency.publications import catalogue_published
from server.transparency.service import TransparencyLog


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication led to."""

    version: int
    creatives: int
    changed: bool


class CatalogueService:
    """Publishes and reads the catalogue."""

    def __init__(
        self,
        database: Database,
        signer: SigningKey,
        clock: Callable[[], float] = time.time,
        *,
        log: TransparencyLog,
        keys: Mapping[str, PublicKey],
    ) -> None:
        self._database, self._signer, self._clock = database, signer, clock
        self._log, self._keys = log, keys
        self._opened: Catalogue | None = None
        self._lock = threading.Lock()

    def publish(
        self,
        creatives: Sequence[Creative],
        *,
        expected_version: int | None = None,
        actor: str = Role.ADMIN.value,
    ) -> Published:
        """Put these creatives in force; the same creatives again are no new version.

        Args:
            creatives: all of them.
            expected_version: the version that the caller read before; None: whatever it was.
            actor: who publishes, for the transparency log.

        Raises:
            MalformedInput: an id occurs twice, or the catalogue would be too big to be signed.
            PreconditionFailed: another version is in force than the caller expected.
        """
        if len({creative.creative_id for creative in creatives}) != len(creatives):
            raise MalformedInput("catalogue: a creative_id occurs twice")
        digest = _digest(creatives)
        with self._database.write() as session:
            exclusive(session, "catalogue")
            last = repository.newest(session)
            if expected_version not in {None, 0 if last is None else last.version}:
                raise PreconditionFailed("another catalogue has been published since it was read")
            if last is not None and last.digest == digest:
                return Published(last.version, len(creatives), changed=False)
            version = 1 if last is None else last.version + 1
            jws = seal(Catalogue(version=version, creatives=tuple(creatives)), self._signer)
            if len(jws) > SIZE_BYTES_MAX:
                raise MalformedInput(f"catalogue: {len(creatives)} creatives are too many for one signed catalogue")
            repository.insert(session, StoredCatalogue(version, digest, jws), now=int(self._clock()))
            session.flush()
            catalogue_published(session, self._log, version=version, creatives=len(creatives), jws=jws, actor=actor)
        return Published(version, len(creatives), changed=True)

    def current(self) -> StoredCatalogue:
        """The catalogue in force, signed.

        Raises:
            NotFound: none was published.
        """
        with self._database.read() as session:
            found = repository.newest(session)
        if found is None:
            raise NotFound("no catalogue is published")
        return found

    def opened(self) -> Catalogue | None:
        """The catalogue in force, or None. Decoded once per version: a version never changes."""
        with self._database.read() as session:
            version = repository.newest_version(session)
        if version is None:
            return None
        with self._lock:
            if self._opened is None or self._opened.version != version:
                self._opened = open_document(self.current().jws, Catalogue, self._keys)
            return self._opened


def _digest(creatives: Sequence[Creative]) -> str:
    body = Catalogue(version=1, creatives=tuple(creatives)).model_dump_json().encode()
    return hashlib.sha256(canonical(body)).hexdigest()
