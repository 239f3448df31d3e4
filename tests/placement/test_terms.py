"""A campaign's own terms inside g: dates, regions and caps hold on the device and in the service alike."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from common.wire.messages import Creative, SlotRequest
from policies.placement.decide import decide
from policies.placement.inputs import Inputs, Shown
from policies.placement.terms import on_terms
from tests.placement.made import GREEDY, creative

HOUR = 3600.0
NOW = 1_800_000_000.0


def termed(name: str, **terms: object) -> Creative:
    return Creative.model_validate(creative(name).model_dump() | {"campaign_id": f"of-{name}"} | terms)


def flat(candidates: Sequence[Creative]) -> list[float]:
    return [{"a": 0.9, "b": 0.5, "x": 0.3}.get(one.creative_id, 0.1) for one in candidates]


def shown(creatives: Sequence[Creative], inputs: Inputs, count: int = 1) -> list[str | None]:
    slots = [SlotRequest(slot_id="top", count=count)]
    return [one.creative_id for one in decide(GREEDY, creatives, flat, slots, salt="s", inputs=inputs)]


@pytest.mark.parametrize(
    ("terms", "now", "expected"),
    [
        ({"starts_at": 100}, 99.9, "b"),
        ({"starts_at": 100}, 100.0, "a"),
        ({"ends_at": 100}, 99.9, "a"),
        ({"ends_at": 100}, 100.0, "b"),
        ({}, 0.0, "a"),
    ],
)
def test_dates_hold_to_the_second_whatever_the_catalogues_age(
    terms: dict[str, object], now: float, expected: str
) -> None:
    assert shown([termed("a", **terms), termed("b")], Inputs(now=now)) == [expected]


@pytest.mark.parametrize(
    ("regions", "context", "expected"),
    [
        (("CN",), {"region": "CN"}, "a"),
        (("US",), {"region": "US-CA"}, "a"),
        (("US-CA",), {"region": "US"}, "b"),
        (("US-CA",), {"region": "US-CAL"}, "b"),
        (("CN",), {"region": "FR"}, "b"),
        (("CN",), {}, "b"),
        (("CN",), {"region": ""}, "b"),
        ((), {}, "a"),
    ],
)
def test_a_region_is_what_the_page_says(regions: tuple[str, ...], context: dict[str, str], expected: str) -> None:
    assert shown([termed("a", regions=regions), termed("b")], Inputs(now=NOW, context=context)) == [expected]


def test_a_campaigns_cap_counts_its_views_and_those_of_this_decision() -> None:
    cap = {"views_max": 2, "window_hours": 24}
    creatives = [
        termed("a", caps=[cap]),
        termed("x", caps=[cap], campaign_id="of-a"),
        termed("b"),
        termed("y", caps=[cap], campaign_id="of-a"),
    ]
    assert shown(creatives, Inputs(now=NOW), count=4) == ["a", "b", "x", None]
    earlier = Shown("a", "of-a", "adv", "snacks", NOW - 23 * HOUR)
    assert shown(creatives, Inputs(now=NOW, shown=(earlier,)), count=4) == ["a", "b", None, None]
    assert shown(creatives, Inputs(now=NOW, shown=(earlier, earlier)), count=4) == ["b", None, None, None]
    old = Shown("a", "of-a", "adv", "snacks", NOW - 24 * HOUR)
    assert shown(creatives, Inputs(now=NOW, shown=(old, old, old)), count=4) == ["a", "b", "x", None]
    strangers = Shown("b", "of-b", "adv", "snacks", NOW)
    assert shown(creatives, Inputs(now=NOW, shown=(strangers,) * 5), count=1) == ["a"]


def test_every_one_of_several_caps_holds() -> None:
    caps = [{"views_max": 1, "window_hours": 1}, {"views_max": 3, "window_hours": 24}]
    one = [termed("a", caps=caps), termed("b")]
    views = [Shown("a", "of-a", "adv", "snacks", NOW - hours * HOUR) for hours in (2, 3, 4)]
    assert shown(one, Inputs(now=NOW, shown=tuple(views[:2]))) == ["a"]
    assert shown(one, Inputs(now=NOW, shown=tuple(views))) == ["b"]
    assert shown(one, Inputs(now=NOW, shown=(Shown("a", "of-a", "adv", "snacks", NOW - 60),))) == ["b"]


def test_a_catalogue_without_terms_is_left_as_it_is() -> None:
    creatives = [creative("a"), creative("b")]
    assert on_terms(creatives, Inputs(now=NOW)) is creatives
