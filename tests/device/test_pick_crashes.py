"""Private pick on a device that is killed, copied back or run twice: one charge, and never a second draw."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from client.device import OWNER, Node
from client.pick import Answered, answer
from common.errors import EgressRefused, LedgerRolledBack
from common.privacy.randomness import SimulationNoise
from common.taxonomy import RefusalReason
from common.wire.pick import CandidateList
from tests.device.picking import SLOT, Picking, Tripwire


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
