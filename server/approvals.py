"""What one person proposes and a second one approves. Owns that rule, and how proposals are kept.

Whatever is in doubt stays as it was: a proposal that is unknown, decided, too old, or the approver's own is refused
before anything is written. What takes effect, and what the log is told, are for the slice whose proposals they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import Any, Generic, Self, TypeVar

from sqlalchemy import BigInteger, Integer
from sqlmodel import Field, SQLModel, col, desc, select

from common.errors import NotAllowed, NotFound, NotPending, SecondOfficerNeeded
from server.storage import Transaction


class ProposalRow(SQLModel):
    """Columns of every table of proposals.

    Attributes:
        state: of an enumeration that has ``proposed`` and ``expired``.
        proposed_by, decided_by: the persons; never the same one where a second one is needed.
        proposed_at, decided_at, expires_at: seconds since the epoch.
        log_seq: the newest entry of the transparency log about it.
    """

    id: int | None = Field(default=None, primary_key=True, sa_type=BigInteger().with_variant(Integer, "sqlite"))
    state: str = Field(max_length=20, index=True)
    reason: str = Field(max_length=500)
    proposed_by: str = Field(max_length=200)
    proposed_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    decided_by: str | None = Field(default=None, max_length=200)
    decided_at: int | None = Field(default=None, sa_type=BigInteger)
    log_seq: int | None = Field(default=None, sa_type=BigInteger)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What every proposal says; see ``ProposalRow``. Its ``id`` is 0 until it is kept."""

    id: int = 0
    state: StrEnum
    reason: str
    proposed_by: str
    proposed_at: int
    expires_at: int
    decided_by: str | None = None
    decided_at: int | None = None
    log_seq: int | None = None

    def at(self, now: float) -> Self:
        """As it stands at this moment: one that waited too long has expired."""
        lapsed = self.state == "proposed" and now >= self.expires_at
        return replace(self, state=type(self.state)("expired")) if lapsed else self

    def record(self, **own: object) -> dict[str, object]:
        """What the transparency log is told: ``own``, and where the proposal stands by whom."""
        told = {"reason": self.reason, "proposed_by": self.proposed_by, "decided_by": self.decided_by}
        return own | told | {"state": self.state.value}


@dataclass(frozen=True, slots=True)
class Refusals:
    """What is said where a proposal is unknown, no longer waits, is the approver's own; or a key is nobody's."""

    unknown: str
    decided: str
    own: str
    nobody: str


P = TypeVar("P", bound=Proposal)
R = TypeVar("R", bound=ProposalRow)


class Approvals(Generic[P, R]):
    """Proposals of one kind. Every call is inside the caller's transaction, which holds the room of that kind."""

    def __init__(self, table: type[R], proposal: Callable[[R], P], refusals: Refusals) -> None:
        """Keep them in ``table``; ``proposal`` reads a row."""
        self._table, self._proposal, self._refusals = table, proposal, refusals

    def person(self, holder: str | None) -> str:
        """Who acts.

        Raises:
            NotAllowed: nobody in person holds the key.
        """
        if not holder:
            raise NotAllowed(self._refusals.nobody)
        return holder

    def add(self, session: Transaction, draft: P) -> P:
        """Keep a new one: the same with its number."""
        told = {one.name: getattr(draft, one.name) for one in fields(draft) if one.name != "id"}
        plain: dict[str, Any] = {name: one.value if isinstance(one, StrEnum) else one for name, one in told.items()}
        row = self._table(**plain)
        session.add(row)
        session.flush()
        return replace(draft, id=row.id or 0)

    def get(self, session: Transaction, number: int, now: float) -> P:
        """One of them, as it stands now.

        Raises:
            NotFound: there is none of this number.
        """
        row = session.get(self._table, number)
        if row is None:
            raise NotFound(self._refusals.unknown)
        return self._proposal(row).at(now)

    def newest(self, session: Transaction, now: float, *, before: int | None, limit: int) -> list[P]:
        """A page as they stand now, newest first; ``before``: the last number of the page before."""
        query = select(self._table).order_by(desc(col(self._table.id))).limit(limit)
        if before is not None:
            query = query.where(col(self._table.id) < before)
        return [self._proposal(row).at(now) for row in session.exec(query)]

    def kept_as(self, session: Transaction, state: StrEnum) -> list[P]:
        """All that are kept in this state, oldest first."""
        query = select(self._table).where(col(self._table.state) == state.value).order_by(col(self._table.id))
        return [self._proposal(row) for row in session.exec(query)]

    def waiting(self, session: Transaction, number: int, now: float, *, approver: str | None = None) -> P:
        """One that can still be decided, by this approver if one is named.

        Raises:
            NotFound: there is none of this number.
            NotPending: it was decided, or is too old.
            SecondOfficerNeeded: the approver is who proposed it, however they write their name.
        """
        found = self.get(session, number, now)
        if found.state != "proposed":
            raise NotPending(self._refusals.decided)
        if approver is not None and approver.casefold() == found.proposed_by.casefold():
            raise SecondOfficerNeeded(self._refusals.own)
        return found

    def put(self, session: Transaction, after: P) -> P:
        """Store what became of one; what was asked for, by whom and when, never changes."""
        row = session.get_one(self._table, after.id)
        row.state, row.decided_by, row.decided_at = after.state.value, after.decided_by, after.decided_at
        row.log_seq = after.log_seq
        session.add(row)
        session.flush()
        return after


def shared(row: ProposalRow) -> dict[str, Any]:
    """The fields of ``Proposal`` in a row, without its state, which is each slice's own."""
    return {one.name: getattr(row, one.name) for one in fields(Proposal) if one.name != "state"}
