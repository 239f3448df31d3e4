"""What the signals of a request oppose in this installation. Owns that a purpose falls with what it needs.

Reads strings, keeps none: what comes out are purposes and named reasons.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from common.signals.rules import SignalRules
from common.signals.verdict import Received, SignalVerdict, judge
from common.taxonomy import Purpose, SignalKind, SignalReason
from common.wire.consent import SignalEvidence
from policies.schema import PurposesPolicy


class SignalReader:
    """Reads signals under the rules of one installation."""

    def __init__(self, rules: SignalRules, purposes: PurposesPolicy, clock: Callable[[], float] = time.time) -> None:
        """Use ``rules``; ``purposes`` says what each purpose needs."""
        self.rules, self._purposes, self._clock = rules, purposes, clock
        self._needed = {purpose: _with_needed(purpose, purposes) for purpose in Purpose}

    def judge(self, received: Received) -> SignalVerdict:
        """The verdict over all signals of a request."""
        return judge(received, self.rules, self._clock())

    def opposed(self, verdict: SignalVerdict, jurisdiction: str | None = None) -> dict[Purpose, SignalReason]:
        """Purposes that a verdict opposes, or that need one it opposes, each with the first reason.

        Args:
            verdict: over all signals of a request.
            jurisdiction: of the person, where it is known: the purposes document may say that Global Privacy Control is
                only recorded there. No other signal is ever narrowed.
        """
        direct = self._for(verdict, jurisdiction).opposed
        reasons = {purpose: [direct[p] for p in needed if p in direct] for purpose, needed in self._needed.items()}
        return {purpose: found[0] for purpose, found in reasons.items() if found}

    def opposes(self, verdict: SignalVerdict, purpose: Purpose) -> tuple[bool, bool]:
        """Whether any signal opposes a purpose or what it needs; and whether one does that is not GPC."""
        if not verdict.findings:
            return False, False
        needed = self._needed[purpose]
        direct, others = verdict.opposed, _without_gpc(verdict).opposed
        return any(p in direct for p in needed), any(p in others for p in needed)

    def heeds_gpc(self, jurisdiction: str) -> bool:
        """Whether Global Privacy Control opposes in a jurisdiction."""
        return self._purposes.heeds_gpc(jurisdiction)

    def evidence(self, received: Received, jurisdiction: str) -> SignalEvidence:
        """What is recorded of the signals that came with a decision: no raw string, but what they oppose.

        Args:
            received: the signals of the request that reported it.
            jurisdiction: of the person.
        """
        verdict = self.judge(received)
        sections = (found.section or "unreadable" for found in verdict.findings if found.signal is SignalKind.GPP)
        return SignalEvidence(
            gpc=received.gpc,
            gpp_sections=tuple(sections),
            tcf_sha256=None if received.tcf is None else hashlib.sha256(received.tcf.encode()).hexdigest(),
            us_privacy=received.us_privacy is not None,
            opposed=tuple(sorted(self.opposed(verdict, jurisdiction))),
        )

    def _for(self, verdict: SignalVerdict, jurisdiction: str | None) -> SignalVerdict:
        """The verdict without Global Privacy Control where the person's jurisdiction only has it recorded."""
        if jurisdiction is None or self._purposes.heeds_gpc(jurisdiction):
            return verdict
        return _without_gpc(verdict)


def _without_gpc(verdict: SignalVerdict) -> SignalVerdict:
    return SignalVerdict(tuple(found for found in verdict.findings if found.signal is not SignalKind.GPC))


def _with_needed(purpose: Purpose, purposes: PurposesPolicy) -> tuple[Purpose, ...]:
    """A purpose and everything it needs, itself first."""
    rules = {rule.id: rule.requires for rule in purposes.purposes}
    found = [purpose]
    for one in found:
        found += [needed for needed in rules.get(one, ()) if needed not in found]
    return tuple(found)
