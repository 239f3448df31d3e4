"""The privacy ledger over HTTP, for officers and auditors; caps are for officers alone."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Body, Path, Query, Request, Response

from server.api.deps import ServicesDep
from server.api.paging import PageDep, cut, link
from server.api.security import Caller
from server.ledger.report import ROUNDS_MAX, WEIGHTS_DEFAULT
from server.ledger.repository import StoredCharge
from server.ledger.schemas import (
    BoundAnswer,
    CapAnswer,
    CapList,
    CapProposal,
    EntryAnswer,
    EntryList,
    LedgerAnswer,
    ProjectionAnswer,
    ProjectionList,
    ReleaseAnswer,
    SubjectAnswer,
    SubjectList,
)

router = APIRouter(prefix="/v1/ledger", tags=["privacy ledger"])

_ENTRIES: Final = "ledger-entries"
_SUBJECTS: Final = "ledger-subjects"
_CAPS: Final = "ledger-caps"
Number = Annotated[int, Path(ge=1, le=2**53, examples=[1])]


@router.get("")
def overview(services: ServicesDep) -> LedgerAnswer:
    """The running budget period: every bound with who sets it, what is spent, and what each training cost."""
    return LedgerAnswer.of(services.budgets.overview(), services.budgets.runs())


@router.get("/entries")
def entries(
    request: Request,
    response: Response,
    services: ServicesDep,
    asked: PageDep,
    run_id: Annotated[str | None, Query(pattern=r"^[^\x00-\x1f]{1,200}$", description="Of one training only.")] = None,
) -> EntryList:
    """Charges, oldest first. Who is in them is not told: that would be the history of a device."""
    after = asked.after(_ENTRIES, (int,))
    rows = services.budgets.entries(after=None if after is None else int(after[0]), limit=asked.rows, run_id=run_id)
    found = cut(rows, asked, _ENTRIES, lambda row: (row.id,))
    link(request, response, found)
    return EntryList(entries=tuple(_entry(services, row) for row in found.items), next_cursor=found.next_cursor)


@router.get("/subjects")
def subjects(request: Request, response: Response, services: ServicesDep, asked: PageDep) -> SubjectList:
    """Device identities by pseudonym, with what each has spent and has left in the running period."""
    after = asked.after(_SUBJECTS, (int,))
    rows = services.budgets.subjects(after=None if after is None else int(after[0]), limit=asked.rows)
    found = cut(rows, asked, _SUBJECTS, lambda row: (row.number,))
    link(request, response, found)
    return SubjectList(subjects=tuple(map(SubjectAnswer.of, found.items)), next_cursor=found.next_cursor)


@router.get("/projection")
def projection(
    services: ServicesDep,
    rounds: Annotated[int, Query(ge=0, le=ROUNDS_MAX, description="Further training rounds.")] = 1,
    weights: Annotated[int, Query(ge=1, le=10_000_000, description="Length of the model.")] = WEIGHTS_DEFAULT,
) -> ProjectionList:
    """What further rounds would cost the device that has spent most, and how many still fit."""
    lines = services.budgets.projection(rounds, weights=weights)
    return ProjectionList(lines=tuple(map(ProjectionAnswer.of, lines)))


@router.get("/caps")
def caps(request: Request, response: Response, services: ServicesDep, asked: PageDep) -> CapList:
    """Which bounds bind now, and everything that was proposed, newest first."""
    before = asked.after(_CAPS, (int,))
    rows = services.caps.list(None if before is None else int(before[0]), asked.rows)
    found = cut(rows, asked, _CAPS, lambda cap: (cap.id,))
    link(request, response, found)
    of_picks = services.caps.picks_in_force()
    return CapList(
        in_force=tuple(map(BoundAnswer.of, services.caps.in_force())),
        picks_in_force=None if of_picks is None else BoundAnswer.of(of_picks),
        caps=tuple(map(CapAnswer.of, found.items)),
        next_cursor=found.next_cursor,
    )


@router.post("/caps", status_code=201)
def propose(wanted: Annotated[CapProposal, Body()], services: ServicesDep, caller: Caller) -> CapAnswer:
    """Ask for another bound. It is in force at once if it lowers what binds; otherwise a second officer must agree."""
    cap = services.caps.propose(
        wanted.unit, wanted.bound, wanted.epsilon_max, reason=wanted.reason, holder=caller.holder
    )
    return CapAnswer.of(cap)


@router.post("/caps/{number}/approve")
def approve(number: Number, services: ServicesDep, caller: Caller) -> CapAnswer:
    """Agree to a proposal of another officer: it is in force when this answer arrives."""
    return CapAnswer.of(services.caps.approve(number, holder=caller.holder))


@router.post("/caps/{number}/reject")
def reject(number: Number, services: ServicesDep, caller: Caller) -> CapAnswer:
    """End a proposal, one's own included."""
    return CapAnswer.of(services.caps.reject(number, holder=caller.holder))


def _entry(services: ServicesDep, row: StoredCharge) -> EntryAnswer:
    releases = []
    for release in row.releases:
        kind, use = services.budgets.use(release.use)
        told = ReleaseAnswer(
            kind=kind, purpose=kind.purpose, use=use, epsilon=release.epsilon, rho=release.rho, delta=release.delta
        )
        releases.append(told)
    return EntryAnswer(
        number=row.id,
        cause=row.cause,
        run_id=row.run_id,
        period=row.period,
        day=row.day,
        devices=row.devices,
        unnamed=row.unnamed,
        barred=row.barred,
        settled=row.settled is not None,
        log_seq=row.log_seq,
        releases=tuple(releases),
    )
