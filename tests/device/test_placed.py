"""From the service's permit to the owner's page: an ad that is chosen here leaves its reasons here and nowhere else."""

from __future__ import annotations

import pytest

from client.agent import Agent
from client.behavior.events import Purchase
from client.device import OWNER, Node, NodeConfig
from client.overview import overview
from common.errors import ConsentRefused
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.taxonomy import FeatureBlock, Purpose, Role
from tests.device.conftest import Household
from tests.service.world import APP, catalogue, register_model

SPEC = FeatureSpec(
    name="placed",
    version=1,
    categorical=(
        CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=64),
        CategoricalField(name="page", block=FeatureBlock.CONTEXT, buckets=16),
    ),
    numeric=(
        NumericField(name="discount", block=FeatureBlock.CONTEXT),
        NumericField(name="bought.item.any", block=FeatureBlock.PERSONAL),
        NumericField(name="bought.category.any", block=FeatureBlock.PERSONAL),
    ),
)
PAGE = {"page": "home"}


@pytest.fixture
def agent(agreed: Household) -> Agent:
    register_model(agreed.world.services, spec=SPEC)
    agreed.world.services.catalogues.publish(catalogue().creatives)
    agreed.node.close()
    agreed.node = Node.create(agreed.node.directory, agreed.node.settings, NodeConfig(spec=SPEC))
    for item in catalogue().creatives[:4]:
        bought = Purchase(time=agreed.clock() - 3600, app="grocer", item=item.item_id, attributes=item.attributes)
        agreed.node.recorder.record(OWNER, bought)
    return agreed.agent


def permit(home: Household) -> str:
    headers = home.world.key(Role.APP_BACKEND, app_id=APP)
    return str(home.world.decide(home.agent.handle, headers, slots=[{"slot_id": "top", "count": 2}])["permit"])


def test_reasons_are_kept_for_the_owner_and_nothing_is_sent(agreed: Household, agent: Agent) -> None:
    equipment, allowed = agent.fetch(), permit(agreed)
    before = len(agreed.wire.requests)
    placed = agent.place(allowed, equipment, context=PAGE, now=agreed.clock())
    assert len(agreed.wire.requests) == before, "nothing is sent at decision time"
    shown = overview(agreed.node, OWNER).placements
    assert [ad.creative_id for ad in shown] == [one.creative_id for one in reversed(placed) if one.creative_id]
    assert shown
    first = shown[-1]
    assert first.score == pytest.approx(placed[0].score)
    assert {(one.family, one.attribute) for one in first.signals} <= {("bought", "item"), ("bought", "category")}
    assert first.advertiser
    assert first.payer
    agreed.node.close()


def test_after_a_withdrawal_nothing_is_chosen_and_nothing_is_noted(agreed: Household, agent: Agent) -> None:
    equipment, allowed = agent.fetch(), permit(agreed)
    agreed.node.gate.stop(OWNER, [Purpose.PLACE_PERSONALISED])
    with pytest.raises(ConsentRefused):
        agent.place(allowed, equipment, context=PAGE, now=agreed.clock())
    assert agreed.node.placements.read(OWNER) == []
    agreed.node.close()


def test_reasons_are_erased_with_the_device(agreed: Household, agent: Agent) -> None:
    agent.place(permit(agreed), agent.fetch(), context=PAGE, now=agreed.clock())
    assert agreed.node.placements.read(OWNER)
    agreed.node.erase(OWNER)
    assert overview(agreed.node, OWNER).placements == ()
    agreed.node.close()
