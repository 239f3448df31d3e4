"""Private pick on the device: paid before it is drawn, kept, repeated, and never drawn a second time."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from client.behavior.events import Purchase
from client.device import OWNER, Node, NodeConfig
from client.pick import Answered, answer, own_scores
from client.picking import Picker
from client.placing import Equipment
from common.crypto.signing import SigningKey
from common.errors import (
    BudgetExhausted,
    ConsentRefused,
    DigestMismatch,
    EgressRefused,
    LedgerRolledBack,
    StoreError,
    TrustError,
    UnknownSigner,
)
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.taxonomy import DecisionMode, Purpose, RefusalReason, Role
from common.wire.documents import seal
from common.wire.messages import SlotRequest
from common.wire.pick import CandidateList
from policies.picks import planned
from policies.placement.assemble import inputs
from policies.placement.document import PlacementPolicy, ScoreRule
from policies.placement.inputs import Inputs
from tests.device.conftest import Household
from tests.device.test_placed import SPEC
from tests.service.world import APP, catalogue, register_model

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

    @property
    def spent(self) -> float:
        return self.node.pick_ledger.epsilon(OWNER)


@pytest.fixture
def picking(agreed: Household) -> Picking:
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


def test_an_answer_is_charged_once_and_repeated_for_nothing(picking: Picking) -> None:
    first = picking.draw(SimulationNoise(1))
    assert (first.charge.epsilon, picking.spent) == (1.0, 1.0)
    for seed in range(5):
        again = picking.draw(Tripwire(seed), best=5)
        assert (again.pick, again.charge.epsilon) == (first.pick, 0.0)
    picking.reopen()
    assert picking.draw(Tripwire(9)).pick == first.pick
    assert picking.spent == 1.0
    assert picking.node.ledger.epsilon(OWNER) == 0.0, "nothing of it is on another line"


def test_different_people_of_one_seed_differ_only_by_the_mechanism(picking: Picking) -> None:
    """The device draws by the mechanism itself: the same noise and the same best candidates give the same answer."""
    from common.privacy.top_m import draw

    scores = [float(i == 6) for i in range(8)]
    assert picking.draw(SimulationNoise(4), best=6).pick.index == draw(
        picking.listed.drawn_by, scores, SimulationNoise(4)
    )


# ── crashes ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """The process ends here."""


def killed(*_: object, **__: object) -> None:
    raise Killed


def test_killed_between_charge_and_draw_it_is_charged_and_answers_later(
    picking: Picking, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("client.pick.draw", killed)
        with pytest.raises(Killed):
            picking.draw()
    picking.reopen()
    assert picking.spent == 1.0
    assert picking.node.picks.find(OWNER, "default", picking.listed.epoch) is None
    first = picking.draw()
    assert picking.spent == 1.0
    assert picking.draw(Tripwire(1)).pick == first.pick


def test_killed_between_draw_and_keep_nothing_was_seen_and_one_charge_is_enough(
    picking: Picking, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(picking.node.picks, "keep", killed)
        with pytest.raises(Killed):
            picking.draw()
    picking.reopen()
    picking.draw()
    assert picking.spent == 1.0


def test_killed_after_keep_the_retry_is_identical(picking: Picking, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("client.pick.Answered", killed)
        with pytest.raises(Killed):
            picking.draw(SimulationNoise(2))
    kept = picking.node.picks.find(OWNER, "default", picking.listed.epoch)
    picking.reopen()
    assert kept is not None
    assert picking.draw(Tripwire(3)).pick.index == kept.index


def test_two_processes_give_one_answer(picking: Picking, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one draws and keeps while this one is between its charge and its draw."""
    other = Node.open(picking.node.directory, picking.node.settings)
    theirs: list[Answered] = []

    def scores(listed: CandidateList) -> list[float]:
        found = answer(other, OWNER, listed, scores=lambda one: [0.0] * len(one.candidates), noise=SimulationNoise(5))
        theirs.append(found)
        return [0.0] * len(listed.candidates)

    ours = answer(picking.node, OWNER, picking.listed, scores=scores, noise=SimulationNoise(6))
    other.close()
    assert ours.pick == theirs[0].pick
    assert picking.spent == 1.0


def test_an_answer_that_was_given_and_is_lost_is_not_drawn_again(picking: Picking) -> None:
    picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    (picking.node.directory / "picks.db").unlink()
    with pytest.raises(EgressRefused) as refused:
        picking.draw(Tripwire(1))
    assert refused.value.reason is RefusalReason.PICK_REDRAWN


def test_a_ledger_that_was_put_back_answers_nothing(picking: Picking, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    picking.node.pick_ledger.close()
    shutil.copytree(picking.node.directory, copy)
    picking.reopen()
    picking.draw()
    picking.node.close()
    for file in picking.node.directory.glob("picks*.db*"):
        file.unlink()
    for file in copy.glob("picks*.db*"):
        shutil.copy(file, picking.node.directory / file.name)
    picking.home.node = Node.open(picking.node.directory, picking.node.settings)
    with pytest.raises(LedgerRolledBack):
        picking.draw(Tripwire(1))


# ── what is refused before anything is charged ───────────────────────────────────────────────────────────────────────


def other_mechanism(listed: CandidateList) -> CandidateList:
    return listed.model_copy(update={"epsilon": 2.0})


def other_m(listed: CandidateList) -> CandidateList:
    return listed.model_copy(update={"chosen": 3})


def other_group(listed: CandidateList) -> CandidateList:
    return listed.model_copy(update={"slot_group": "side"})


def another_week(listed: CandidateList) -> CandidateList:
    return listed.model_copy(update={"epoch": listed.epoch + 1})


@pytest.mark.parametrize("change", [other_mechanism, other_m, other_group, another_week])
def test_a_list_that_is_not_as_this_devices_document_says_costs_nothing(
    picking: Picking, change: Callable[[CandidateList], CandidateList]
) -> None:
    with pytest.raises(DigestMismatch):
        picking.draw(Tripwire(1), listed=change(picking.listed))
    assert picking.spent == 0.0


@pytest.mark.parametrize("length", [8, 5])
def test_a_second_list_of_the_epoch_gets_no_second_draw(picking: Picking, length: int) -> None:
    first = picking.draw()
    second = picking.listed.model_copy(update={"candidates": picking.listed.candidates[::-1][:length]})
    with pytest.raises(EgressRefused) as refused:
        picking.draw(Tripwire(1), listed=second)
    assert refused.value.reason is RefusalReason.PICK_REDRAWN
    assert picking.spent == 1.0
    assert picking.draw(Tripwire(1)).pick == first.pick


def test_without_consent_nothing_is_drawn_and_nothing_repeated(picking: Picking) -> None:
    picking.draw()
    picking.home.agent.withdraw([Purpose.PLACE_PERSONALISED])
    with pytest.raises(ConsentRefused):
        picking.draw(Tripwire(1))
    with pytest.raises(ConsentRefused):
        picking.picker.hand_over(picking.listed, picking.equipment, SLOT)


def test_a_list_is_verified(picking: Picking) -> None:
    forged = seal(picking.listed, SigningKey.generate())
    picking.home.wire.change = lambda path, body: forged.encode() if path.startswith("/v1/candidates") else body
    with pytest.raises(UnknownSigner):
        picking.picker.fetch()
    signer = picking.home.world.services.signer
    picking.home.wire.change = lambda path, body: (
        seal(picking.equipment.catalogue, signer).encode() if path.startswith("/v1/candidates") else body
    )
    with pytest.raises(TrustError):
        picking.picker.fetch()


# ── budget ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def week(picking: Picking, number: int) -> CandidateList:
    """The list of a week of the next period, with the clock in it."""
    first = (picking.listed.epoch // 4 + 1) * 4
    picking.home.clock.now = (first + number) * 7 * DAY + 3600
    return picking.listed.model_copy(update={"epoch": first + number})


def raise_refusal(found: object) -> None:
    if isinstance(found, Exception):
        raise found


def test_four_draws_in_twenty_eight_days(picking: Picking) -> None:
    listed = [week(picking, number) for number in range(5)]
    for number in range(4):
        week(picking, number)
        picking.draw(listed=listed[number])
        assert picking.spent == number + 1.0
    with pytest.raises(BudgetExhausted):
        raise_refusal(picking.node.pick_ledger.reserve([OWNER], [planned(listed[3].drawn_by)], cause="other")[OWNER])
    week(picking, 4)
    picking.draw(listed=listed[4])
    assert picking.spent == 1.0, "a new period"


def test_no_erasure_brings_more(picking: Picking) -> None:
    picking.draw()
    handle = picking.home.agent.handle
    picking.node.erase(OWNER)
    picking.reopen()
    assert picking.spent == 1.0, "what was spent stays spent"
    assert picking.node.picks._path.exists()
    picking.node.vault.start_again(OWNER)
    picking.home.enrol()
    picking.home.agree()
    assert picking.home.agent.handle != handle
    for number in range(3):
        picking.draw()
        assert picking.spent == number + 2.0, "the answer is gone with its key: the next one is paid for"
        picking.node.pick_ledger.forget(OWNER)
        picking.node.picks.forget(OWNER)
    with pytest.raises(BudgetExhausted):
        picking.draw(Tripwire(1))


# ── scores and messages ──────────────────────────────────────────────────────────────────────────────────────────────


def test_what_must_not_be_shown_stays_in_the_domain_at_minus_infinity(picking: Picking) -> None:
    off = picking.listed.candidates[2]

    def predict(creatives: object) -> list[float]:
        return [0.1 for _ in creatives]  # type: ignore[attr-defined]

    told = own_scores(
        picking.listed,
        picking.equipment.policy,
        predict=predict,
        inputs=Inputs(blocked_advertisers=frozenset({off.advertiser})),
    )
    blocked = [one.advertiser == off.advertiser for one in picking.listed.candidates]
    assert [score == -math.inf for score in told] == blocked
    assert any(blocked)


def test_the_lists_rule_orders_candidates_whichever_policy_the_device_holds(picking: Picking) -> None:
    """What answers mean is fixed when the list is published; a policy that came later changes nothing here."""
    candidates = tuple(
        one.model_copy(update={"bid_micros": (1 + i) * 1_000_000}) for i, one in enumerate(picking.listed.candidates)
    )
    listed = picking.listed.model_copy(update={"candidates": candidates})
    policy = picking.equipment.policy
    by_value = policy.model_copy(update={"score": ScoreRule(kind="value")})

    def told(rule: str, held: PlacementPolicy) -> tuple[float, ...]:
        one = listed.model_copy(update={"ordered_by": rule})
        return own_scores(one, held, predict=lambda cs: [0.1] * len(cs), inputs=inputs(candidates, now=0.0))

    assert told("response", policy) == told("response", by_value) == (0.1,) * len(candidates)
    assert told("value", policy) == told("value", by_value) == tuple(0.1 * (1 + i) for i in range(len(candidates)))


def test_the_answer_depends_on_the_person_and_not_on_the_page(picking: Picking) -> None:
    scores = picking.picker._scores(picking.listed, picking.equipment)
    assert len(set(scores)) > 1
    assert all(math.isfinite(one) for one in scores)
    bodies = [
        json.loads(picking.picker.hand_over(picking.listed, picking.equipment, SLOT, context={"page": page}))
        for page in ("home", "recipes")
    ]
    assert bodies[0]["pick"] == bodies[1]["pick"]


def test_the_message_holds_nothing_else_of_the_person(picking: Picking) -> None:
    body = json.loads(picking.picker.hand_over(picking.listed, picking.equipment, SLOT, context={"page": "home"}))
    assert set(body) == {"kind", "handle", "slots", "context", "locale", "pick"}
    assert set(body["pick"]) == {"slot_group", "epoch", "index", "mechanism", "epsilon", "list_hash"}
    from client.journal import read_journal

    rows = [row for row in read_journal(picking.node.directory / "journal.db") if row.kind == "private_pick"]
    assert [(row.purpose, row.epsilon) for row in rows] == [("place.personalised", 1.0)]
    picking.picker.hand_over(picking.listed, picking.equipment, SLOT)
    rows = [row for row in read_journal(picking.node.directory / "journal.db") if row.kind == "private_pick"]
    assert [row.epsilon for row in rows] == [1.0, 0.0], "repeating is free, and said to be"


def test_an_answer_does_not_leave_without_its_charge(picking: Picking) -> None:
    given = picking.draw()
    message = picking.picker._message(picking.listed, picking.equipment, SLOT, context=None, locale="en")[0]
    for charge in (None, replace(given.charge, charge=99)):
        with pytest.raises((EgressRefused, StoreError)):
            picking.home.agent.send(message, charge=charge)


def test_the_service_chooses_by_the_answer_and_the_device_sends_nothing_else(picking: Picking) -> None:
    before = len(picking.home.wire.requests)
    made = picking.picker.decide(picking.listed, picking.equipment, SLOT, context={"page": "home"})
    (request,) = picking.home.wire.requests[before:]
    assert (made.mode, made.slots[0].reason) == (DecisionMode.PRIVATE_PICK, None)
    assert made.slots[0].creative is not None
    assert made.slots[0].tokens
    assert json.loads(request.content)["pick"] == picking.draw(Tripwire(1)).pick.model_dump(mode="json")
    again = picking.picker.decide(picking.listed, picking.equipment, SLOT, context={"page": "home"})
    assert (again.mode, picking.spent) == (DecisionMode.PRIVATE_PICK, 1.0)
    standing = picking.home.world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)


def test_a_backend_may_post_what_the_device_has_handed_over(picking: Picking) -> None:
    body = json.loads(picking.picker.hand_over(picking.listed, picking.equipment, SLOT))
    headers = picking.home.world.key(Role.APP_BACKEND, app_id=APP)
    answer = picking.home.world.http.post("/v1/decisions", json=body, headers=headers)
    assert answer.json()["mode"] == "private_pick"
