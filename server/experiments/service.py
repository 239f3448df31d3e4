"""Experiments. Owns their start, their end and what is in force; whoever is in which arm is no business of the service.

An experiment compares placement policies with the one in force. Devices draw their arms by themselves and tell nobody;
a decision without a person is in the arm that its own id falls into.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from common.crypto.signing import PublicKey, SigningKey
from common.errors import MalformedInput, NotFound
from common.taxonomy import LogKind
from common.wire.documents import open_document, seal
from common.wire.experiments import ExperimentArm, ExperimentDocument
from policies.experiments.arms import arm_of, runs
from policies.loader import read_placement
from server.experiments import repository
from server.experiments.changes import ExperimentDraft
from server.experiments.policies import ROOM, PlacementPolicies, PolicyInForce, refuse_while_running
from server.experiments.repository import StoredExperiment
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog


@dataclass(frozen=True, slots=True)
class ExperimentInForce:
    """A running experiment.

    Attributes:
        document: as it was signed.
        digest: of the document, by which permits and measurements name it.
        jws: as everybody gets it.
        policies: of each arm, by its name.
    """

    document: ExperimentDocument
    digest: str
    jws: str
    policies: Mapping[str, PolicyInForce]

    def drawn(self, seed: str) -> tuple[ExperimentArm, PolicyInForce]:
        """The arm of a decision without a person, by its own id, and the policy of that arm."""
        arm = arm_of(self.document, seed)
        return arm, self.policies[arm.name]


class Experiments:
    """The experiment in force and those before it."""

    def __init__(
        self,
        database: Database,
        placement: PlacementPolicies,
        *,
        signer: SigningKey,
        keys: Mapping[str, PublicKey],
        log: TransparencyLog,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._placement, self._signer, self._keys = database, placement, signer, keys
        self._log, self._clock = log, clock
        self._opened: ExperimentInForce | None = None
        self._lock = threading.Lock()

    def in_force(self) -> ExperimentInForce | None:
        """The experiment that runs at this moment."""
        with self._database.read() as session:
            return self.read(session)

    def read(self, session: Transaction) -> ExperimentInForce | None:
        """The experiment that runs, in this transaction. Documents are opened once; that one runs is read anew."""
        now = self._clock()
        stored = repository.unfinished(session, int(now))
        if stored is None or stored.starts_at > now:
            return None
        with self._lock:
            if self._opened is None or self._opened.digest != stored.digest:
                self._opened = self._open(stored)
            return self._opened if runs(self._opened.document, now) else None

    def stored(self, experiment_id: str) -> StoredExperiment:
        """One that was approved.

        Raises:
            NotFound: there is none of this name.
        """
        with self._database.read() as session:
            found = repository.experiment(session, experiment_id)
        if found is None:
            raise NotFound("no such experiment")
        return found

    def document(self, stored: StoredExperiment) -> ExperimentDocument:
        """Its document, verified."""
        return open_document(stored.jws, ExperimentDocument, self._keys)

    def start(self, session: Transaction, draft: ExperimentDraft) -> ExperimentDocument:
        """Put an experiment in force, in the transaction that approves it.

        Raises:
            PolicyError, InvariantViolated: an arm's policy is not valid.
            MalformedInput: its first arm is not the policy in force, or its name was used.
            ExperimentRunning: another one runs or is about to.
        """
        exclusive(session, ROOM)
        now = int(self._clock())
        refuse_while_running(session, now)
        if repository.experiment(session, draft.experiment_id) is not None:
            raise MalformedInput("an experiment of this name was run before")
        document = self._document(draft, now)
        if document.arms[0].policy_digest != self._placement.read(session).digest:
            raise MalformedInput("the first arm must be the placement policy in force: others are compared with it")
        for arm in document.arms:
            read_placement(arm.policy_text.encode(), arm.name)
        jws = seal(document, self._signer)
        stored = StoredExperiment(document.experiment_id, document.digest, jws, document.starts_at, document.ends_at)
        repository.add_experiment(session, stored)
        return document

    def stop(self, experiment_id: str, *, person: str, actor: str, reason: str) -> StoredExperiment:
        """End an experiment now; one person is enough.

        Raises:
            NotFound: none of this name is running or about to.
        """
        now = int(self._clock())
        with self._database.write() as session:
            exclusive(session, ROOM)
            running = repository.unfinished(session, now)
            if running is None or running.experiment_id != experiment_id:
                raise NotFound("no experiment of this name is running")
            repository.stop(session, experiment_id, by=person, now=now)
            record = {"event": "stopped", "experiment": experiment_id, "sha256": running.digest, "reason": reason}
            self._log.append(session, LogKind.EXPERIMENT, record, actor=actor)
        return self.stored(experiment_id)

    def _document(self, draft: ExperimentDraft, now: int) -> ExperimentDocument:
        starts_at = max(now, draft.starts_at or now)
        try:
            return ExperimentDocument(
                experiment_id=draft.experiment_id,
                salt=secrets.token_hex(16),
                arms=tuple(arm.sealed() for arm in draft.arms),
                starts_at=starts_at,
                ends_at=starts_at + draft.length_s,
                reward=draft.reward,
                method=draft.method,
            )
        except ValidationError as error:
            raise MalformedInput(f"experiment: {error.errors()[0]['msg']}") from None

    def _open(self, stored: StoredExperiment) -> ExperimentInForce:
        document = self.document(stored)
        found = {}
        for arm in document.arms:
            policy, digest = read_placement(arm.policy_text.encode(), arm.name)
            found[arm.name] = PolicyInForce(policy, digest)
        return ExperimentInForce(document, stored.digest, stored.jws, found)
