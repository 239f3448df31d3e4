"""What a training has cost so far. Owns the server's privacy lines; computing them is ``common.privacy.accountant``'s.

The server states what the policy's mechanism costs a device that took part in every round: an upper bound for all
others. Each device's own ledger says what it really spent.
"""

from __future__ import annotations

from common.privacy import accountant
from common.privacy.parameters import MechanismUse, PrivacyStatement

SCOPE = "a device that took part in every round of this training"


def epsilon_after(release: MechanismUse, rounds: int, delta: float) -> float:
    """ε at ``delta`` of a device that made ``rounds`` such releases; 0 before the first."""
    return accountant.epsilon([release] * rounds, delta)


def privacy_line(release: MechanismUse, rounds: int, *, delta: float, randomness: str) -> PrivacyStatement:
    """The whole sentence for ``rounds`` rounds: never an ε alone."""
    return accountant.statement([release] * rounds, delta, randomness, line=accountant.line_of([release]), scope=SCOPE)
