"""Private picks (mode 2): the public lists, what picks have cost devices, and what officers can do about them."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Response
from markupsafe import Markup

from common.taxonomy import CapState, NeighbouringRelation, PrivacyUnit, Purpose, TrustModel
from common.wire.pick import CandidateList
from policies import picks as rules_of_picks
from server.dashboard import charts
from server.dashboard.desk import Desk, DeskDep
from server.ledger.bounds import PICKS
from server.picks.service import PickEpoch, PickStanding

router = APIRouter()
_DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Relative:
    """What an ε of picks is relative to, for the page's macros."""

    delta: float
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    composition: str
    accountant: str = ""


@dataclass(frozen=True, slots=True)
class EpochView:
    """One list in a table."""

    found: PickEpoch
    begins: str
    ends: str

    @property
    def listed(self) -> CandidateList:
        """The list."""
        return self.found.listed


@router.get("/picks")
def picks(desk: DeskDep) -> Response:
    """The line of picks, its lists by slot group and epoch, and the officers' means."""
    standing = desk.services.picks.standing()
    if standing is None:
        return desk.page("picks.html", standing=None)
    rules = standing.rules
    return desk.page(
        "picks.html",
        standing=standing,
        bound=desk.services.caps.picks_in_force(),
        claim=_relative(desk, standing),
        draw=_relative(desk, standing, draw=True),
        epochs=[_view(found, rules.epoch_days) for found in desk.services.picks.epochs()],
        draws=rules_of_picks.draws_of_period(rules),
        chart=_chart(desk, standing),
        left=max(0.0, standing.line.epsilon_cap - standing.epsilon_max),
        pending=[
            cap for cap in desk.services.caps.list(limit=100) if cap.state is CapState.PROPOSED and cap.bound == PICKS
        ],
        bound_name=PICKS,
        stopped=Purpose.PLACE_PERSONALISED.value in {stop.target for stop in desk.services.controls.stopped()},
    )


def _relative(desk: Desk, standing: PickStanding, *, draw: bool = False) -> Relative:
    """Of everything in a period, or of one draw."""
    line, rules, say = standing.line, standing.rules, desk.say
    together = say("all draws of one device in {days} days; at δ = 0 they add up", days=rules.period_days)
    one = say("one draw; repeating it within its epoch costs nothing")
    return Relative(line.delta, line.unit, line.relation, line.trust, one if draw else together)


def _view(found: PickEpoch, epoch_days: int) -> EpochView:
    ends = found.listed.ends_at
    return EpochView(found, _date(ends - epoch_days * _DAY_S), _date(ends))


def _date(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d")


def _chart(desk: Desk, standing: PickStanding) -> Markup | None:
    """Devices by what they have spent."""
    if not standing.spends:
        return None
    say, line = desk.say, standing.line
    unit = say("one " + line.unit.value)
    return charts.columns(
        say("Devices by what they have spent"),
        say(
            "{devices} devices were charged in this period; {exhausted} of them have no draw left.",
            devices=standing.devices,
            exhausted=standing.exhausted,
        ),
        [(f"= {charts.number(spent)}", count) for spent, count in standing.spends],
        horizontal=say("ε at δ = {delta}, for {unit}", delta=f"{line.delta:g}", unit=unit),
        width=charts.HALF,
        height=178 - 16,
    )
