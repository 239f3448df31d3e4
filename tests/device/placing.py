"""A device that can place by itself: a model that likes what was bought, and permits as a service signs them."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from client.behavior.events import Purchase
from client.device import OWNER, Node, NodeConfig
from client.placing import Equipment, digest_of
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays, load_network
from common.taxonomy import FeatureBlock, ModelFamily
from common.wire.documents import open_document, seal
from common.wire.messages import Catalogue, Creative, ModelSpec, PlacementPermit, SlotRequest
from policies.loader import DOCUMENTS, read_placement
from policies.placement.assemble import offers
from policies.placement.document import CapRule
from tests.device.conftest import Household
from tests.service.world import catalogue

SPEC = FeatureSpec(
    name="placing",
    version=1,
    categorical=(CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=64),),
    numeric=(
        NumericField(name="discount", block=FeatureBlock.CONTEXT),
        NumericField(name="bought.item.any", block=FeatureBlock.PERSONAL),
        NumericField(name="bought.category.any", block=FeatureBlock.PERSONAL),
        NumericField(name="viewed.item.any", block=FeatureBlock.PERSONAL),
        NumericField(name="bought.activity.one", block=FeatureBlock.PERSONAL),
    ),
)
WEIGHTS = (0.4, 1.5, 0.25, 0.75, -0.5)
"""Of the numbers above, in their order."""
PAGE = {"page": "home"}
MODEL = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.1)


def equipped(home: Household, creatives: Sequence[Creative] | None = None) -> Equipment:
    """What ``Agent.fetch`` would give, signed by this service; the device has bought two of the things."""
    shown = catalogue().creatives if creatives is None else tuple(creatives)
    home.node.close()
    home.node = Node.create(home.node.directory, home.node.settings, NodeConfig(spec=SPEC))
    for one in shown[1:3]:
        event = Purchase(time=home.clock() - 3600, app="grocer", item=one.item_id, attributes=one.attributes)
        home.node.recorder.record(OWNER, event)
    arrays = {name: np.zeros_like(array) for name, array in initial_arrays(MODEL, SPEC).items()}
    arrays["numeric.weight"] = np.array([WEIGHTS], np.float32)
    signed = seal(Catalogue(version=1, creatives=shown), home.world.services.signer)
    text = (DOCUMENTS / "placement.yaml").read_text(encoding="utf-8")
    policy, digest = read_placement(text.encode())
    opened = open_document(signed, Catalogue, home.node.server_keys)
    return Equipment(
        catalogue=opened,
        network=load_network(arrays, MODEL, SPEC),
        model_version=1,
        policy=policy,
        policy_digest=digest,
        policy_text=text,
        catalogue_jws=signed,
        offers=offers(opened.creatives),
    )


def capped(equipment: Equipment, rules: tuple[CapRule, ...]) -> Equipment:
    """The same under a policy with these caps."""
    text = (
        equipment.policy_text
        + "caps:\n"
        + "".join(
            f"  - {{ scope: {rule.scope.value}, views_max: {rule.views_max}, window_hours: {rule.window_hours} }}\n"
            for rule in rules
        )
    )
    policy, digest = read_placement(text.encode())
    assert policy.caps == rules
    assert digest == digest_of(text)
    return replace(equipment, policy=policy, policy_digest=digest, policy_text=text)


def permit(home: Household, equipment: Equipment, count: int = 1, **more: Any) -> str:  # noqa: ANN401 - any field
    """A permit for one slot, as the service signs it."""
    now = int(home.clock())
    fields: dict[str, Any] = {
        "decision_id": f"dec_{secrets.token_hex(8)}",
        "handle": home.agent.handle,
        "slots": (SlotRequest(slot_id="top", count=count),),
        "catalogue_version": equipment.catalogue.version,
        "policy_digest": equipment.policy_digest,
        "model_version": equipment.model_version,
        "issued_at": now,
        "expires_at": now + 300,
    }
    return seal(PlacementPermit(**(fields | more)), home.world.services.signer)
