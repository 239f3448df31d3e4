"""Changes that two people agree on. Owns who may decide what, and that every step is in the transparency log.

Whoever proposes a change cannot approve it. An approved policy or experiment is in force when the answer arrives: the
approval, the new version and the log's entry are one transaction. Changes of campaigns are made by the slice that owns
them, before the approval is put down: if that fails nothing is approved, and approving again does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Final, Protocol

from common.errors import MalformedInput
from common.taxonomy import ChangeKind, ChangeState, LogKind
from policies.loader import read_placement
from server.access.principal import Principal
from server.experiments.changes import CHANGE, AnyChange, BudgetChange, CreativeChange, ExperimentDraft, PolicyChange
from server.experiments.policies import PlacementPolicies
from server.experiments.repository import CHANGES, Change
from server.experiments.service import Experiments
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

PROPOSAL_DAYS: Final = 14
EVIDENCE_CHARACTERS_MAX: Final = 65_536
_ROOM: Final = "changes"


class CampaignChanges(Protocol):
    """What a proposal may ask of the campaigns."""

    def apply(self, change: CreativeChange | BudgetChange, caller: Principal) -> None:
        """Make the change; making it again changes nothing."""


class Proposals:
    """Proposes, approves and rejects changes."""

    def __init__(
        self,
        database: Database,
        *,
        placement: PlacementPolicies,
        experiments: Experiments,
        campaigns: CampaignChanges,
        log: TransparencyLog,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._placement, self._experiments = database, placement, experiments
        self._campaigns, self._log, self._clock = campaigns, log, clock

    def propose(self, wanted: AnyChange, caller: Principal, *, reason: str, evidence: object = None) -> Change:
        """Ask for a change; nothing takes effect.

        Args:
            wanted: the change.
            caller: the person who asks.
            reason: for whoever decides.
            evidence: JSON: a verdict of ``reticent policy``, figures of a report.

        Raises:
            NotAllowed: nobody in person holds the caller's key.
            PolicyError, InvariantViolated: a policy document is not valid.
            MalformedInput: the evidence is too long.
        """
        person, now = CHANGES.person(caller.holder), int(self._clock())
        text = json.dumps(evidence, sort_keys=True, allow_nan=False)
        if len(text) > EVIDENCE_CHARACTERS_MAX:
            raise MalformedInput("the evidence is too long")
        _check(wanted)
        draft = Change(
            kind=wanted.kind,
            body=wanted.model_dump_json(),
            evidence=text,
            reason=reason,
            state=ChangeState.PROPOSED,
            proposed_by=person,
            proposed_at=now,
            expires_at=now + PROPOSAL_DAYS * 86_400,
        )
        with self._database.write() as session:
            exclusive(session, _ROOM)
            return self._tell(session, CHANGES.add(session, draft), caller)

    def approve(self, number: int, caller: Principal) -> Change:
        """Agree to somebody else's proposal; it is in force when this returns.

        Raises:
            NotFound: there is none of this number.
            NotPending: it was decided, or is too old.
            SecondOfficerNeeded: by the person who proposed it.
            PolicyError, MalformedInput, ExperimentRunning, NotInThisState: it cannot take effect any more.
        """
        person = CHANGES.person(caller.holder)
        wanted = CHANGE.validate_json(self.get(number).body)
        if isinstance(wanted, CreativeChange | BudgetChange):
            with self._database.read() as session:
                CHANGES.waiting(session, number, self._clock(), approver=person)
            self._campaigns.apply(wanted, caller)
        with self._database.write() as session:
            exclusive(session, _ROOM)
            change = CHANGES.waiting(session, number, self._clock(), approver=person)
            promoted = None
            if isinstance(wanted, PolicyChange):
                promoted = self._placement.promote(session, wanted.text, proposal=number, person=person)
            elif isinstance(wanted, ExperimentDraft):
                self._experiments.start(session, wanted)
            done = self._decided(session, change, ChangeState.APPROVED, caller)
            if promoted is not None and isinstance(wanted, PolicyChange):
                self._placement.tell(
                    session, "promoted", promoted, text=wanted.text, actor=caller.actor, reason=change.reason
                )
        return done

    def reject(self, number: int, caller: Principal) -> Change:
        """End a proposal; whoever made it may end it too.

        Raises:
            NotFound, NotPending: as ``approve``.
        """
        CHANGES.person(caller.holder)
        with self._database.write() as session:
            exclusive(session, _ROOM)
            change = CHANGES.waiting(session, number, self._clock())
            return self._decided(session, change, ChangeState.REJECTED, caller)

    def get(self, number: int) -> Change:
        """One of them.

        Raises:
            NotFound: there is none of this number.
        """
        with self._database.read() as session:
            return CHANGES.get(session, number, self._clock())

    def list(self, before: int | None = None, limit: int = 50) -> list[Change]:
        """Everything that was ever proposed, newest first; one that is too old shows as expired."""
        with self._database.read() as session:
            return CHANGES.newest(session, self._clock(), before=before, limit=limit)

    def _decided(self, session: Transaction, change: Change, state: ChangeState, caller: Principal) -> Change:
        after = replace(change, state=state, decided_by=caller.holder, decided_at=int(self._clock()))
        return self._tell(session, after, caller)

    def _tell(self, session: Transaction, change: Change, caller: Principal) -> Change:
        record = change.record(
            change=change.id,
            kind=change.kind.value,
            body=json.loads(change.body),
            evidence=json.loads(change.evidence),
        )
        seq = self._log.append(session, LogKind.EXPERIMENT, record, actor=caller.actor)
        return CHANGES.put(session, replace(change, log_seq=seq))


def _check(wanted: AnyChange) -> None:
    """What could never take effect is not proposed."""
    if wanted.kind is ChangeKind.PLACEMENT_POLICY:
        read_placement(wanted.text.encode())
    elif wanted.kind is ChangeKind.EXPERIMENT:
        for arm in wanted.arms:
            read_placement(arm.policy_text.encode(), arm.name)
