"""Whatever people, officers and time do, in any order: no personalised answer without a live grant.

A second, deliberately simple account of the law is kept beside the service and compared at every decision.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from common.errors import NoticeExpired
from common.taxonomy import AgeBand, DecisionMode, Purpose, Role
from common.wire.messages import ConsentChange, ConsentWithdrawal, SlotRequest, SubjectEnrolment
from server.access.service import Principal
from server.api.services import Services, build_services
from server.decisions.request import DecisionRequest
from server.settings import Settings
from tests.service.test_consent import words
from tests.service.world import Clock, catalogue, register_model

DAY = 86_400
NEEDED = (Purpose.PLACE_PERSONALISED, Purpose.TRAIN_LOCAL)
PURPOSES = st.one_of(st.just("all"), st.lists(st.sampled_from(Purpose), min_size=1))
ANSWERS = st.dictionaries(st.sampled_from(Purpose), st.sampled_from(["given", "refused"]), min_size=1)


@contextmanager
def installation(blank: Path) -> Iterator[tuple[Services, Clock]]:
    folder, clock = Path(tempfile.mkdtemp()), Clock()
    shutil.copytree(blank, folder / "state")
    services = build_services(Settings.at(folder / "state"), clock=clock)
    services.catalogues.publish(catalogue(3).creatives)
    register_model(services)
    try:
        yield services, clock
    finally:
        services.database.close()
        shutil.rmtree(folder)


class Account:
    """What the law says about one person, as plainly as possible."""

    def __init__(self, age: AgeBand) -> None:
        self.age = age
        self.granted_at: dict[Purpose, float] = {}

    def live(self, now: float) -> bool:
        granted = [self.granted_at.get(purpose) for purpose in NEEDED]
        return self.age is AgeBand.ADULT and all(at is not None and now < at + 180 * DAY for at in granted)


class People(RuleBasedStateMachine):
    """Some people, an officer and a clock. ``blank`` is the installation they begin with."""

    blank: ClassVar[Path]

    def __init__(self) -> None:
        super().__init__()
        self.context = installation(self.blank)
        self.services, self.clock = self.context.__enter__()
        self.accounts: dict[str, Account] = {}
        self.notice_version, self.personalised = 1, 0

    def teardown(self) -> None:
        self.context.__exit__(None, None, None)

    @initialize(ages=st.lists(st.sampled_from(AgeBand), min_size=1, max_size=2))
    def enrol(self, ages: list[AgeBand]) -> None:
        for age in (AgeBand.ADULT, *ages):
            enrolment = SubjectEnrolment(public_key="A" * 43, app_id="a", age_band=age, jurisdiction="DE")
            self.accounts[self.services.consent.enrol(enrolment)] = Account(age)

    def whom(self, index: int) -> str:
        return list(self.accounts)[index % len(self.accounts)]

    @rule(index=st.integers(0, 2), answers=ANSWERS, old=st.booleans())
    def change(self, index: int, answers: dict[Purpose, str], *, old: bool) -> None:
        handle, service = self.whom(index), self.services.consent
        digest = self.services.notices.current("en").digest
        if old and self.notice_version > 1:
            digest = self.first_digest
        change = ConsentChange.model_validate(
            {"handle": handle, "notice_digest": digest, "decisions": answers, "locale": "en", "surface": "s"}
        )
        if old and self.notice_version > 1:
            with pytest.raises(NoticeExpired):
                service.change(change, Role.DEVICE)
            return
        service.change(change, Role.DEVICE)
        for purpose, answer in answers.items():
            self.accounts[handle].granted_at.pop(purpose, None)
            if answer == "given":
                self.accounts[handle].granted_at[purpose] = self.clock.now

    @rule(index=st.integers(0, 2), purposes=st.one_of(st.just("all"), st.lists(st.sampled_from(Purpose), min_size=1)))
    def withdraw(self, index: int, purposes: object) -> None:
        handle = self.whom(index)
        body = {"handle": handle, "purposes": purposes}
        self.services.consent.withdraw(ConsentWithdrawal.model_validate(body), Role.DEVICE)
        for purpose in Purpose if purposes == "all" else purposes:
            self.accounts[handle].granted_at.pop(purpose, None)

    @rule(days=st.sampled_from([1, 30, 100, 179]))
    def wait(self, days: int) -> None:
        self.clock.advance(days * DAY)

    @rule(material=st.booleans())
    def publish(self, *, material: bool) -> None:
        if self.notice_version == 1:
            self.first_digest = self.services.notices.current("en").digest
        self.notice_version += 1
        self.services.notices.publish(words(self.notice_version, material=material))
        if material:
            for account in self.accounts.values():
                account.granted_at.clear()

    @rule(index=st.integers(0, 2), gpc=st.booleans(), stranger=st.booleans())
    def decide(self, index: int, *, gpc: bool, stranger: bool) -> None:
        handle = self.whom(index)
        caller = Principal(Role.DEVICE, "somebody-else-entirely") if stranger else Principal(Role.APP_BACKEND)
        request = DecisionRequest(handle, (SlotRequest(slot_id="a"),), gpc=gpc)
        answer = self.services.decisions.decide(request, caller)
        # Grants of one second are pushed apart by a second each, so the last day may end some seconds later.
        account = self.accounts[handle]
        expected = account.live(self.clock.now) and not gpc and not stranger
        assert (answer.mode is DecisionMode.ON_DEVICE) is expected
        assert (answer.permit is not None) is expected
        self.personalised += expected


def machine(blank: Path) -> type[People]:
    return type("PeopleOf", (People,), {"blank": blank})


def test_no_sequence_yields_a_personalised_answer_without_a_live_grant(blank: Path) -> None:
    run_state_machine_as_test(machine(blank), settings=hypothesis_settings(max_examples=15, stateful_step_count=25))


def test_the_machine_can_reach_a_personalised_answer(blank: Path) -> None:
    """Control: the comparison above is not vacuous."""
    people = machine(blank)()
    try:
        people.enrol([AgeBand.MINOR])
        people.change(0, dict.fromkeys(Purpose, "given"), old=False)
        people.decide(0, gpc=False, stranger=False)
        assert people.personalised == 1
    finally:
        people.teardown()
