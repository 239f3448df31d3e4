"""A decision on its way to becoming an answer. Owns what is known of it at each step."""

from __future__ import annotations

from dataclasses import dataclass

from common.signals.verdict import SignalVerdict
from common.taxonomy import DecisionMode, RefusalReason
from policies.consent import Permit, Refusal
from policies.placement.protocol import Placement
from server.access.principal import Principal
from server.decisions.board import Shape
from server.decisions.in_force import InForce
from server.decisions.request import DecisionRequest


@dataclass(slots=True, eq=False)
class Draft:
    """One decision.

    Attributes:
        moment: seconds since the epoch when it was begun.
        state: what it was made under.
        placements: the contextual answer, made before anything is asked about the person.
        heard: what the signals of the request oppose.
        jurisdiction: of the person, where they are known.
        verdict: the consent gate's word; None until it has spoken.
        recorded: whether it is in the database, committed.
        picked: what a private pick leads to, if one can be used.
        pick_refused: why the request's private pick cannot be used.
        shape: where other decisions have the same placements.
    """

    decision_id: str
    moment: float
    request: DecisionRequest
    caller: Principal
    state: InForce
    placements: tuple[Placement, ...]
    heard: SignalVerdict
    jurisdiction: str | None = None
    verdict: Permit | Refusal | None = None
    recorded: bool = False
    picked: tuple[Placement, ...] | None = None
    pick_refused: RefusalReason | None = None
    shape: Shape | None = None

    @property
    def now(self) -> int:
        """The moment in whole seconds."""
        return int(self.moment)

    @property
    def mode(self) -> DecisionMode:
        """Who chooses."""
        if not isinstance(self.verdict, Permit):
            return DecisionMode.CONTEXTUAL
        return DecisionMode.ON_DEVICE if self.picked is None else DecisionMode.PRIVATE_PICK

    @property
    def told(self) -> InForce:
        """The state that the answer names: that of the arm where the service chose, that of everybody elsewhere."""
        return self.state.device if self.mode is DecisionMode.ON_DEVICE else self.state

    @property
    def answered(self) -> tuple[Placement, ...]:
        """What is answered: the contextual placements, unless a private pick leads to others."""
        return self.placements if self.picked is None or self.mode is not DecisionMode.PRIVATE_PICK else self.picked

    @property
    def reason(self) -> RefusalReason | None:
        """Why nothing personal is used; None with a permit."""
        return self.verdict.reason if isinstance(self.verdict, Refusal) else None
