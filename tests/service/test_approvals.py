"""What a second person approves: one rule, the same for caps on ε and for changes; in doubt nothing is decided."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from common.errors import NotAllowed, NotFound, NotPending, ReticentError, SecondOfficerNeeded
from common.taxonomy import CapState, ChangeKind, ChangeState, PrivacyUnit
from server import migrations
from server.approvals import Approvals
from server.experiments.repository import CHANGES, Change
from server.ledger.caps_repository import CAPS, Cap
from server.storage import Database, Transaction, open_database

ASKED: dict[str, Any] = {"reason": "a test", "proposed_by": "Ada", "proposed_at": 100, "expires_at": 200}
CAP = Cap(unit=PrivacyUnit.USER, bound="cap", epsilon_max=1.0, state=CapState.PROPOSED, **ASKED)
CHANGE = Change(kind=ChangeKind.BUDGET, body="{}", evidence="null", state=ChangeState.PROPOSED, **ASKED)
BOTH = pytest.mark.parametrize(("kept", "draft"), [(CAPS, CAP), (CHANGES, CHANGE)], ids=["caps", "changes"])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('approvals')}/a.db")
    migrations.migrate(opened)
    yield opened
    opened.close()


@pytest.fixture
def session(database: Database) -> Iterator[Transaction]:
    with database.sessions() as opened:
        yield opened
        opened.rollback()


@BOTH
def test_somebody_else_may_decide_until_it_lapses(session: Transaction, kept: Approvals[Any, Any], draft: Any) -> None:  # noqa: ANN401 - either
    asked = kept.add(session, draft)
    assert asked == replace(draft, id=asked.id)
    assert kept.waiting(session, asked.id, 199.9, approver="bo") == asked
    assert kept.waiting(session, asked.id, 199.9) == asked, "who only ends it need not be a second person"
    assert kept.newest(session, 200, before=None, limit=5) == [replace(asked, state="expired")]
    assert kept.kept_as(session, draft.state) == [asked], "what lapsed shows as such, and is kept as it was"


@BOTH
@pytest.mark.parametrize(
    ("beyond", "now", "approver", "error"),
    [
        (1, 150, "bo", NotFound),
        (0, 200, "bo", NotPending),
        (0, 200, "ada", NotPending),
        (0, 150, "Ada", SecondOfficerNeeded),
        (0, 150, "aDA", SecondOfficerNeeded),
    ],
)
def test_in_doubt_nothing_is_decided(
    session: Transaction,
    kept: Approvals[Any, Any],
    draft: Any,  # noqa: ANN401 - either
    beyond: int,
    now: float,
    approver: str,
    error: type[ReticentError],
) -> None:
    asked = kept.add(session, draft)
    with pytest.raises(error):
        kept.waiting(session, asked.id + beyond, now, approver=approver)


@BOTH
def test_what_was_decided_or_ended_is_decided_once(
    session: Transaction,
    kept: Approvals[Any, Any],
    draft: Any,  # noqa: ANN401 - either
) -> None:
    asked = kept.add(session, draft)
    after = replace(asked, state=type(draft.state)("rejected"), decided_by="bo", decided_at=150, log_seq=7)
    assert kept.put(session, replace(after, reason="another")).reason == "another"
    assert kept.get(session, asked.id, 150) == after, "what was asked for is never rewritten"
    for approver in ("bo", "cy", None):
        with pytest.raises(NotPending):
            kept.waiting(session, asked.id, 150, approver=approver)


@BOTH
@pytest.mark.parametrize("holder", [None, ""])
def test_a_key_that_nobody_holds_decides_nothing(kept: Approvals[Any, Any], draft: Any, holder: str | None) -> None:  # noqa: ANN401 - either
    assert kept.person("bo") == "bo"
    assert draft.record(own=1) == {"own": 1, "reason": "a test", "state": "proposed", "proposed_by": "Ada"} | {
        "decided_by": None
    }
    with pytest.raises(NotAllowed):
        kept.person(holder)
