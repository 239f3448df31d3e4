"""What a training has cost so far. Owns the server's privacy lines; computing them is ``common.privacy.accountant``'s.

The server states what the policy's mechanism costs a device that took part in every round: an upper bound for all
others. Each device's own ledger says what it really spent.
"""

from __future__ import annotations

from typing import TypedDict

from common.privacy import accountant
from common.privacy.parameters import MechanismUse, PrivacyStatement

SCOPE = "a device that took part in every round of this training"
LINES_MAX = 100


class Wording(TypedDict):
    """What a statement needs beside the releases."""

    delta: float
    randomness: str


def epsilon_after(release: MechanismUse, rounds: int, delta: float) -> float:
    """ε at ``delta`` of a device that made ``rounds`` such releases; 0 before the first."""
    return accountant.epsilon([release] * rounds, delta)


def privacy_line(release: MechanismUse, rounds: int, *, delta: float, randomness: str) -> PrivacyStatement:
    """The whole sentence for ``rounds`` rounds: never an ε alone."""
    return accountant.statement([release] * rounds, delta, randomness, line=accountant.line_of([release]), scope=SCOPE)


def privacy_lines(release: MechanismUse, rounds: int, *, delta: float, randomness: str) -> tuple[PrivacyStatement, ...]:
    """What goes with a model: the line for all rounds first, then how it grew by round (up to ``LINES_MAX``)."""
    total = privacy_line(release, rounds, delta=delta, randomness=randomness)
    if rounds > LINES_MAX:
        return (total,)
    line = accountant.line_of([release])
    growth = (
        accountant.statement([release] * k, delta, randomness, line=line, scope=f"after round {k} of {rounds}")
        for k in range(1, rounds + 1)
    )
    return (total, *growth)
