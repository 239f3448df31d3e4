"""Private picks at the desk: lists, charges, who has none left, and how officers end them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from sqlalchemy import text

from common.taxonomy import RefusalReason
from common.wire.pick import CandidateList, Pick
from policies import picks
from server.api.services import Services
from server.picks.service import PickClaim
from tests.desk.accessible import bare_epsilons, faults
from tests.desk.conftest import Installed, TurnedClock, Visit

RELATIVE = {
    "en": ("δ", "one user", "replace one", "no trust in the server", "composition"),
    "zh-CN": ("δ", "一位用户", "替换一个", "无需信任服务器", "组合"),
}


def handles(services: Services, number: int) -> list[str]:
    with services.database.read() as session:
        rows = session.execute(text("SELECT handle FROM subject ORDER BY handle LIMIT :n"), {"n": number})
        return [str(handle) for (handle,) in rows]


def charged(
    services: Services, listed: CandidateList, names: Sequence[str], index: int = 2
) -> list[RefusalReason | None]:
    pick = Pick(
        slot_group=listed.slot_group,
        epoch=listed.epoch,
        index=index,
        epsilon=listed.epsilon,
        list_hash=listed.digest,
    )
    with services.database.write() as session:
        return services.picks.charge(session, [PickClaim(handle, pick) for handle in names])


@pytest.fixture
def listed(services: Services, clock: TurnedClock) -> CandidateList:
    """The first list of a budget period."""
    rules = picks.rules_of(services.policies.policies.privacy_budget)
    period_s = rules.period_days * 86_400
    clock.ahead += math.ceil(clock() / period_s) * period_s + 60 - clock()
    return services.picks.lists.current("default")[1]


@pytest.mark.parametrize("language", ["en", "zh-CN"])
def test_the_panel_says_what_picks_have_cost(
    services: Services, filled: Installed, clock: TurnedClock, listed: CandidateList, language: str
) -> None:
    visit = Visit(services, language=language)
    visit.sign_in(filled.keys["lin.officer"])
    names = handles(services, 5)
    assert charged(services, listed, names) == [None] * 5
    html = visit.get("/picks").text
    assert faults(html) == []
    assert bare_epsilons(html, words=RELATIVE[language]) == []
    assert listed.digest[:10] in html
    row = html.partition("<tbody>")[2].partition("</tbody>")[0]
    assert [cell in row for cell in ('<td class="n">4</td>', '<td class="n">1</td>', '<td class="n">5</td>')] == [
        True
    ] * 3
    standing = services.picks.standing()
    assert standing is not None
    assert (standing.devices, standing.exhausted, standing.epsilon_max) == (5, 0, 1.0)
    for _ in range(3):
        clock.ahead += 7 * 86_400
        visit.sign_in(filled.keys["lin.officer"])
        assert charged(services, services.picks.lists.current("default")[1], names[:2]) == [None] * 2
    standing = services.picks.standing()
    assert standing is not None
    assert (standing.exhausted, standing.spends) == (2, ((1.0, 3), (4.0, 2)))
    assert '<span class="figure">2</span>' in visit.get("/picks").text
    assert len(services.picks.epochs()) == 4


def test_looking_publishes_no_list(services: Services, officer: Visit) -> None:
    assert services.picks.epochs() == []
    assert "No list was published in this period" in officer.get("/picks").text
    assert services.picks.epochs() == []


def test_officers_end_picks_at_once_and_two_bring_them_back(
    services: Services, officer: Visit, second: Visit, listed: CandidateList
) -> None:
    first, later = handles(services, 2)
    assert charged(services, listed, [first]) == [None]
    officer.sign_in_again()
    page = officer.get("/picks").text
    assert "Allow no further draw" in page
    bound = services.caps.picks_in_force()
    assert bound is not None
    answer = officer.post("/caps", unit="user", bound=bound.bound, epsilon_max="0", reason="a pause")
    assert "The cap is lowered" in answer.text
    assert "cap of private picks" in answer.text
    assert charged(services, listed, [first, later]) == [None, RefusalReason.BUDGET_EXHAUSTED]
    assert officer.client.get("/v1/candidates/default").status_code == 404, "nobody draws what is not taken"
    assert "δ = 0</b>" in answer.text
    officer.get("/picks")
    officer.post("/caps", unit="user", bound=bound.bound, epsilon_max="4", reason="the review is done")
    pending = services.caps.list(limit=1)[0]
    assert "Decide on it" in officer.get("/picks").text
    assert charged(services, listed, [later]) == [RefusalReason.BUDGET_EXHAUSTED], "one officer raises nothing"
    second.sign_in_again()
    second.get("/caps")
    second.post(f"/caps/{pending.id}", decision="approve")
    assert charged(services, listed, [later]) == [None]
    assert officer.client.get("/v1/candidates/default").status_code == 200
    officer.get("/picks")
    assert officer.post("/caps", unit="user", bound=bound.bound, epsilon_max="4.5", reason="more").status_code == 422


def test_the_lines_of_training_know_nothing_of_the_cap_on_picks(services: Services, officer: Visit) -> None:
    before = services.caps.in_force()
    bound = services.caps.picks_in_force()
    assert bound is not None
    services.caps.propose(bound.unit, bound.bound, 1.0, reason="a pause", holder="ana")
    assert services.caps.in_force() == before
    lowered = services.caps.picks_in_force()
    assert lowered is not None
    assert (lowered.in_force, lowered.binding) == (1.0, "officers")
    rows = officer.client.get("/desk/exports/caps?format=csv").text.splitlines()
    line = next(row for row in rows if "place.personalised" in row)
    assert "replace_one" in line
    assert "secure aggregation" not in line
