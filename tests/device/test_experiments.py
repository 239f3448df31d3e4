"""A device in an experiment: it draws its arm by itself, keeps it, replays by it, and sends the same in every arm."""

from __future__ import annotations

import re

import pytest

from client.agent import Agent
from client.device import OWNER
from client.experiments import drawn
from client.placing import again
from common.errors import DigestMismatch
from common.taxonomy import Role
from tests.device.conftest import Household
from tests.device.test_placed import PAGE, agent, permit
from tests.service.test_changes import DAY, OTHER, OWN, answer, digest, propose

__all__ = ["agent"]


def start(home: Household) -> None:
    arms = [
        {"name": "control", "share": 5000, "policy_text": OWN},
        {"name": "narrow", "share": 5000, "policy_text": OTHER},
    ]
    draft = {"kind": "experiment", "experiment_id": "narrower", "arms": arms, "length_s": 14 * DAY}
    assert answer(home.world, propose(home.world, draft).json()["number"], "approve", "wei").status_code == 200


def test_a_device_places_by_its_arm_keeps_it_and_replays_by_it(agreed: Household, agent: Agent) -> None:
    start(agreed)
    equipment = agent.fetch()
    running = agreed.world.services.experiments.in_force()
    assert running is not None
    assert equipment.experiment == running.document
    arm = drawn(running.document, running.digest, agreed.node.device_keys.load(OWNER))
    assert arm is not None
    allowed = permit(agreed)
    sent = len(agreed.wire.requests)
    placed = agent.place(allowed, equipment, context=PAGE, now=agreed.clock())
    assert len(agreed.wire.requests) == sent
    decision_id = agreed.node.placements.read(OWNER)[0].decision_id
    kept = agreed.node.decisions.find(OWNER, decision_id)
    assert kept is not None
    assert (kept.experiment, kept.arm, kept.policy) == (running.digest, arm.name, arm.digest)
    assert sum(one.creative_id is not None for one in placed) == (1 if arm.digest == digest(OTHER) else 2)
    assert again(agreed.node, OWNER, decision_id).placements == placed
    agreed.node.close()


def test_the_service_does_not_learn_the_arm(agreed: Household, agent: Agent) -> None:
    """Neither arm nor its policy is in anything that leaves the device, nor in the service's record of the decision."""
    start(agreed)
    agent.place(permit(agreed), agent.fetch(), context=PAGE, now=agreed.clock())
    for request in agreed.wire.requests:
        said = request.content + str(request.url).encode() + str(request.headers).encode()
        assert not re.search(rb"control|narrow|" + digest(OTHER).encode(), said)
    running = agreed.world.services.experiments.in_force()
    assert running is not None
    report = agreed.world.services.trials.report("narrower")
    assert [arm.counts.units for table in report.tables for arm in table.arms] == [0, 0]
    agreed.node.close()


def test_a_permit_of_another_experiment_is_not_used(agreed: Household, agent: Agent) -> None:
    equipment = agent.fetch()  # before it started
    start(agreed)
    with pytest.raises(DigestMismatch):
        agent.place(permit(agreed), equipment, context=PAGE, now=agreed.clock())
    key = agreed.world.key(Role.ADMIN, holder="ada")
    stop = agreed.world.http.post("/v1/experiments/narrower/stop", json={"reason": "done"}, headers=key)
    assert stop.status_code == 200
    assert agent.place(permit(agreed), agent.fetch(), context=PAGE, now=agreed.clock())
    kept = agreed.node.decisions.find(OWNER, agreed.node.placements.read(OWNER)[0].decision_id)
    assert kept is not None
    assert (kept.experiment, kept.arm) == ("", "")
    agreed.node.close()
