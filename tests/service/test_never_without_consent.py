"""Whatever people, officers and time do, in any order: nothing personal without a live grant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import run_state_machine_as_test

import server.consent.reading
from common.taxonomy import AgeBand, ConsentState, Purpose
from policies.consent import ConsentFact, ConsentSnapshot, Permit, Refusal
from policies.consent import decide as real
from policies.schema import PurposesPolicy
from tests.service.consent_machine import machine

QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example]
Gate = Callable[[ConsentSnapshot, Purpose, float, PurposesPolicy], Permit | Refusal]


def run(blank: Path, *, examples: int, steps: int) -> dict[str, int]:
    """Play; what happened, counted."""
    played = machine(blank)
    chosen = hypothesis_settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=QUIET,
        phases=[Phase.generate],
        print_blob=False,
    )
    run_state_machine_as_test(played, settings=chosen)
    return dict(played.steps)


HAPPENED = (
    "given", "refused", "withdraw", "wait", "lapsed", "material", "control", "objects", "restricted", "rectify",
    "invalidate", "erase", "enrol", "restart", "personalised", "contextual", "accepted", "kept out",
)  # fmt: skip


def test_no_sequence_yields_anything_personal_without_a_live_grant(blank: Path) -> None:
    found = run(blank, examples=5, steps=50)
    assert found["personalised"] > 0 < found["accepted"]


@pytest.mark.slow
def test_ten_thousand_steps(blank: Path, record_property: Callable[[str, object], None]) -> None:
    found = run(blank, examples=40, steps=400)
    for name, count in sorted(found.items()):
        record_property(name, count)
    assert found["steps"] >= 10_000
    assert [name for name in HAPPENED if not found.get(name)] == []


# ── controls: every condition of the gate is one that the machine would miss ─────────────────────────────────────────


def _with(**changes: object) -> Gate:
    def gate(state: ConsentSnapshot, purpose: Purpose, now: float, rules: PurposesPolicy) -> Permit | Refusal:
        return real(dataclasses.replace(state, **changes), purpose, now, rules)  # type: ignore[arg-type]

    return gate


def _facts(change: Callable[[ConsentFact, float], ConsentFact]) -> Gate:
    def gate(state: ConsentSnapshot, purpose: Purpose, now: float, rules: PurposesPolicy) -> Permit | Refusal:
        facts = {one: change(fact, now) for one, fact in state.facts.items()}
        return real(dataclasses.replace(state, facts=facts), purpose, now, rules)

    return gate


def _again(state: ConsentState) -> Gate:
    """Takes one state for a grant."""
    return _facts(
        lambda fact, now: (
            dataclasses.replace(fact, state=ConsentState.GIVEN, event_time=now, valid_until=now + 60)
            if fact.state is state
            else fact
        )
    )


def _alone(state: ConsentSnapshot, purpose: Purpose, now: float, rules: PurposesPolicy) -> Permit | Refusal:
    """Forgets prerequisites."""
    alone = tuple(rule.model_copy(update={"requires": ()}) for rule in rules.purposes)
    return real(state, purpose, now, rules.model_copy(update={"purposes": alone}))


def _any_notice(state: ConsentSnapshot, purpose: Purpose, now: float, rules: PurposesPolicy) -> Permit | Refusal:
    digests = frozenset(fact.notice_digest for fact in state.facts.values())
    return real(dataclasses.replace(state, current_notices=digests), purpose, now, rules)


BROKEN: dict[str, Gate] = {
    "kill switch": _with(stopped=frozenset()),
    "minors": _with(age_band=AgeBand.ADULT),
    "objection": _with(objection=False),
    "restriction": _with(restricted=False),
    "signals of the request": _with(signal_opt_out=False),
    "signals of the grant": _facts(lambda fact, _: dataclasses.replace(fact, opposed=False)),
    "expiry": _facts(lambda fact, now: dataclasses.replace(fact, event_time=now, valid_until=now + 60)),
    "withdrawal": _again(ConsentState.WITHDRAWN),
    "refusal": _again(ConsentState.REFUSED),
    "invalidation": _again(ConsentState.INVALIDATED),
    "expired": _again(ConsentState.EXPIRED),
    "superseded": _any_notice,
    "prerequisites": _alone,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_gate_that_forgets_one_condition_is_caught(blank: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(server.consent.reading, "decide", BROKEN[name])
    with pytest.raises(AssertionError):
        run(blank, examples=27, steps=400)


def test_a_gate_that_says_yes_to_everything_is_caught(blank: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def yes(_state: object, purpose: Purpose, now: float, _rules: object) -> Permit:
        return Permit(purpose, now + 60, "0" * 64)

    monkeypatch.setattr(server.consent.reading, "decide", yes)
    with pytest.raises(AssertionError):
        run(blank, examples=12, steps=60)
