"""Private pick on the device: paid before it is drawn, repeated for nothing, and refused before it is charged."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from client.device import OWNER
from common.crypto.signing import SigningKey
from common.errors import BudgetExhausted, ConsentRefused, DigestMismatch, EgressRefused, TrustError, UnknownSigner
from common.privacy.randomness import SimulationNoise
from common.taxonomy import Purpose, RefusalReason
from common.wire.documents import seal
from common.wire.pick import CandidateList
from policies.picks import planned
from tests.device.picking import SLOT, Picking, Tripwire


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

    scores = [float(i == 3) for i in range(4)]
    assert picking.draw(SimulationNoise(4), best=3).pick.index == draw(
        picking.listed.drawn_by, scores, SimulationNoise(4)
    )


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


def raise_refusal(found: object) -> None:
    if isinstance(found, Exception):
        raise found


def test_four_draws_in_twenty_eight_days(picking: Picking) -> None:
    listed = [picking.week(number) for number in range(5)]
    for number in range(4):
        picking.week(number)
        picking.draw(listed=listed[number])
        assert picking.spent == number + 1.0
    with pytest.raises(BudgetExhausted):
        raise_refusal(picking.node.pick_ledger.reserve([OWNER], [planned(listed[3].drawn_by)], cause="other")[OWNER])
    picking.week(4)
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
