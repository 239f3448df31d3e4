"""What the signals of a request oppose in this installation. Owns that a purpose falls with what it needs.

Reads strings, keeps none: what comes out are purposes and named reasons.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from common.signals.rules import SignalRules
from common.signals.verdict import Received, SignalVerdict, judge
from common.taxonomy import Purpose, SignalReason
from policies.schema import PurposesPolicy


class SignalReader:
    """Reads signals under the rules of one installation."""

    def __init__(self, rules: SignalRules, purposes: PurposesPolicy, clock: Callable[[], float] = time.time) -> None:
        """Use ``rules``; ``purposes`` says what each purpose needs."""
        self.rules, self._clock = rules, clock
        self._needed = {purpose: _with_needed(purpose, purposes) for purpose in Purpose}

    def judge(self, received: Received) -> SignalVerdict:
        """The verdict over all signals of a request."""
        return judge(received, self.rules, self._clock())

    def opposed(self, verdict: SignalVerdict) -> dict[Purpose, SignalReason]:
        """Purposes that a verdict opposes, or that need one it opposes, each with the first reason."""
        direct = verdict.opposed
        reasons = {purpose: [direct[p] for p in needed if p in direct] for purpose, needed in self._needed.items()}
        return {purpose: found[0] for purpose, found in reasons.items() if found}


def _with_needed(purpose: Purpose, purposes: PurposesPolicy) -> tuple[Purpose, ...]:
    """A purpose and everything it needs, itself first."""
    rules = {rule.id: rule.requires for rule in purposes.purposes}
    found = [purpose]
    for one in found:
        found += [needed for needed in rules.get(one, ()) if needed not in found]
    return tuple(found)
