"""The officers' cap on private picks as a document: how it is made, and what a device checks. Pure.

The service makes one for each quarter of an hour and decision, so that everybody gets the same bytes; it may be relied
on for an hour. Who withholds newer ones can therefore keep an older, higher cap alive for that hour and no longer, and
never on a device that has heard of a later decision.
"""

from __future__ import annotations

from typing import Final

from common.errors import TrustError
from common.wire.pick_cap import PickCap
from policies.consent import CLOCK_TOLERANCE_S
from policies.picks import line_of_picks
from policies.schema import PickRules

STEP_S: Final = 900
VALID_S: Final = 3600


def made(rules: PickRules, *, number: int, epsilon_max: float | None, now: float) -> PickCap:
    """The document of this quarter of an hour.

    Args:
        rules: of picks, in the budget document.
        number: of the officers' decision in force, 0 without one.
        epsilon_max: what they allow; None without a decision.
        now: seconds since the epoch.
    """
    line, issued_at = line_of_picks(rules), int(now) // STEP_S * STEP_S
    return PickCap(
        number=number,
        epsilon_max=epsilon_max,
        unit=line.unit,
        relation=line.relation,
        trust=line.trust,
        delta=line.delta,
        period_days=rules.period_days,
        issued_at=issued_at,
        expires_at=issued_at + VALID_S,
    )


def check(rules: PickRules, cap: PickCap, now: float) -> None:
    """The cap is about this document's line, of now, and valid for no longer than any may be.

    Raises:
        TrustError: it is not; no draw may rest on it.
    """
    line = line_of_picks(rules)
    about = (cap.unit, cap.relation, cap.trust, cap.delta, cap.period_days)
    if about != (line.unit, line.relation, line.trust, line.delta, rules.period_days):
        raise TrustError("the cap on private picks is about another line than this device's document")
    if cap.expires_at - cap.issued_at > VALID_S:
        raise TrustError("the cap on private picks claims to be valid for longer than any may be")
    if not cap.issued_at - CLOCK_TOLERANCE_S <= now < cap.expires_at:
        raise TrustError("the cap on private picks is not of now; fetch the lists again")


def follows(cap: PickCap, number: int, epsilon_max: float | None) -> None:
    """The cap may stand after another one that was heard: the same decision again, or a later one.

    Args:
        cap: what is heard now.
        number: of the decision that was heard before.
        epsilon_max: its ε; None without a decision.

    Raises:
        TrustError: it is of an earlier decision, or says something else of the same one.
    """
    if cap.number < number:
        raise TrustError("the cap on private picks is of an earlier decision than one that was heard before")
    if cap.number == number and cap.epsilon_max != epsilon_max:
        raise TrustError("the cap on private picks says another ε of a decision that was heard before")


def in_force(rules: PickRules, cap: PickCap) -> float:
    """ε that one device may spend in a period: the document's, or the officers' where that is lower."""
    return rules.epsilon_cap if cap.epsilon_max is None else min(rules.epsilon_cap, cap.epsilon_max)
