"""Review states. Owns which move leads from where to where, and whose move it is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from common.errors import NotAllowed, NotInThisState
from common.taxonomy import PlanMove, ReviewState

_S: Final = ReviewState
_MOVES: Final[Mapping[PlanMove, tuple[frozenset[ReviewState], ReviewState]]] = {
    PlanMove.EDIT: (frozenset(_S) - {_S.ARCHIVED}, _S.DRAFT),
    PlanMove.SUBMIT: (frozenset({_S.DRAFT}), _S.SUBMITTED),
    PlanMove.PAUSE: (frozenset({_S.APPROVED}), _S.PAUSED),
    PlanMove.RESUME: (frozenset({_S.PAUSED}), _S.APPROVED),
    PlanMove.ARCHIVE: (frozenset(_S) - {_S.ARCHIVED}, _S.ARCHIVED),
    PlanMove.APPROVE: (frozenset({_S.SUBMITTED}), _S.APPROVED),
    PlanMove.REJECT: (frozenset({_S.SUBMITTED, _S.APPROVED, _S.PAUSED}), _S.REJECTED),
}
OWNERS: Final = frozenset({PlanMove.SUBMIT, PlanMove.PAUSE, PlanMove.RESUME, PlanMove.ARCHIVE})
REVIEWERS: Final = frozenset({PlanMove.APPROVE, PlanMove.REJECT})


def after(state: ReviewState, move: PlanMove) -> ReviewState:
    """The state that a move leads to.

    Raises:
        NotInThisState: it cannot be made from here.
    """
    froms, to = _MOVES[move]
    if state not in froms:
        raise NotInThisState(f"what is {state.value} takes no {move.value}")
    return to


def check_reviewer(move: PlanMove, *, reviewer: str, author: str) -> None:
    """Four eyes: nobody approves what they wrote themself; anybody in office may refuse it.

    Raises:
        NotAllowed: the reviewer is its author.
    """
    if move is PlanMove.APPROVE and reviewer.casefold() == author.casefold():
        raise NotAllowed("whoever wrote this may not approve it; another person has to")
