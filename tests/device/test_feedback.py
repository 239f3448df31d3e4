"""What follows an ad stays on the device: it counts once and in time, caps see it, and the next training learns it."""

from __future__ import annotations

import pytest

from client.agent import Agent, Equipment
from client.attribution import WINDOWS, Conversion, attributed
from client.behavior.events import Click, Impression, Purchase
from client.behavior.validation import EventRejected
from client.device import OWNER
from client.features.cache import load_examples
from client.features.extract import examples_from
from client.feedback import Counted
from client.placing import RESERVED_S, evidence_of, shown_so_far
from client.store.placed import Outcome, Position
from common.taxonomy import FollowUp
from policies.placement.document import CapRule, CapScope
from policies.placement.inputs import Evidence
from tests.device.conftest import Household
from tests.device.placing import PAGE, SPEC, capped, equipped, permit

DAY = 86_400.0


@pytest.fixture
def equipment(agreed: Household) -> Equipment:
    return equipped(agreed)


def placed(home: Household, equipment: Equipment, count: int = 1) -> list[Position]:
    """One decision's positions that were filled."""
    jws = permit(home, equipment, count)
    home.agent.place(jws, equipment, context=PAGE, now=home.clock())
    newest = home.node.placements.read(OWNER, newest=count)
    return sorted((ad.place for ad in newest), key=lambda one: one.position)


def test_each_thing_counts_once_and_a_click_only_after_its_view(agreed: Household, equipment: Equipment) -> None:
    (where,) = placed(agreed, equipment)
    feedback, now = agreed.agent.feedback, agreed.clock()
    assert feedback.clicked(where, now=now) is Counted.UNSEEN
    assert feedback.seen(where, now=now) is Counted.COUNTED
    assert feedback.seen(where, now=now + 1) is Counted.REPEATED
    assert feedback.clicked(where, now=now + 1) is Counted.COUNTED
    assert feedback.clicked(where, now=now + 2) is Counted.REPEATED
    assert feedback.closed(where, now=now + 3) is Counted.COUNTED
    assert feedback.seen(Position("dec_other", "top"), now=now) is Counted.UNKNOWN
    kinds = [one.kind for one in agreed.node.outcomes.read(OWNER)]
    assert kinds == [FollowUp.IMPRESSION, FollowUp.CLICK, FollowUp.CLOSE]


def test_what_comes_too_late_does_not_count(agreed: Household, equipment: Equipment) -> None:
    where, other = placed(agreed, equipment, 2)
    feedback, now = agreed.agent.feedback, agreed.clock()
    assert feedback.seen(where, now=now + WINDOWS.view_s + 1) is Counted.LATE
    assert feedback.seen(where, now=now - 1) is Counted.LATE, "a clock that was put back"
    agreed.clock.advance(WINDOWS.view_s)
    assert feedback.seen(other, now=now + WINDOWS.view_s) is Counted.COUNTED
    agreed.clock.advance(WINDOWS.click_s + 1)
    assert feedback.clicked(other, now=agreed.clock()) is Counted.LATE


def test_what_the_vault_does_not_take_is_not_counted_either(agreed: Household, equipment: Equipment) -> None:
    (where,) = placed(agreed, equipment)
    with pytest.raises(EventRejected):
        agreed.agent.feedback.seen(where, now=agreed.clock() + 1000)  # ahead of the device's own clock
    assert agreed.node.outcomes.read(OWNER) == []


def test_the_next_training_learns_from_it(agreed: Household, equipment: Equipment) -> None:
    where, other = placed(agreed, equipment, 2)
    before = len(load_examples(agreed.node, OWNER))
    feedback, now = agreed.agent.feedback, agreed.clock()
    for one in (where, other):
        feedback.seen(one, now=now)
    feedback.clicked(where, now=now + 60)
    learnt = load_examples(agreed.node, OWNER)
    assert len(learnt) == before + 2
    assert sorted(learnt.labels[-2:].tolist()) == [0.0, 1.0]


def test_a_purchase_is_joined_to_the_ad_that_led_to_it(agreed: Household, equipment: Equipment) -> None:
    where, other = placed(agreed, equipment, 2)
    ads = {ad.place: ad for ad in agreed.node.placements.read(OWNER)}
    feedback, now = agreed.agent.feedback, agreed.clock()
    for one in (where, other):
        feedback.seen(one, now=now)
    feedback.clicked(where, now=now + 60)
    agreed.clock.advance(3 * DAY)  # past the window by item alone, inside the one after a click
    bought = Purchase(time=agreed.clock(), app="grocer", item=ads[where].item)
    assert agreed.agent.record(bought)
    assert agreed.agent.record(Purchase(time=agreed.clock(), app="grocer", item="elsewhere"))
    held = agreed.node.vault.read(OWNER)
    joined = [one for one in held if isinstance(one, Purchase) and one.item == ads[where].item]
    assert [one.exposure_id for one in joined][-1] == where.text
    (conversion,) = [one for one in agreed.node.outcomes.read(OWNER) if one.kind is FollowUp.CONVERSION]
    assert (conversion.place, conversion.after) == (where, FollowUp.CLICK)
    agreed.clock.advance(60)
    agreed.agent.record(Purchase(time=agreed.clock(), app="grocer", item=ads[where].item))
    again = [one for one in agreed.node.outcomes.read(OWNER) if one.kind is FollowUp.CONVERSION]
    assert len(again) == 1, "one conversion a placement"


def outcome(kind: FollowUp, time: float, number: int = 1, **more: object) -> Outcome:
    fields = {"creative_id": "c", "item": "oats", "campaign": "spring", "advertiser": "a", "category": "food"}
    return Outcome(time=time, kind=kind, decision_id=f"d{number}", slot_id="s", position=0, **(fields | more))  # type: ignore[arg-type]


VIEW, CLICK, CONVERSION = FollowUp.IMPRESSION, FollowUp.CLICK, FollowUp.CONVERSION


@pytest.mark.parametrize(
    ("outcomes", "conversion", "due_to"),
    [
        ([], Conversion(100.0, "oats"), None),
        ([outcome(VIEW, 0)], Conversion(100.0, "oats"), ("d1", VIEW)),
        ([outcome(VIEW, 0)], Conversion(-1.0, "oats"), None),
        ([outcome(VIEW, 0)], Conversion(DAY + 1, "oats"), None),
        ([outcome(VIEW, 0), outcome(CLICK, 10)], Conversion(7 * DAY, "oats"), ("d1", CLICK)),
        ([outcome(VIEW, 0), outcome(CLICK, 10)], Conversion(7 * DAY + 11, "oats"), None),
        ([outcome(CLICK, 10, 1), outcome(CLICK, 20, 2), outcome(VIEW, 30, 3)], Conversion(40.0, "oats"), ("d2", CLICK)),
        ([outcome(VIEW, 10, 1), outcome(VIEW, 20, 2)], Conversion(40.0, "oats"), ("d2", VIEW)),
        ([outcome(VIEW, 0), outcome(CONVERSION, 5)], Conversion(40.0, "oats"), None),
        ([outcome(VIEW, 0)], Conversion(40.0, "milk"), None),
        ([outcome(VIEW, 0)], Conversion(40.0, campaign="spring"), ("d1", VIEW)),
        ([outcome(VIEW, 0)], Conversion(40.0, campaign="autumn"), None),
        ([outcome(VIEW, 0)], Conversion(40.0, "oats", campaign="autumn"), None),
        ([outcome(VIEW, 0)], Conversion(40.0), None),
    ],
)
def test_the_last_click_in_its_window_else_the_last_view(
    outcomes: list[Outcome], conversion: Conversion, due_to: tuple[str, FollowUp] | None
) -> None:
    found = attributed(conversion, outcomes)
    assert due_to == (None if found is None else (found.decision_id, found.kind))


def test_a_named_exposure_answers_itself_alone() -> None:
    facts = {"attributes": {}, "context": {}, "numbers": {}}
    seen = [Impression(float(i), "ads", "oats", exposure_id=f"e{i}", **facts) for i in range(3)]  # type: ignore[arg-type]
    assert examples_from(SPEC, [*seen, Click(5.0, "ads", "oats", exposure_id="e1")]).labels.tolist() == [0, 1, 0]
    late = Purchase(9 * DAY, "shop", "oats", exposure_id="e2")
    assert examples_from(SPEC, [*seen, late]).labels.tolist() == [0, 0, 1]
    assert examples_from(SPEC, [*seen, Purchase(9 * DAY, "shop", "oats")]).labels.tolist() == [0, 0, 0]
    assert examples_from(SPEC, [*seen, Purchase(9.0, "shop", "oats")]).labels.tolist() == [1, 1, 1]


def test_frequency_caps_count_views_and_what_may_be_on_a_page(agreed: Household, equipment: Equipment) -> None:
    rules = (CapRule(scope=CapScope.CREATIVE, views_max=1, window_hours=24),)
    once = capped(equipment, rules)
    (first,) = placed(agreed, once)
    (second,) = placed(agreed, once)
    ads = {ad.place: ad.creative_id for ad in agreed.node.placements.read(OWNER)}
    assert ads[first] != ads[second], "the first may be on a page by now"
    agreed.agent.feedback.seen(first, now=agreed.clock())
    agreed.clock.advance(RESERVED_S + 1)
    (third,) = placed(agreed, once)
    ads = {ad.place: ad.creative_id for ad in agreed.node.placements.read(OWNER)}
    assert ads[third] == ads[second], "the second was never seen, and does not count any more"
    agreed.clock.advance(DAY)
    (fourth,) = placed(agreed, once)
    ads = {ad.place: ad.creative_id for ad in agreed.node.placements.read(OWNER)}
    assert ads[fourth] == ads[first], "a day later the first one's view is out of its window"


def test_without_caps_the_best_comes_again(agreed: Household, equipment: Equipment) -> None:
    """Control: it is the caps that changed the answer above."""
    (first,) = placed(agreed, equipment)
    agreed.agent.feedback.seen(first, now=agreed.clock())
    (second,) = placed(agreed, equipment)
    ads = {ad.place: ad.creative_id for ad in agreed.node.placements.read(OWNER)}
    assert ads[first] == ads[second]


def test_evidence_is_views_and_those_that_something_followed() -> None:
    held = [
        outcome(VIEW, 1, 1), outcome(CLICK, 2, 1), outcome(CONVERSION, 3, 1), outcome(VIEW, 4, 2),
        outcome(FollowUp.CLOSE, 5, 2), outcome(VIEW, 6, 3, creative_id="other"), outcome(CLICK, 7, 9),
    ]  # fmt: skip
    assert evidence_of(held) == {"c": Evidence(2, 1), "other": Evidence(1, 0)}
    assert [one.time for one in shown_so_far(held, [], 10.0)] == [1, 4, 6]


def test_it_is_erased_with_the_device(agreed: Household, equipment: Equipment) -> None:
    (where,) = placed(agreed, equipment)
    agreed.agent.feedback.seen(where, now=agreed.clock())
    agreed.node.erase(OWNER)
    for path in agreed.node.directory.glob("placements.db"):
        import sqlite3

        with sqlite3.connect(path) as connection:
            for table in ("placements", "decisions", "outcomes", "choices", "documents"):
                assert connection.execute(f"SELECT COUNT(*) FROM {table}").fetchone() == (0,), table  # noqa: S608


def test_an_agent_records_other_behaviour_as_before(agreed: Household) -> None:
    agent: Agent = agreed.agent
    event = Purchase(time=agreed.clock() - 5, app="grocer", item="nothing advertised")
    assert agent.record(event)
    assert not agent.record(event)
