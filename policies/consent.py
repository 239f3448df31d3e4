"""Who may be treated how. Owns the pure rule ``decide``: state in, Permit or Refusal out; no clock, no storage.

Default deny: everything that is not a live grant under a current notice, with its prerequisites, by an adult, is a
Refusal with its reason. Precedence: kill switch, age, withdrawal, objection or restriction, opt-out signal, superseded
notice, expiry, grant. GDPR Art. 7 and PIPL Art. 14-16 are the clauses behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from common.errors import ConsentRefused, UnknownPurpose
from common.taxonomy import AgeBand, ConsentState, Purpose, RefusalReason
from policies.schema import PurposesPolicy

CLOCK_TOLERANCE_S = 300.0
"""How far ahead the clock of whoever recorded a decision may be before the decision is not believed."""

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ConsentFact:
    """The latest recorded decision of one subject about one purpose. Times are seconds since the epoch, UTC.

    Attributes:
        opposed: a privacy signal that came with the decision opposes the purpose; the strictest signal wins.
    """

    state: ConsentState
    event_time: float
    valid_until: float
    notice_digest: str
    opposed: bool = False


@dataclass(frozen=True, slots=True)
class ConsentSnapshot:
    """Everything ``decide`` may look at.

    Attributes:
        age_band: as declared; anything but ADULT is protected.
        facts: latest decision per purpose; a missing purpose was never decided.
        current_notices: digests of the notice texts in force (one per language); a grant under any other is superseded.
        known: whether the subject is known at all.
        objection: a general objection to personalised treatment (GDPR Art. 21).
        restricted: the person has had processing restricted (GDPR Art. 18); what is stored is not used.
        signal_opt_out: an opt-out signal (GPC, GPP) was received.
        stopped: purposes that a privacy officer has switched off, for everybody or for this person's jurisdiction.
    """

    age_band: AgeBand
    facts: Mapping[Purpose, ConsentFact]
    current_notices: frozenset[str]
    known: bool = True
    objection: bool = False
    restricted: bool = False
    signal_opt_out: bool = False
    stopped: frozenset[Purpose] = field(default_factory=frozenset)


UNKNOWN_SUBJECT = ConsentSnapshot(AgeBand.UNKNOWN, {}, frozenset(), known=False)


@dataclass(frozen=True, slots=True)
class Permit:
    """Yes, for one purpose, until ``valid_until`` (seconds since the epoch; the earliest of all grants needed)."""

    purpose: Purpose
    valid_until: float
    notice_digest: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """No, for one purpose, and why."""

    purpose: Purpose
    reason: RefusalReason

    def error(self) -> ConsentRefused:
        """The refusal as an exception, for callers that cannot go on."""
        return ConsentRefused(self.reason)


def parse_purpose(text: str) -> Purpose:
    """The purpose with this id.

    Raises:
        UnknownPurpose: there is none; the text given is not echoed.
    """
    try:
        return Purpose(text)
    except ValueError:
        raise UnknownPurpose(f"unknown purpose; the purposes are {', '.join(Purpose)}") from None


def decide(state: ConsentSnapshot, purpose: Purpose, now: float, rules: PurposesPolicy) -> Permit | Refusal:
    """Whether ``purpose`` is permitted at ``now``.

    Args:
        state: what is known about the subject.
        purpose: what one wants to do.
        now: seconds since the epoch.
        rules: purposes with their prerequisites, and how long a grant may hold at most.
    """
    if not math.isfinite(now):
        return Refusal(purpose, RefusalReason.UNAVAILABLE)
    return _decide(state, purpose, now, rules, frozenset())


def _decide(
    state: ConsentSnapshot, purpose: Purpose, now: float, rules: PurposesPolicy, asking: frozenset[Purpose]
) -> Permit | Refusal:
    """``asking`` holds the purposes whose prerequisite is being decided: a circle of prerequisites permits nothing."""
    rule = next((rule for rule in rules.purposes if rule.id is purpose), None)
    if rule is None or purpose in asking:
        return Refusal(purpose, RefusalReason.UNAVAILABLE)
    reason = _subject_refusal(state, purpose)
    if reason is not None:
        return Refusal(purpose, reason)
    fact = state.facts.get(purpose)
    if fact is None:
        return Refusal(purpose, RefusalReason.NO_CONSENT)
    valid_until = min(fact.valid_until, fact.event_time + rules.validity_days_max * _DAY_S)
    reason = _fact_refusal(fact, valid_until, now, state.current_notices)
    if reason is not None:
        return Refusal(purpose, reason)
    for needed in rule.requires:
        answer = _decide(state, needed, now, rules, asking | {purpose})
        if isinstance(answer, Refusal):
            return Refusal(purpose, RefusalReason.MISSING_PREREQUISITE)
        valid_until = min(valid_until, answer.valid_until)
    return Permit(purpose, valid_until, fact.notice_digest)


def _subject_refusal(state: ConsentSnapshot, purpose: Purpose) -> RefusalReason | None:
    """Reasons that stand above what was granted, in their order of precedence."""
    fact = state.facts.get(purpose)
    withdrawn = fact is not None and fact.state is ConsentState.WITHDRAWN
    checks = (
        (purpose in state.stopped, RefusalReason.KILL_SWITCH),
        (not state.known, RefusalReason.UNKNOWN_SUBJECT),
        (state.age_band is not AgeBand.ADULT, RefusalReason.MINOR),
        (withdrawn, RefusalReason.WITHDRAWN),
        (state.objection, RefusalReason.OBJECTED),
        (state.restricted, RefusalReason.RESTRICTED),
        (state.signal_opt_out or (fact is not None and fact.opposed), RefusalReason.SIGNAL_OPT_OUT),
    )
    return next((reason for holds, reason in checks if holds), None)


_NO_GRANT = {
    ConsentState.UNKNOWN: RefusalReason.NO_CONSENT,
    ConsentState.REQUESTED: RefusalReason.NO_CONSENT,
    ConsentState.INVALIDATED: RefusalReason.INVALIDATED,
    ConsentState.REFUSED: RefusalReason.REFUSED,
    ConsentState.WITHDRAWN: RefusalReason.WITHDRAWN,
    ConsentState.SUPERSEDED: RefusalReason.SUPERSEDED,
    ConsentState.EXPIRED: RefusalReason.EXPIRED,
}


def _fact_refusal(
    fact: ConsentFact, valid_until: float, now: float, current_notices: frozenset[str]
) -> RefusalReason | None:
    """Why this recorded decision is no live grant, or None if it is one."""
    if fact.state is not ConsentState.GIVEN:
        return _NO_GRANT.get(fact.state, RefusalReason.NO_CONSENT)
    if not (math.isfinite(fact.event_time) and math.isfinite(fact.valid_until)):
        return RefusalReason.MALFORMED
    if fact.event_time > now + CLOCK_TOLERANCE_S:
        return RefusalReason.UNVERIFIED
    if fact.notice_digest not in current_notices:
        return RefusalReason.SUPERSEDED
    return None if now < valid_until else RefusalReason.EXPIRED
