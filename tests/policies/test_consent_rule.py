"""``decide``: default deny, precedence, prerequisites; no state permits without a live grant."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.errors import ConsentRefused, UnknownPurpose
from common.taxonomy import AgeBand, ConsentState, Purpose, RefusalReason
from policies import loader
from policies.consent import (
    UNKNOWN_SUBJECT,
    ConsentFact,
    ConsentSnapshot,
    Permit,
    Refusal,
    decide,
    parse_purpose,
)
from policies.schema import PurposesPolicy

RULES = PurposesPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "purposes.yaml"))
DAY = 86_400.0
NOW = 1_800_000_000.0
NOTICE = "a" * 64
GRANT = ConsentFact(ConsentState.GIVEN, NOW - DAY, NOW + DAY, NOTICE)
ALL = ConsentSnapshot(AgeBand.ADULT, dict.fromkeys(Purpose, GRANT), frozenset({NOTICE}))
NEEDS = {
    Purpose.TRAIN_LOCAL: (),
    Purpose.TRAIN_CONTRIBUTE: (Purpose.TRAIN_LOCAL,),
    Purpose.PLACE_PERSONALISED: (Purpose.TRAIN_LOCAL,),
    Purpose.MEASURE_AGGREGATE: (),
}


def with_fact(purpose: Purpose, base: ConsentSnapshot = ALL, **changes: object) -> ConsentSnapshot:
    facts = dict(base.facts) | {purpose: dataclasses.replace(base.facts[purpose], **changes)}  # type: ignore[arg-type]
    return dataclasses.replace(base, facts=facts)


@pytest.mark.parametrize("purpose", Purpose)
def test_live_grants_permit_until_the_first_of_them_ends(purpose: Purpose) -> None:
    assert decide(ALL, purpose, NOW, RULES) == Permit(purpose, NOW + DAY, NOTICE)
    shorter = with_fact(Purpose.TRAIN_LOCAL, valid_until=NOW + 60)
    answer = decide(shorter, purpose, NOW, RULES)
    expected = NOW + 60 if purpose is Purpose.TRAIN_LOCAL or NEEDS[purpose] else NOW + DAY
    assert isinstance(answer, Permit)
    assert answer.valid_until == expected


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (UNKNOWN_SUBJECT, RefusalReason.UNKNOWN_SUBJECT),
        (dataclasses.replace(ALL, age_band=AgeBand.MINOR), RefusalReason.MINOR),
        (dataclasses.replace(ALL, age_band=AgeBand.UNKNOWN), RefusalReason.MINOR),
        (dataclasses.replace(ALL, objection=True), RefusalReason.OBJECTED),
        (dataclasses.replace(ALL, restricted=True), RefusalReason.RESTRICTED),
        (dataclasses.replace(ALL, signal_opt_out=True), RefusalReason.SIGNAL_OPT_OUT),
        (dataclasses.replace(ALL, stopped=frozenset(Purpose)), RefusalReason.KILL_SWITCH),
        (dataclasses.replace(ALL, facts={}), RefusalReason.NO_CONSENT),
        (dataclasses.replace(ALL, current_notices=frozenset()), RefusalReason.SUPERSEDED),
        (dataclasses.replace(ALL, current_notices=frozenset({"b" * 64})), RefusalReason.SUPERSEDED),
    ],
)
def test_reasons(purpose: Purpose, state: ConsentSnapshot, reason: RefusalReason) -> None:
    assert decide(state, purpose, NOW, RULES) == Refusal(purpose, reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"valid_until": NOW}, RefusalReason.EXPIRED),
        ({"valid_until": NOW - 1}, RefusalReason.EXPIRED),
        ({"event_time": NOW - 395 * DAY, "valid_until": NOW + 9 * DAY}, RefusalReason.EXPIRED),
        ({"event_time": NOW + 301}, RefusalReason.UNVERIFIED),
        ({"valid_until": math.nan}, RefusalReason.MALFORMED),
        ({"valid_until": math.inf}, RefusalReason.MALFORMED),
        ({"event_time": -math.inf}, RefusalReason.MALFORMED),
        ({"notice_digest": "b" * 64}, RefusalReason.SUPERSEDED),
        ({"notice_digest": "b" * 64, "valid_until": NOW - 1}, RefusalReason.SUPERSEDED),
        ({"state": ConsentState.REFUSED}, RefusalReason.REFUSED),
        ({"state": ConsentState.WITHDRAWN, "notice_digest": "b" * 64}, RefusalReason.WITHDRAWN),
        ({"state": ConsentState.EXPIRED}, RefusalReason.EXPIRED),
        ({"state": ConsentState.SUPERSEDED}, RefusalReason.SUPERSEDED),
        ({"state": ConsentState.INVALIDATED}, RefusalReason.INVALIDATED),
        ({"opposed": True}, RefusalReason.SIGNAL_OPT_OUT),
        ({"state": ConsentState.REQUESTED}, RefusalReason.NO_CONSENT),
        ({"state": ConsentState.UNKNOWN}, RefusalReason.NO_CONSENT),
    ],
)
def test_a_grant_that_is_not_live(changes: dict[str, object], reason: RefusalReason) -> None:
    state = with_fact(Purpose.TRAIN_LOCAL, **changes)
    assert decide(state, Purpose.TRAIN_LOCAL, NOW, RULES) == Refusal(Purpose.TRAIN_LOCAL, reason)
    for dependent in (Purpose.TRAIN_CONTRIBUTE, Purpose.PLACE_PERSONALISED):
        assert decide(state, dependent, NOW, RULES) == Refusal(dependent, RefusalReason.MISSING_PREREQUISITE)
    assert isinstance(decide(state, Purpose.MEASURE_AGGREGATE, NOW, RULES), Permit)


def test_precedence_from_the_top() -> None:
    """Everything wrong at once; mending the first reason uncovers the next one."""
    fact = ConsentFact(ConsentState.WITHDRAWN, NOW - DAY, NOW - 1, "b" * 64)
    state = ConsentSnapshot(
        AgeBand.MINOR, {Purpose.TRAIN_LOCAL: fact}, frozenset({NOTICE}),
        signal_opt_out=True, stopped=frozenset({Purpose.TRAIN_LOCAL}), objection=True, restricted=True,
    )  # fmt: skip
    given_now = dataclasses.replace(fact, state=ConsentState.GIVEN)
    current = dataclasses.replace(given_now, notice_digest=NOTICE)
    steps: list[tuple[dict[str, object], RefusalReason]] = [
        ({}, RefusalReason.KILL_SWITCH),
        ({"stopped": frozenset()}, RefusalReason.MINOR),
        ({"age_band": AgeBand.ADULT}, RefusalReason.WITHDRAWN),
        ({"facts": {Purpose.TRAIN_LOCAL: given_now}}, RefusalReason.OBJECTED),
        ({"objection": False}, RefusalReason.RESTRICTED),
        ({"restricted": False}, RefusalReason.SIGNAL_OPT_OUT),
        ({"signal_opt_out": False}, RefusalReason.SUPERSEDED),
        ({"facts": {Purpose.TRAIN_LOCAL: current}}, RefusalReason.EXPIRED),
    ]
    for changes, reason in steps:
        state = dataclasses.replace(state, **changes)  # type: ignore[arg-type]
        assert decide(state, Purpose.TRAIN_LOCAL, NOW, RULES) == Refusal(Purpose.TRAIN_LOCAL, reason)


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_without_a_clock_nothing_is_permitted(now: float) -> None:
    assert decide(ALL, Purpose.TRAIN_LOCAL, now, RULES) == Refusal(Purpose.TRAIN_LOCAL, RefusalReason.UNAVAILABLE)


def test_circular_or_missing_rules_permit_nothing() -> None:
    circle = RULES.model_copy(
        update={"purposes": tuple(r.model_copy(update={"requires": (r.id,)}) for r in RULES.purposes)}
    )
    nothing = RULES.model_copy(update={"purposes": ()})
    for rules in (circle, nothing):
        for purpose in Purpose:
            assert isinstance(decide(ALL, purpose, NOW, rules), Refusal)


def test_purposes_are_parsed_or_named_unknown() -> None:
    assert parse_purpose("train.local") is Purpose.TRAIN_LOCAL
    with pytest.raises(UnknownPurpose, match=r"train\.contribute") as caught:
        parse_purpose("sell.everything")
    assert "sell" not in str(caught.value)


def test_a_refusal_is_an_error_with_its_reason() -> None:
    error = Refusal(Purpose.TRAIN_LOCAL, RefusalReason.EXPIRED).error()
    assert isinstance(error, ConsentRefused)
    assert error.reason is RefusalReason.EXPIRED


times = st.floats(NOW - 400 * DAY, NOW + 400 * DAY) | st.sampled_from([math.nan, math.inf])
facts = st.builds(
    ConsentFact,
    st.sampled_from(ConsentState),
    times,
    times,
    st.sampled_from([NOTICE, "b" * 64]),
    st.sampled_from([False, False, True]),
)
snapshots = st.builds(
    ConsentSnapshot,
    st.sampled_from([AgeBand.ADULT, AgeBand.ADULT, AgeBand.MINOR, AgeBand.UNKNOWN]),
    st.dictionaries(st.sampled_from(Purpose), facts),
    st.just(frozenset({NOTICE})),
    known=st.sampled_from([True, True, True, False]),
    objection=st.sampled_from([False, False, False, True]),
    restricted=st.sampled_from([False, False, False, True]),
    signal_opt_out=st.sampled_from([False, False, False, True]),
    stopped=st.frozensets(st.sampled_from(Purpose), max_size=1),
)


def live(state: ConsentSnapshot, purpose: Purpose) -> bool:
    """The definition, written the other way round: every condition that a permit needs."""
    fact = state.facts.get(purpose)
    return (
        fact is not None
        and fact.state is ConsentState.GIVEN
        and fact.event_time <= NOW + 300
        and NOW < fact.valid_until < math.inf
        and fact.event_time + 395 * DAY > NOW
        and fact.notice_digest in state.current_notices
        and state.age_band is AgeBand.ADULT
        and state.known
        and not state.objection
        and not state.restricted
        and not fact.opposed
        and not state.signal_opt_out
        and purpose not in state.stopped
        and all(live(state, needed) for needed in NEEDS[purpose])
    )


@settings(max_examples=500)
@given(snapshots, st.sampled_from(Purpose))
def test_permitted_exactly_when_live(state: ConsentSnapshot, purpose: Purpose) -> None:
    answer = decide(state, purpose, NOW, RULES)
    assert isinstance(answer, Permit) == live(state, purpose)
    assert answer.purpose is purpose


class Lifetime(RuleBasedStateMachine):
    """A person's decisions over time; a small model keeps what must hold and nothing else."""

    @initialize()
    def start(self) -> None:
        self.now = NOW
        self.state = ConsentSnapshot(AgeBand.ADULT, {}, frozenset({NOTICE}))
        self.granted_until: dict[Purpose, float] = {}

    @rule(purpose=st.sampled_from(Purpose), state=st.sampled_from(ConsentState), days=st.integers(1, 500))
    def decided(self, purpose: Purpose, state: ConsentState, days: int) -> None:
        fact = ConsentFact(state, self.now, self.now + days * DAY, min(self.state.current_notices))
        self.state = dataclasses.replace(self.state, facts=dict(self.state.facts) | {purpose: fact})
        self.granted_until.pop(purpose, None)
        if state is ConsentState.GIVEN:
            self.granted_until[purpose] = self.now + min(days, 395) * DAY

    @rule(days=st.integers(0, 200))
    def time_passes(self, days: int) -> None:
        self.now += days * DAY

    @rule()
    def the_notice_changes(self) -> None:
        digest = f"{int(min(self.state.current_notices), 16) + 1:064x}"
        self.state = dataclasses.replace(self.state, current_notices=frozenset({digest}))
        self.granted_until.clear()

    @invariant()
    def nothing_without_a_live_grant(self) -> None:
        for purpose in Purpose:
            wanted = all(self.now < self.granted_until.get(p, -math.inf) for p in (purpose, *NEEDS[purpose]))
            assert isinstance(decide(self.state, purpose, self.now, RULES), Permit) == wanted


TestLifetime = Lifetime.TestCase
