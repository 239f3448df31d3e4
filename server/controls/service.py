"""Kill switches. Owns stopping and releasing: in force at the next decision and the next round, and in the log.

Nothing is cached: decisions and rounds read the table in their own transactions. A stop says nothing about consent:
when it is released, what people decided holds again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Final

from common.errors import MalformedInput, NotFound
from common.taxonomy import ControlScope, LogKind, Purpose
from server.controls import repository
from server.controls.repository import Stopped
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

_ROOM: Final = "controls"
_JURISDICTION: Final = re.compile(r"[A-Z]{2}(-[A-Z0-9]{1,3})?", re.ASCII)
_CAMPAIGN: Final = re.compile(r"\S(.{0,198}\S)?")


class Controls:
    """The kill switches of one installation."""

    def __init__(self, database: Database, log: TransparencyLog, clock: Callable[[], float] = time.time) -> None:
        """Use ``log`` for every stop and release."""
        self._database, self._log, self._clock = database, log, clock

    def kill(self, scope: ControlScope, target: str, *, actor: str, note: str = "") -> Stopped:
        """Stop a purpose, a campaign or a jurisdiction. Stopping it again changes nothing.

        Args:
            scope: what kind of thing.
            target: a purpose id; an advertiser or creative id; a country or country and subdivision.
            actor: role and holder.
            note: for other officers; it goes into the log.

        Raises:
            MalformedInput: the target is none of that scope.
        """
        _check(scope, target)
        with self._database.write() as session:
            exclusive(session, _ROOM)
            wanted = Stopped(scope, target, int(self._clock()), actor, note)
            if not repository.stop(session, wanted):
                return next(s for s in repository.stopped(session) if (s.scope, s.target) == (scope, target))
            self._note(session, "stopped", wanted)
        return wanted

    def release(self, scope: ControlScope, target: str, *, actor: str, note: str = "") -> None:
        """Let something run again.

        Raises:
            NotFound: it is not stopped.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            if not repository.release(session, scope, target):
                raise NotFound("this is not stopped")
            self._note(session, "released", Stopped(scope, target, int(self._clock()), actor, note))

    def stopped(self) -> list[Stopped]:
        """Everything that is stopped now."""
        with self._database.read() as session:
            return repository.stopped(session)

    def stopped_campaigns(self) -> frozenset[str]:
        """Campaigns that are stopped now."""
        with self._database.read() as session:
            return repository.stopped_campaigns(session)

    def _note(self, session: Transaction, event: str, about: Stopped) -> None:
        record = {"event": event, "scope": about.scope.value, "target": about.target, "note": about.note}
        self._log.append(session, LogKind.CONTROL, record, actor=about.stopped_by)


def _check(scope: ControlScope, target: str) -> None:
    """Raises MalformedInput for a target that could never match anything."""
    known = {
        ControlScope.PURPOSE: target in set(Purpose),
        ControlScope.CAMPAIGN: bool(_CAMPAIGN.fullmatch(target)),
        ControlScope.JURISDICTION: bool(_JURISDICTION.fullmatch(target)),
    }
    if not known[scope]:
        raise MalformedInput(f"this is no {scope.value}")
