"""A campaign that is meant for some people is served by the page alone until a noised count says that they are many."""

from __future__ import annotations

import pytest

from client.agent import Agent
from client.device import OWNER
from common.model.feature_spec import FeatureSpec
from server.campaigns.crowd import CROWD_MIN, is_crowd
from tests.device.conftest import Household
from tests.device.test_placed import PAGE, SPEC, agent  # noqa: F401 - a fixture
from tests.service.campaigning import Agency
from tests.service.world import catalogue

HERE = PAGE | {"region": "CN"}
assert isinstance(SPEC, FeatureSpec)


@pytest.mark.parametrize(("reached", "crowd"), [(None, False), (-3.0, False), (CROWD_MIN - 0.01, False), (50.0, True)])
def test_the_threshold_looks_at_the_noised_count(reached: float | None, crowd: bool) -> None:
    assert is_crowd(reached) is crowd


def test_below_the_crowd_the_score_knows_nobody(agreed: Household, agent: Agent) -> None:  # noqa: F811
    world = agreed.world
    world.services.catalogues.publish([])
    agency = Agency(world)
    crowds: dict[str, float] = {}
    world.services.catalogues._crowds = lambda: crowds
    bought = catalogue().creatives[0]
    campaign = agency.campaign(regions=["CN"])
    creative = agency.creative(campaign, item_id=bought.item_id, attributes=dict(bought.attributes))
    agency.approve(f"/v1/campaigns/{campaign}", f"/v1/creatives/{creative}")
    signed = world.services.catalogues.opened()
    assert signed is not None
    assert [one.personal for one in signed.creatives] == [False]

    def shown() -> tuple[float, float, int]:
        answer = world.decide(agreed.agent.handle, agency.backend, context=HERE)
        (placed,) = agent.place(answer["permit"], agent.fetch(), context=HERE, now=agreed.clock())
        assert placed.creative_id == creative
        kept = max(agreed.node.placements.read(OWNER), key=lambda ad: ad.time)
        return kept.score, kept.contextual, len(kept.signals)

    score, contextual, signals = shown()
    assert (score, signals) == (contextual, 0), "nothing that this person bought counts"
    crowds[campaign] = CROWD_MIN + 10.0
    agency.done("POST", "/v1/catalog/compile", key=agency.admin)
    agreed.world.clock.advance(1)
    score, contextual, signals = shown()
    assert score != contextual, "the control: with a crowd, what this person bought counts"
    assert signals > 0
    agreed.node.close()
