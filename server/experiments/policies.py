"""Which placement policy is in force. Owns promotion and rollback; nothing is in force that was not read back.

The installation's own file is version 0. What two people have promoted replaces it at the next decision, whatever
process answers that: the version is read anew each time, only documents are remembered, and a version never changes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.crypto.signing import SigningKey
from common.errors import ExperimentRunning, MalformedInput, NotFound
from common.taxonomy import LogKind
from common.wire.documents import seal
from common.wire.messages import PolicyDocument
from policies.loader import read_placement
from policies.placement.document import PlacementPolicy
from server.experiments import repository
from server.experiments.repository import StoredPlacement
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

ROOM: Final = "placement policy"


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """A placement policy, as g takes it and as everybody gets it.

    Attributes:
        policy: the document.
        digest: SHA-256 of its text.
        jws: signed; empty where nobody fetches it by itself (an experiment's arm).
        version: 0 is the installation's own file.
    """

    policy: PlacementPolicy
    digest: str
    jws: str = ""
    version: int = 0


def refuse_while_running(session: Transaction, now: int) -> None:
    """Raises ExperimentRunning where one runs or is about to."""
    if repository.unfinished(session, now) is not None:
        raise ExperimentRunning("an experiment runs or is about to: stop it first")


class PlacementPolicies:
    """The placement policy in force and those before it."""

    def __init__(
        self,
        database: Database,
        own: PolicyInForce,
        *,
        signer: SigningKey,
        log: TransparencyLog,
        clock: Callable[[], float],
    ) -> None:
        """Start with ``own``, the policy of the installation's file."""
        self._database, self._own, self._signer, self._log, self._clock = database, own, signer, log, clock
        self._known: dict[int, PolicyInForce] = {0: own}
        self._lock = threading.Lock()

    def current(self) -> PolicyInForce:
        """The policy in force at this moment."""
        with self._database.read() as session:
            return self.read(session)

    def read(self, session: Transaction) -> PolicyInForce:
        """The policy in force in this transaction."""
        version = repository.placement_version(session)
        with self._lock:
            known = self._known.get(version)
        if known is None:
            known = self._opened(session, version)
            with self._lock:
                self._known = {0: self._own, version: known}
        return known

    def history(self, before: int | None = None, limit: int = 50) -> list[StoredPlacement]:
        """What was put in force, newest first."""
        with self._database.read() as session:
            return repository.placements(session, before=before, limit=limit)

    def promote(self, session: Transaction, text: str, *, proposal: int, person: str) -> PolicyInForce:
        """Put a document in force, in the transaction that approves it.

        Raises:
            PolicyError, InvariantViolated: it is not valid.
            MalformedInput: it is in force already.
            ExperimentRunning: an experiment compares others with the one in force; stop it first.
        """
        exclusive(session, ROOM)
        refuse_while_running(session, int(self._clock()))
        policy, digest = read_placement(text.encode())
        before = self.read(session)
        if before.digest == digest:
            raise MalformedInput("this placement policy is in force already")
        jws = seal(PolicyDocument(digest=digest, text=text), self._signer)
        stored = StoredPlacement(before.version + 1, digest, text, jws, proposal, person, int(self._clock()))
        repository.add_placement(session, stored)
        return PolicyInForce(policy, digest, jws, stored.version)

    def rollback(self, to: int | None, *, person: str, actor: str, reason: str) -> PolicyInForce:
        """Put an earlier version in force again; one person is enough, for it was agreed on before.

        Args:
            to: the version; None: the one before the one in force.
            person: who does it.
            actor: as the log names them.
            reason: for the record.

        Raises:
            NotFound: there is no such version, or none before the one in force.
            ExperimentRunning: an experiment compares others with the one in force; stop it first.
        """
        with self._database.write() as session:
            exclusive(session, ROOM)
            refuse_while_running(session, int(self._clock()))
            now_in_force = self.read(session)
            wanted = self._before(session, now_in_force) if to is None else to
            found = None if wanted == 0 else repository.placement(session, wanted)
            if found is None and (wanted != 0 or now_in_force.version == 0):
                raise NotFound("there is no such version of the placement policy")
            digest, text, jws = (self._own.digest, "", "") if found is None else (found.digest, found.text, found.jws)
            version, now = now_in_force.version + 1, int(self._clock())
            stored = StoredPlacement(version, digest, text, jws, None, person, now)
            repository.add_placement(session, stored)
            done = self._opened(session, stored.version)
            self.tell(session, "rolled back", done, text=text, actor=actor, reason=reason)
        return done

    def tell(self, session: Transaction, event: str, done: PolicyInForce, *, text: str, actor: str, reason: str) -> int:
        """Say in the transparency log what is in force now; the last step of a transaction."""
        record = {
            "document": "placement",
            "event": event,
            "version": done.version,
            "sha256": done.digest,
            "text": text,
            "reason": reason,
        }
        return self._log.append(session, LogKind.POLICY, record, actor=actor)

    def _before(self, session: Transaction, now_in_force: PolicyInForce) -> int:
        """The newest version that says something else than the one in force."""
        for stored in repository.placements(session, before=now_in_force.version, limit=100):
            if stored.digest != now_in_force.digest:
                return stored.version
        return 0

    def _opened(self, session: Transaction, version: int) -> PolicyInForce:
        stored = repository.placement(session, version)
        if stored is None:
            raise NotFound("there is no such version of the placement policy")
        if not stored.jws:  # back to the file
            return PolicyInForce(self._own.policy, self._own.digest, self._own.jws, version)
        policy, digest = read_placement(stored.text.encode())
        return PolicyInForce(policy, digest, stored.jws, version)
