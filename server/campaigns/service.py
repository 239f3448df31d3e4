"""The catalogue. Owns its publication (gather, check, number, sign) and reading; the same bytes for everybody."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from common.crypto.signing import SIZE_BYTES_MAX, PublicKey, SigningKey, canonical
from common.errors import MalformedInput, NotFound, PreconditionFailed
from common.taxonomy import PlanKind, Role
from common.wire.documents import open_document, seal
from common.wire.messages import Catalogue, Creative
from common.wire.surface import Surface
from policies.placement.lint import special_creatives
from server.campaigns import plan_repository, repository, surface_repository
from server.campaigns.archive import AdArchive
from server.campaigns.compiling import compiled
from server.campaigns.repository import StoredCatalogue
from server.storage import Database, Transaction, exclusive
from server.transparency.publications import catalogue_published
from server.transparency.service import TransparencyLog


@dataclass(frozen=True, slots=True)
class Published:
    """What a publication led to.

    Attributes:
        creatives: how many are in force.
        refused: how many were left out, by the special category that they hint at.
    """

    version: int
    creatives: int
    changed: bool
    refused: Mapping[str, int] = field(default_factory=dict)


def nobody() -> Mapping[str, float]:
    """No counts: no campaign has a crowd."""
    return {}


class CatalogueService:
    """Publishes and reads the catalogue: what the operator lists itself, and approved creatives of running campaigns.

    Args of the constructor:
        archive: the public repository, brought up to date by every publication.
        crowds: noised count of people reached, by campaign.
    """

    def __init__(
        self,
        database: Database,
        signer: SigningKey,
        clock: Callable[[], float] = time.time,
        *,
        log: TransparencyLog,
        keys: Mapping[str, PublicKey],
        crowds: Callable[[], Mapping[str, float]] = nobody,
    ) -> None:
        self._database, self._signer, self._clock = database, signer, clock
        self._log, self._keys, self._crowds = log, keys, crowds
        self.archive: Final = AdArchive(database)
        self._opened: Catalogue | None = None
        self._lock = threading.Lock()

    def publish(
        self,
        creatives: Sequence[Creative],
        *,
        expected_version: int | None = None,
        actor: str = Role.ADMIN.value,
    ) -> Published:
        """Put these creatives in force, beside those of campaigns; the same again are no new version.

        What hints at a special category is left out and counted, and so are creatives of campaigns among them: those
        are approved one by one.

        Args:
            creatives: all that the operator lists itself.
            expected_version: the version that the caller read before; None: whatever it was.
            actor: who publishes, for the transparency log.

        Raises:
            MalformedInput: an id occurs twice, or the catalogue would be too big to be signed.
            PreconditionFailed: another version is in force than the caller expected.
        """
        if len({creative.creative_id for creative in creatives}) != len(creatives):
            raise MalformedInput("catalogue: a creative_id occurs twice")
        crowds = self._crowds()
        with self._database.write() as session:
            done, finish = self._put(session, creatives, crowds, expected_version=expected_version, actor=actor)
            finish()
        return done

    def compile(self, *, actor: str = Role.ADMIN.value) -> Published:
        """Publish what follows from the campaigns as they stand now: what has begun, what has ended, whose crowd grew.

        Raises:
            MalformedInput: the catalogue would be too big to be signed.
        """
        crowds = self._crowds()
        with self._database.write() as session:
            done, finish = self._put(session, None, crowds, actor=actor)
            finish()
        return done

    def compile_in(self, session: Transaction, *, actor: str) -> Callable[[], None]:
        """The same inside the caller's transaction; what is returned writes the log's entry, last."""
        return self._put(session, None, self._crowds(), actor=actor)[1]

    def _put(
        self,
        session: Transaction,
        listed: Sequence[Creative] | None,
        crowds: Mapping[str, float],
        *,
        expected_version: int | None = None,
        actor: str,
    ) -> tuple[Published, Callable[[], None]]:
        """Number, sign and store the catalogue that follows from what is listed and approved."""
        exclusive(session, "catalogue")
        last, now = repository.newest(session), int(self._clock())
        if expected_version not in {None, 0 if last is None else last.version}:
            raise PreconditionFailed("another catalogue has been published since it was read")
        creatives, refused = self._gathered(session, last, listed, crowds, now=now)
        surfaces = tuple(one.signed for one in surface_repository.listed(session, after=None, rows=None))
        digest = _digest(creatives, surfaces)
        if (last is None and not creatives and not surfaces and listed is None) or (
            last is not None and last.digest == digest
        ):
            version = 0 if last is None else last.version
            return Published(version, len(creatives), changed=False, refused=refused), lambda: None
        version = 1 if last is None else last.version + 1
        jws = seal(Catalogue(version=version, creatives=creatives, surfaces=surfaces), self._signer)
        if len(jws) > SIZE_BYTES_MAX:
            raise MalformedInput(f"catalogue: {len(creatives)} creatives are too many for one signed catalogue")
        repository.insert(session, StoredCatalogue(version, digest, jws), now=now)
        session.flush()
        self.archive.published(session, creatives, now=now)

        def finish() -> None:
            catalogue_published(
                session, self._log, version=version, creatives=len(creatives), jws=jws, actor=actor, refused=refused
            )

        return Published(version, len(creatives), changed=True, refused=refused), finish

    def _gathered(
        self,
        session: Transaction,
        last: StoredCatalogue | None,
        listed: Sequence[Creative] | None,
        crowds: Mapping[str, float],
        *,
        now: int,
    ) -> tuple[tuple[Creative, ...], Mapping[str, int]]:
        """All creatives that may be in force, and how many were left out by special category."""
        known = plan_repository.creative_ids(session)
        if listed is None:
            listed = () if last is None else open_document(last.jws, Catalogue, self._keys).creatives
        own = [creative for creative in listed if creative.creative_id not in known]
        campaigns = plan_repository.approved(session, PlanKind.CAMPAIGN)
        approved = plan_repository.approved(session, PlanKind.CREATIVE)
        wanted = [*own, *compiled(campaigns, approved, now=now, crowds=crowds)]
        special = special_creatives(wanted)
        refused = Counter(hint.value for hints in special.values() for hint in hints)
        return tuple(one for one in wanted if one.creative_id not in special), dict(sorted(refused.items()))

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

    def newest_version(self) -> int | None:
        """The version in force, whether or not it can be opened."""
        with self._database.read() as session:
            return repository.newest_version(session)

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


def _digest(creatives: Sequence[Creative], surfaces: Sequence[Surface]) -> str:
    body = Catalogue(version=1, creatives=tuple(creatives), surfaces=tuple(surfaces)).model_dump_json().encode()
    return hashlib.sha256(canonical(body)).hexdigest()
