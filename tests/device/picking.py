"""A device that can pick in private: what it was listed, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass

from client.behavior.events import Purchase
from client.device import OWNER, Node, NodeConfig
from client.pick import Answered, answer
from client.pick_cap import hear
from client.picking import Picker
from client.placing import Equipment
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.wire.messages import DocumentRequest, SlotRequest
from common.wire.pick import CandidateList
from tests.device.conftest import Household
from tests.device.test_placed import SPEC
from tests.service.world import catalogue, register_model

DAY = 86_400
SLOT = (SlotRequest(slot_id="top"),)


@dataclass
class Picking:
    """A device that can pick."""

    home: Household
    listed: CandidateList
    equipment: Equipment

    @property
    def node(self) -> Node:
        return self.home.node

    @property
    def picker(self) -> Picker:
        return Picker(self.home.agent)

    def draw(self, noise: NoiseSource | None = None, best: int = 0, listed: CandidateList | None = None) -> Answered:
        """An answer, made with this noise, of somebody who likes candidate ``best`` most."""

        def scores(one: CandidateList) -> list[float]:
            return [float(i == best) for i in range(len(one.candidates))]

        return answer(self.node, OWNER, listed or self.listed, scores=scores, noise=noise)

    def reopen(self) -> None:
        """What a killed process leaves is what is on the disk."""
        self.node.close()
        self.home.node = Node.open(self.node.directory, self.node.settings)

    def hear_cap(self) -> None:
        """What the service says of the cap now."""
        jws = self.home.agent.send(DocumentRequest(document="pick_cap")).decode()
        hear(self.node, jws, self.node.server_keys)

    def week(self, number: int) -> CandidateList:
        """The list of a week of the next period, with the clock in it and the cap of that moment heard."""
        first = (self.listed.epoch // 4 + 1) * 4
        self.home.clock.now = (first + number) * 7 * DAY + 3600
        self.hear_cap()
        return self.listed.model_copy(update={"epoch": first + number})

    @property
    def spent(self) -> float:
        return self.node.pick_ledger.epsilon(OWNER)


def able_to_pick(agreed: Household) -> Picking:
    """This device, with purchases, a model and the week's list."""
    register_model(agreed.world.services, spec=SPEC)
    agreed.world.services.catalogues.publish(catalogue().creatives)
    agreed.node.close()
    agreed.node = Node.create(agreed.node.directory, agreed.node.settings, NodeConfig(spec=SPEC))
    for item in catalogue().creatives[:4]:
        bought = Purchase(time=agreed.clock() - 3600, app="grocer", item=item.item_id, attributes=item.attributes)
        agreed.node.recorder.record(OWNER, bought)
    equipment = agreed.agent.fetch()
    return Picking(agreed, Picker(agreed.agent).fetch()["default"], equipment)


class Tripwire(SimulationNoise):
    """Noise that may be read so many times."""

    def __init__(self, seed: int, reads: int = 0) -> None:
        super().__init__(seed)
        self.left = reads

    def below(self, bound: int) -> int:
        self.left -= 1
        if self.left < 0:
            raise AssertionError("drawn afresh")
        return super().below(bound)
