"""Caps of privacy officers: lowering at once, raising by two persons, never above what devices enforce."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from common.crypto.signing import SigningKey
from common.errors import NotAllowed, NotFound, NotPending, OutOfRange, ReticentError, SecondOfficerNeeded
from common.taxonomy import CapState, LogKind, PrivacyUnit, Purpose
from server import migrations
from server.ledger.caps import PROPOSAL_DAYS, CapService
from server.ledger.caps_repository import Cap
from server.ledger.check import verify
from server.ledger.report import LedgerReport
from server.ledger.service import ServerLedger
from server.storage import Database, open_database
from server.transparency.service import TransparencyLog
from tests.ledger.worlds import DAY, HISTOGRAM, NOW, POLICY, ROUND, USER_LINE, USER_ROUND

USER, RECORD = PrivacyUnit.USER, PrivacyUnit.RECORD
ANNA = b"a" * 32


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


class Office:
    """A ledger, its log, and officers."""

    def __init__(self, database: Database) -> None:
        self.database, self.clock = database, Clock()
        self.log = TransparencyLog(database, SigningKey.generate(), clock=self.clock)
        self.ledger = ServerLedger(database, POLICY, now=self.clock, log=self.log)
        self.caps = CapService(database, POLICY, self.log, self.clock)

    def propose(self, value: float, who: str | None = "ana", bound: str = "cap", unit: PrivacyUnit = USER) -> Cap:
        return self.caps.propose(unit, bound, value, reason="a test", holder=who)

    def binding(self, bound: str = "cap") -> tuple[float, str]:
        found = next(one for one in self.caps.in_force() if (one.unit, one.bound) == (USER, bound))
        return found.in_force, found.binding

    def records(self) -> list[dict[str, object]]:
        return [json.loads(e.opening.record) for e in self.log.events(limit=1000, kind=LogKind.CAP) if e.opening]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    database = open_database(f"sqlite:///{tmp_path}/l.db")
    migrations.migrate(database)
    yield Office(database)
    database.close()


def rounds_that_fit(office: Office, identity: bytes) -> int:
    made = 0
    while not office.ledger.reserve("run", f"{identity.hex()[:8]}/{made}", ROUND, [identity]):
        made += 1
    return made


def test_lowering_holds_for_the_very_next_charge(office: Office) -> None:
    assert office.binding() == (5.0, "document")
    office.ledger.reserve("run", "before", ROUND, [ANNA])
    cap = office.propose(0.0)
    assert (cap.state, cap.decided_by, office.binding()) == (CapState.IN_FORCE, "ana", (0.0, "officers"))
    assert office.ledger.barred(ROUND, [ANNA, b"b" * 32]) == {ANNA, b"b" * 32}
    assert office.ledger.reserve("run", "after", ROUND, [ANNA]) == {ANNA}
    assert verify(office.ledger).problems == ()


def test_a_lowered_cap_allows_as_many_rounds_as_the_accountant_says(office: Office) -> None:
    office.propose(2.0)
    (line, _) = LedgerReport(office.database, office.ledger).projection(1, weights=400)
    fits = rounds_that_fit(office, ANNA)
    assert line.rounds_possible == fits > 1
    assert office.ledger.epsilon(ANNA, USER_LINE) <= 2.0
    with office.database.read():
        (found, *_) = LedgerReport(office.database, office.ledger).overview().lines[0].standings
    assert (found.bound.binding, found.over) == ("officers", 0)
    office.propose(1.0)
    (found, *_) = LedgerReport(office.database, office.ledger).overview().lines[0].standings
    assert (found.over, found.remaining) == (1, 0.0)


def test_raising_takes_two_persons_and_any_two_will_do(office: Office) -> None:
    office.propose(1.0)
    wanted = office.propose(3.0)
    assert (wanted.state, office.binding()) == (CapState.PROPOSED, (1.0, "officers"))
    with pytest.raises(SecondOfficerNeeded):
        office.caps.approve(wanted.id, holder="ana")
    assert office.binding() == (1.0, "officers")
    assert office.caps.approve(wanted.id, holder="bo").state is CapState.IN_FORCE
    assert office.binding() == (3.0, "officers")
    with pytest.raises(NotPending):
        office.caps.approve(wanted.id, holder="cy")
    back = office.propose(5.0, "bo")
    office.caps.approve(back.id, holder="ana")
    assert office.binding() == (5.0, "document")
    states = [cap.state for cap in office.caps.list()]
    assert states == [CapState.IN_FORCE, CapState.REPLACED, CapState.REPLACED]


@pytest.mark.parametrize("value", [5.000001, -0.1, math.inf, math.nan, 1e300])
def test_nothing_beyond_what_devices_enforce_is_even_proposed(office: Office, value: float) -> None:
    with pytest.raises(OutOfRange):
        office.propose(value)
    assert office.caps.list() == []


def test_a_quota_is_a_bound_of_its_own(office: Office) -> None:
    measuring, training = Purpose.MEASURE_AGGREGATE.value, Purpose.TRAIN_CONTRIBUTE.value
    office.propose(0.0, bound=measuring)
    assert office.ledger.reserve("run", "m", [HISTOGRAM], [ANNA]) == {ANNA}
    assert office.ledger.reserve("run", "t", [USER_ROUND], [ANNA]) == frozenset()
    assert (office.binding(measuring), office.binding(training)) == ((0.0, "officers"), (4.0, "document"))
    office.propose(0.5, bound=training, unit=RECORD)
    assert office.ledger.reserve("run", "r", ROUND, [b"c" * 32]) == {b"c" * 32}, "a quota the document does not have"
    with pytest.raises(OutOfRange, match="for which something is released"):
        office.propose(1.0, bound="place.personalised")


def test_the_strictest_word_is_the_last_one(office: Office) -> None:
    """A proposal to raise ends when somebody lowers the same bound after it, and when its time is over."""
    office.propose(2.0)
    raising = office.propose(4.0)
    office.propose(1.0, "bo")
    with pytest.raises(NotPending):
        office.caps.approve(raising.id, holder="cy")
    late = office.propose(4.0)
    office.clock.now += PROPOSAL_DAYS * DAY
    assert office.caps.list()[0].state is CapState.EXPIRED
    with pytest.raises(NotPending):
        office.caps.approve(late.id, holder="cy")
    gone = office.propose(4.0)
    office.caps.reject(gone.id, holder="ana")
    with pytest.raises(NotPending):
        office.caps.reject(gone.id, holder="bo")
    with pytest.raises(NotFound):
        office.caps.approve(999, holder="bo")
    assert office.binding() == (1.0, "officers")


@pytest.mark.parametrize("holder", [None, ""])
def test_a_key_without_a_holder_changes_nothing(office: Office, holder: str | None) -> None:
    office.propose(1.0)
    wanted = office.propose(2.0)
    for call in (
        lambda: office.propose(0.5, holder),
        lambda: office.caps.approve(wanted.id, holder=holder),
        lambda: office.caps.reject(wanted.id, holder=holder),
    ):
        with pytest.raises(NotAllowed):
            call()


def test_every_step_is_in_the_log(office: Office) -> None:
    lowered = office.propose(1.0)
    raised = office.caps.approve(office.propose(2.0).id, holder="bo")
    found = [(row["epsilon_max"], row["state"], row["proposed_by"], row["decided_by"]) for row in office.records()]
    assert found == [
        (1.0, "in_force", "ana", "ana"),
        (2.0, "proposed", "ana", None),
        (2.0, "in_force", "ana", "bo"),
    ]
    actors = [entry.leaf.actor for entry in office.log.events(limit=9, kind=LogKind.CAP)]
    assert actors == ["privacy_officer:ana", "privacy_officer:ana", "privacy_officer:bo"]
    assert (lowered.log_seq, raised.log_seq) == (0, 2)


def test_what_cannot_be_logged_does_not_happen(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_arguments: object, **_named: object) -> int:
        raise ReticentError("the log is broken")

    monkeypatch.setattr(TransparencyLog, "append", broken)
    with pytest.raises(ReticentError):
        office.propose(0.0)
    with pytest.raises(ReticentError):
        office.ledger.reserve("run", "s", ROUND, [ANNA])
    assert (office.binding(), office.ledger.charges()) == ((5.0, "document"), [])
    assert office.ledger.epsilon(ANNA) == 0


def test_every_charge_is_in_the_log_and_names_nobody(office: Office) -> None:
    office.ledger.reserve("run", "s", ROUND, [ANNA])
    office.ledger.reserve("run", "s", ROUND, [ANNA, b"b" * 32])
    office.ledger.settle("s", [ANNA])
    office.ledger.charge_unnamed("run", "u", [ROUND[1]], 7)
    entries = office.log.events(limit=9, kind=LogKind.CHARGE)
    records = [json.loads(entry.opening.record) for entry in entries if entry.opening]
    assert [(r["event"], r["cause"], r["devices"], r["unnamed"]) for r in records] == [
        ("charged", "s", 1, 0),
        ("extended", "s", 2, 0),
        ("settled", "s", 2, 0),
        ("charged", "u", 7, 7),
    ]
    assert [charge.log_seq for charge in office.ledger.charges()] == [2, 3]
    assert records[0]["members"] != records[1]["members"]
    assert records[2]["settled"] is not None


def test_two_officers_at_once_do_not_both_win(office: Office) -> None:
    """Eight threads approve one proposal: it is decided once."""
    office.propose(1.0)
    wanted = office.propose(3.0)

    def approve(name: str) -> bool:
        try:
            office.caps.approve(wanted.id, holder=name)
        except NotPending:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(approve, [f"officer-{number}" for number in range(8)]))
    assert sum(won) == 1
    assert len(office.records()) == 3
