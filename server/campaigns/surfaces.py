"""The placements that apps offer. Owns their changes; every change is in the next signed catalogue.

They travel in the catalogue, so that devices and the service refuse the same things at the same moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Final

from common.errors import NotFound, NotInThisState, PreconditionFailed
from common.taxonomy import LogKind
from server.access.principal import Principal
from server.campaigns import surface_repository as repository
from server.campaigns.service import CatalogueService
from server.campaigns.surface_repository import StoredSurface, SurfaceTerms
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

_ROOM: Final = "plans"


class SurfaceService:
    """The placements of one installation."""

    def __init__(
        self,
        database: Database,
        catalogues: CatalogueService,
        *,
        log: TransparencyLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use ``catalogues`` to publish what was changed and ``log`` for who did."""
        self._database, self._catalogues, self._log, self._clock = database, catalogues, log, clock

    def create(self, slot_id: str, terms: SurfaceTerms, caller: Principal) -> StoredSurface:
        """Offer a placement.

        Raises:
            NotInThisState: there is one of this slot.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            if repository.surface(session, slot_id) is not None:
                raise NotInThisState("there is a placement of this slot; change it instead")
            return self._put(session, slot_id, 1, terms, caller)

    def change(self, slot_id: str, terms: SurfaceTerms, caller: Principal, *, revision: int) -> StoredSurface:
        """Other terms for a placement.

        Raises:
            NotFound: there is none of this slot.
            PreconditionFailed: it has another revision.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            old = self._at(session, slot_id, revision)
            return old if old.terms == terms else self._put(session, slot_id, revision + 1, terms, caller)

    def remove(self, slot_id: str, caller: Principal, *, revision: int) -> None:
        """Offer a placement no more; a request for its slot is answered without its rules.

        Raises:
            NotFound: there is none of this slot.
            PreconditionFailed: it has another revision.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            old = self._at(session, slot_id, revision)
            repository.delete(session, slot_id)
            self._publish(session, "placement-removed", old, caller)

    def get(self, slot_id: str) -> StoredSurface:
        """One placement.

        Raises:
            NotFound: there is none of this slot.
        """
        with self._database.read() as session:
            return self._found(session, slot_id)

    def listed(self, *, after: str | None, rows: int) -> Sequence[StoredSurface]:
        """Placements by slot."""
        with self._database.read() as session:
            return repository.listed(session, after=after, rows=rows)

    def _put(
        self, session: Transaction, slot_id: str, revision: int, terms: SurfaceTerms, caller: Principal
    ) -> StoredSurface:
        made = StoredSurface(slot_id, revision, terms, int(self._clock()))
        repository.put(session, made)
        self._publish(session, "placement-offered" if revision == 1 else "placement-changed", made, caller)
        return made

    def _publish(self, session: Transaction, event: str, surface: StoredSurface, caller: Principal) -> None:
        finish = self._catalogues.compile_in(session, actor=caller.actor)
        record = {
            "event": event,
            "slot_id": surface.slot_id,
            "revision": surface.revision,
            "terms": surface.terms.model_dump(mode="json"),
        }
        self._log.append(session, LogKind.CAMPAIGN, record, actor=caller.actor)
        finish()

    def _at(self, session: Transaction, slot_id: str, revision: int) -> StoredSurface:
        found = self._found(session, slot_id)
        if found.revision != revision:
            raise PreconditionFailed("it has changed since it was read")
        return found

    @staticmethod
    def _found(session: Transaction, slot_id: str) -> StoredSurface:
        found = repository.surface(session, slot_id)
        if found is None:
            raise NotFound("no such placement")
        return found
