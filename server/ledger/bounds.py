"""Which bound on ε binds. Owns the rule: the document's, which every device holds, or the officers', if that is lower.

Officers can never allow more than the document, because a device refuses whatever its own copy does not allow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from common.taxonomy import CapState, PrivacyUnit, Purpose, ReleaseKind
from policies.picks import line_of_picks
from policies.releases import line_of_unit
from policies.schema import BudgetLine, PickRules, PrivacyBudgetPolicy
from server.ledger.caps_repository import CAPS
from server.storage import Transaction

CAP: Final = "cap"
"""The bound over all purposes of a line; a quota has its purpose's name."""
PURPOSES: Final = tuple(dict.fromkeys(kind.purpose for kind in ReleaseKind if kind is not ReleaseKind.PRIVATE_PICK))
"""Picks have a ledger, a line and a cap of their own."""
PICKS: Final = ReleaseKind.PRIVATE_PICK.purpose.value
"""The bound over all private picks of one user, on their line alone; ``Bound`` and ``capped`` know nothing of it."""
BoundKey = tuple[PrivacyUnit, str]


@dataclass(frozen=True, slots=True)
class Bound:
    """One bound of one line.

    Attributes:
        document: ε that the privacy budget document allows; devices enforce this one themselves.
        officers: ε that privacy officers allow; None where they have set nothing.
    """

    unit: PrivacyUnit
    bound: str
    document: float
    officers: float | None

    @property
    def in_force(self) -> float:
        """What binds."""
        return self.document if self.officers is None else min(self.document, self.officers)

    @property
    def binding(self) -> str:
        """Whose it is: ``document`` or ``officers``."""
        return "officers" if self.officers is not None and self.officers < self.document else "document"


def capped(session: Transaction, policy: PrivacyBudgetPolicy) -> PrivacyBudgetPolicy:
    """The document with every bound lowered to what privacy officers allow now."""
    found = officers_in_force(session)
    if not found:
        return policy
    return policy.model_copy(update={"lines": tuple(_lowered(line, found) for line in policy.lines)})


def line_of_bound(policy: PrivacyBudgetPolicy, unit: PrivacyUnit, bound: str) -> BudgetLine:
    """The line that an ε under a bound is relative to.

    Raises:
        PolicyError: the document has no such line.
    """
    rules = policy.placement
    if bound == PICKS and rules is not None and line_of_picks(rules).unit is unit:
        return line_of_picks(rules)
    return line_of_unit(policy, unit)


def capped_picks(session: Transaction, rules: PickRules) -> BudgetLine:
    """The line of private picks, its cap lowered to what privacy officers allow now."""
    line = line_of_picks(rules)
    return line.model_copy(update={"epsilon_cap": bound_of_picks(session, rules).in_force})


def bound_of_picks(session: Transaction, rules: PickRules) -> Bound:
    """The cap on private picks, and whose it is."""
    unit = line_of_picks(rules).unit
    return Bound(unit, PICKS, rules.epsilon_cap, officers_in_force(session).get((unit, PICKS)))


def officers_in_force(session: Transaction) -> dict[BoundKey, float]:
    """What privacy officers allow, by line and bound."""
    rows = CAPS.kept_as(session, CapState.IN_FORCE)
    return {(row.unit, row.bound): row.epsilon_max for row in rows}


def bounds_of(policy: PrivacyBudgetPolicy, found: Mapping[BoundKey, float]) -> list[Bound]:
    """Every bound of every line, the line's cap first; a quota that only officers have set is among them."""
    return [
        Bound(line.unit, bound, documented(line, bound), found.get((line.unit, bound)))
        for line in policy.lines
        for bound in (CAP, *(purpose.value for purpose in PURPOSES))
        if bound in {CAP, *line.quotas} or (line.unit, bound) in found
    ]


def documented(line: BudgetLine, bound: str) -> float:
    """ε that the document allows under a bound: a purpose without a quota has the line's cap."""
    return line.epsilon_cap if bound == CAP else line.quotas.get(Purpose(bound), line.epsilon_cap)


def _lowered(line: BudgetLine, found: Mapping[BoundKey, float]) -> BudgetLine:
    quotas = {
        purpose: min(documented(line, purpose), found.get((line.unit, purpose.value), documented(line, purpose)))
        for purpose in PURPOSES
        if purpose in line.quotas or (line.unit, purpose.value) in found
    }
    cap = min(line.epsilon_cap, found.get((line.unit, CAP), line.epsilon_cap))
    return line.model_copy(update={"epsilon_cap": cap, "quotas": quotas})
