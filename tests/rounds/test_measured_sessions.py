"""Several sessions of one measurement: sums are added, variances too, nobody is in two, and it ends by itself."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from common.errors import SumOutOfRange, TooFewSurvivors
from common.taxonomy import Task
from server.rounds.charges import Charge
from server.rounds.release_rounds import Outcome
from server.rounds.sessions import added, of_one_device, together


def outcome(roster: int, value: float = 1.0, noise: float = 3.0) -> Outcome:
    sums = (np.full(4, value), np.full(2, 2 * value))
    return Outcome(
        sums=sums,
        noise_stddevs=(noise, 2 * noise),
        contributions=roster - 1,
        roster=roster,
        nodes=2,
        invited=9,
        refused={"mask/Replayed": 1},
        declined={"advertise/Unavailable": roster},
    )


def holding(*rosters: int | Exception) -> tuple[list[int], Callable[[int], Outcome]]:
    held: list[int] = []

    def hold(part: int) -> Outcome:
        held.append(part)
        found = rosters[part]
        if isinstance(found, Exception):
            raise found
        return outcome(found)

    return held, hold


def test_sums_add_and_so_do_variances() -> None:
    found = added([outcome(10, 1.0, 3.0), outcome(10, 5.0, 4.0)])
    assert [one.tolist() for one in found.sums] == [[6.0] * 4, [12.0] * 2]
    assert found.noise_stddevs == (5.0, 10.0)
    assert (found.contributions, found.roster, found.nodes, found.invited) == (18, 20, 2, 9)
    assert (found.refused, found.declined) == ({"mask/Replayed": 2}, {"advertise/Unavailable": 20})
    alone = outcome(7)
    assert added([alone]) is alone


def test_the_stated_noise_is_the_noise_of_the_sum() -> None:
    """By simulation: noise of three sessions, each drawn alone."""
    draws = np.random.default_rng(5).normal(scale=3.0, size=(3, 20_000))
    total = added([outcome(10, noise=3.0)] * 3)
    assert np.std(draws.sum(axis=0)) == pytest.approx(total.noise_stddevs[0], rel=0.02)
    assert np.std(draws.sum(axis=0)) < 0.9 * sum(one.noise_stddevs[0] for one in [outcome(10)] * 3), "not their sum"


@pytest.mark.parametrize(
    ("rosters", "most", "sessions", "devices"),
    [
        ((3,), 9, 1, 3),  # nobody is left over
        ((10, 10, 4), 9, 3, 24),
        ((10, 10, 10), 2, 2, 20),  # no more than may be held
        ((10, TooFewSurvivors("too few are left")), 9, 2, 10),
    ],
)
def test_sessions_are_held_until_nobody_is_left_over(
    rosters: tuple[int | Exception, ...], most: int, sessions: int, devices: int
) -> None:
    held, hold = holding(*rosters)
    assert together(hold, most=most, devices_max=10).roster == devices
    assert held == list(range(sessions))


@pytest.mark.parametrize("rosters", [(TooFewSurvivors("none"),), (10, SumOutOfRange("wrapped"))])
def test_a_measurement_without_a_first_session_or_with_a_sum_that_cannot_be_fails(
    rosters: tuple[int | Exception, ...],
) -> None:
    _, hold = holding(*rosters)
    with pytest.raises((TooFewSurvivors, SumOutOfRange)):
        together(hold, most=9, devices_max=10)


def test_what_one_device_was_charged_at_most() -> None:
    def charge(session: str) -> Charge:
        return Charge(session, Task.MEASURE, 1, (), math.inf, 4, 4, "released")

    lost, first, second = charge("lost"), charge("first"), charge("second")
    assert of_one_device([lost, first, second], [lost]) == [lost, first], (
        "an earlier attempt may have had the same device"
    )
    assert of_one_device([first, second], []) == [first]
    assert of_one_device([lost], [lost]) == [lost]
