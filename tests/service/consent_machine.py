"""People, officers, rounds and a clock, in any order; beside the service a deliberately simple account of the law.

Every decision and every update that a round accepts is compared with the account. What the account says is written
without a look at the service: each condition once, in plain words.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from common.errors import AskedTooEarly, ConsentRefused, NotFound, NoticeExpired
from common.taxonomy import AgeBand, ConsentState, ControlScope, DecisionMode, InvalidationReason, Purpose, Role
from common.wire.consent import SignalEvidence
from common.wire.messages import ConsentChange, ConsentWithdrawal, SlotRequest, SubjectEnrolment
from server.access.principal import Principal
from server.consent.service import ConsentRequest
from server.decisions.request import DecisionRequest
from server.rounds.consent import RoundConsent
from server.settings import RoundConsentRule
from tests.service.consent_account import (
    DAY,
    KEYS,
    NEEDED,
    PAST_DAY,
    PLACES,
    REASK_DAYS,
    Account,
    installation,
    start,
    words,
)
from tests.service.world import catalogue, register_model

PURPOSES = st.one_of(st.just("all"), st.lists(st.sampled_from(Purpose), min_size=1, max_size=2))
ANSWERS = st.one_of(
    st.just(dict.fromkeys(Purpose, "given")),
    st.dictionaries(st.sampled_from(Purpose), st.sampled_from(["given", "given", "refused"]), min_size=1),
)
INDEX = st.integers(0, 5)
RARELY = st.sampled_from([False, False, False, False, False, True])


class People(RuleBasedStateMachine):
    """Some people, an officer, a trainer and a clock. ``blank`` is the installation they begin with."""

    blank: ClassVar[Path]
    steps: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.context = installation(self.blank)
        self.state, self.clock = self.context.__enter__()
        self.services = start(self.state, self.clock)
        self.services.catalogues.publish(catalogue(3).creatives)
        register_model(self.services)
        self.people: dict[str, Account] = {}
        self.stopped: set[tuple[ControlScope, str]] = set()
        self.admitted: set[bytes] = set()
        self.version, self.retired = 1, ""

    def teardown(self) -> None:
        self.services.database.close()
        self.context.__exit__(None, None, None)

    def whom(self, index: int) -> tuple[str, Account] | None:
        everybody = list(self.people.items())
        return everybody[index % len(everybody)] if everybody else None

    def allowed(self, account: Account, purpose: Purpose) -> bool:
        """The account's word, kill switches included."""
        places = {account.place, account.place.split("-")[0]}
        stopped = any(
            (scope is ControlScope.PURPOSE and target in NEEDED[purpose])
            or (scope is ControlScope.JURISDICTION and target in places)
            for scope, target in self.stopped
        )
        return account.live(purpose, self.clock.now) and not stopped

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────

    @initialize(places=st.lists(st.sampled_from(PLACES), min_size=2, max_size=3))
    def some_adults(self, places: list[str]) -> None:
        for number, place in enumerate(places):
            self.enrol(AgeBand.ADULT, place, number)
        self.calm(gpc=False)

    @rule(
        age=st.sampled_from([AgeBand.ADULT, AgeBand.MINOR, AgeBand.UNKNOWN]),
        place=st.sampled_from(PLACES),
        key=st.integers(0, len(KEYS) - 1),
    )
    def enrol(self, age: AgeBand, place: str, key: int) -> None:
        """Also anew, with a key that was here before or is still here under another handle."""
        self.steps["enrol"] += 1
        if len(self.people) >= 6:
            return
        enrolment = SubjectEnrolment(public_key=KEYS[key].x, app_id="a", age_band=age, jurisdiction=place)
        self.people[self.services.consent.enrol(enrolment)] = Account(age, place, KEYS[key])

    @rule(index=INDEX, answers=ANSWERS, gpc=RARELY, old=RARELY)
    def change(self, index: int, answers: dict[Purpose, str], *, gpc: bool, old: bool) -> None:
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        digest = self.services.notices.current("en").digest
        stale = old and bool(self.retired)
        change = ConsentChange.model_validate(
            {
                "handle": handle,
                "notice_digest": self.retired if stale else digest,
                "decisions": answers,
                "locale": "en",
                "surface": "s",
            }
        )
        heard = SignalEvidence(gpc=gpc, opposed=tuple(Purpose) if gpc else ())
        if stale:
            with pytest.raises(NoticeExpired):
                self.services.consent.change(change, Role.DEVICE, heard=lambda _place: heard)
            return
        self.services.consent.change(change, Role.DEVICE, heard=lambda _place: heard)
        for purpose, answer in answers.items():
            self.steps[answer] += 1
            account.given_at.pop(purpose, None)
            account.no_at.pop(purpose, None)
            (account.opposed.add if gpc else account.opposed.discard)(purpose)
            (account.agreed.add if answer == "given" else account.agreed.discard)(purpose)
            if answer == "given":
                account.given_at[purpose] = self.clock.now
            else:
                account.no_at[purpose] = self.clock.now

    @rule(index=INDEX, purposes=PURPOSES)
    def withdraw(self, index: int, purposes: object) -> None:
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        self.steps["withdraw"] += 1
        body = {"handle": handle, "purposes": purposes}
        self.services.consent.withdraw(ConsentWithdrawal.model_validate(body), Role.DEVICE)
        for purpose in Purpose if purposes == "all" else purposes:  # type: ignore[attr-defined]
            account.says_no(purpose, self.clock.now)

    @rule(index=INDEX, purpose=st.sampled_from(Purpose))
    def ask(self, index: int, purpose: Purpose) -> None:
        """A question changes nothing that holds, and is not put before its time."""
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        digest = self.services.notices.current("en").digest
        wanted = ConsentRequest(handle, digest, (purpose,), "en", "prompt")
        said_no = account.no_at.get(purpose)
        if said_no is not None and self.clock.now < said_no + REASK_DAYS[account.place] * DAY:
            with pytest.raises(AskedTooEarly):
                self.services.consent.request(wanted, Role.DEVICE)
            return
        (receipt,) = self.services.consent.request(wanted, Role.DEVICE)
        assert receipt.state is ConsentState.REQUESTED
        if purpose not in account.given_at:
            account.no_at.pop(purpose, None)

    @rule(index=INDEX, on=st.booleans(), what=st.sampled_from(["objects", "restricted"]))
    def object_or_restrict(self, index: int, what: str, *, on: bool) -> None:
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        self.steps[what] += 1
        with self.services.database.write() as session:
            if what == "objects":
                self.services.consent.object(session, handle, on=on)
            else:
                self.services.consent.restrict(session, handle, on=on)
        setattr(account, what, on)

    @rule(index=INDEX, age=st.sampled_from([AgeBand.ADULT, AgeBand.ADULT, AgeBand.MINOR]))
    def rectify(self, index: int, age: AgeBand) -> None:
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        self.steps["rectify"] += 1
        with self.services.database.write() as session:
            self.services.consent.rectify_age_band(session, handle, age)
        if age is not account.age:
            account.given_at.clear()
        account.age = age

    @rule(index=INDEX, really=RARELY)
    def erase(self, index: int, *, really: bool) -> None:
        found = self.whom(index)
        if found is None or not really:
            return
        handle, _ = found
        self.steps["erase"] += 1
        with self.services.database.write() as session:
            self.services.consent.forget(session, handle)
            self.services.log.erase(session, handle)
        del self.people[handle]
        request = DecisionRequest(handle, (SlotRequest(slot_id="a"),))
        assert self.services.decisions.decide(request, Principal(Role.APP_BACKEND)).permit is None

    # ── officers, time, processes ────────────────────────────────────────────────────────────────────────────────────

    @rule(scope=st.sampled_from(["purpose", "jurisdiction"]), purpose=st.sampled_from(Purpose), off=st.booleans())
    def control(self, scope: str, purpose: Purpose, *, off: bool) -> None:
        self.steps["control"] += 1
        kind = ControlScope(scope)
        target = purpose.value if kind is ControlScope.PURPOSE else {"t": "US", "p": "FR", "m": "US-CA"}[purpose[0]]
        if off and len(self.stopped) < 2:
            self.services.controls.kill(kind, target, actor="privacy_officer:a")
            self.stopped.add((kind, target))
        elif (kind, target) in self.stopped:
            self.services.controls.release(kind, target, actor="privacy_officer:a")
            self.stopped.discard((kind, target))
        else:
            with pytest.raises(NotFound):
                self.services.controls.release(kind, target, actor="privacy_officer:a")

    @rule(gpc=RARELY)
    def calm(self, *, gpc: bool) -> None:
        """Everything is released and lifted, and everybody agrees: without this, chance would say no nearly always.

        Under an opposing signal everybody agrees in vain, whatever they agreed to before.
        """
        for kind, target in sorted(self.stopped):
            self.services.controls.release(kind, target, actor="privacy_officer:a")
        self.stopped.clear()
        for index, account in enumerate(self.people.values()):
            for what in ("objects", "restricted"):
                if getattr(account, what):
                    self.object_or_restrict(index, what, on=False)
            asked = [one for one in Purpose if gpc or not account.live(one, self.clock.now)]
            if asked:
                self.change(index, dict.fromkeys(asked, "given"), gpc=gpc, old=False)
        self.start_round()

    @rule(index=INDEX, purpose=st.sampled_from(Purpose))
    def invalidate(self, index: int, purpose: Purpose) -> None:
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        history = self.services.consent.history(handle)
        known = [one for one in history if one.purpose is purpose and one.state is not ConsentState.REQUESTED]
        if not known:
            return
        self.steps["invalidate"] += 1
        reason = InvalidationReason.NO_EVIDENCE
        self.services.consent.invalidate(known[-1].receipt_id, reason, actor="privacy_officer:a")
        if account.given_at.pop(purpose, None) is not None:
            account.no_at.pop(purpose, None)

    @rule(days=st.sampled_from([1, 1, 1, 7, 30, 179]))
    def wait(self, days: int) -> None:
        self.steps["wait"] += 1
        self.clock.advance(days * PAST_DAY)

    @rule()
    def lapse(self) -> None:
        """Marking ended grants changes nothing that holds; afterwards none is left unmarked."""
        self.steps["lapsed"] += self.services.consent.lapse()
        assert self.services.consent.lapse() == 0
        for account in self.people.values():
            ended = [p for p, at in account.given_at.items() if self.clock.now >= at + 180 * DAY]
            for purpose in ended:
                del account.given_at[purpose]

    @rule(marked=st.booleans())
    def half_a_year(self, *, marked: bool) -> None:
        """Everybody agrees, and nobody says anything for as long as a grant lasts."""
        self.calm(gpc=False)
        self.clock.advance(180 * DAY + 60)
        if marked:
            self.lapse()

    @rule(material=st.booleans(), really=RARELY)
    def publish(self, *, material: bool, really: bool) -> None:
        if not really:
            return
        self.retired = self.services.notices.current("en").digest
        self.version += 1
        self.services.notices.publish(words(self.version, material=material))
        self.steps["material" if material else "editorial"] += 1
        if material:
            for account in self.people.values():
                account.given_at.clear()

    @rule(really=RARELY)
    def restart(self, *, really: bool) -> None:
        """Another process takes over: nothing that holds was in memory."""
        if not really:
            return
        self.steps["restart"] += 1
        self.services.database.close()
        self.services = start(self.state, self.clock)

    # ── what must never go wrong ─────────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def everybody_is_decided_for(self) -> None:
        """Whatever has just happened holds at the next decision, for everybody. Runs once after every step."""
        self.steps["steps"] += 1
        for index in range(len(self.people)):
            self.decide(index, gpc=False, stranger=False)

    @rule(index=INDEX, gpc=RARELY, stranger=RARELY)
    def decide(self, index: int, *, gpc: bool, stranger: bool) -> None:
        found = self.whom(index)
        if found is None:
            return
        handle, account = found
        caller = Principal(Role.DEVICE, "somebody-else-entirely") if stranger else Principal(Role.APP_BACKEND)
        request = DecisionRequest(handle, (SlotRequest(slot_id="a"),), gpc=gpc)
        answer = self.services.decisions.decide(request, caller)
        expected = self.allowed(account, Purpose.PLACE_PERSONALISED) and not gpc and not stranger
        assert (answer.mode is DecisionMode.ON_DEVICE) is expected
        assert (answer.permit is not None) is expected
        self.steps["personalised" if expected else "contextual"] += 1

    @rule()
    def start_round(self) -> None:
        """A round asks which devices it may invite."""
        self.admitted = self.asked()

    @rule()
    def accept_updates(self) -> None:
        """It asks again before it accepts their updates."""
        accepted = self.admitted & self.asked()
        self.steps["accepted"] += len(accepted)
        self.steps["kept out"] += len(self.admitted - accepted)
        self.admitted = set()

    def asked(self) -> set[bytes]:
        """Devices that a round may use now: those whose every account of that key agrees, or the test fails."""
        gate = RoundConsent.at(
            self.services.database,
            rules=self.services.policies.policies.purposes,
            signer=self.services.signer,
            rule=RoundConsentRule.SERVICE,
            clock=self.clock,
        )
        purpose, everybody = Purpose.TRAIN_CONTRIBUTE, [key.raw for key in KEYS]
        stopped = any(k is ControlScope.PURPOSE and target in NEEDED[purpose] for k, target in self.stopped)
        try:
            gate.check({purpose})
            assert not stopped
        except ConsentRefused:
            assert stopped
            return set()
        permitted = set(everybody) - gate.refused(everybody, {purpose})
        for key in KEYS:
            held = [account for account in self.people.values() if account.key.raw == key.raw]
            expected = bool(held) and all(self.allowed(account, purpose) for account in held)
            assert (key.raw in permitted) is expected
        return permitted


def machine(blank: Path) -> type[People]:
    return type("PeopleOf", (People,), {"blank": blank, "steps": Counter()})
