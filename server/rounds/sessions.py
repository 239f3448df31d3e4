"""One measurement in several secure aggregations. Owns who is in which, and how their noisy sums are added.

A session holds as many devices as the policy's cohort allows; where more would answer, a further session asks those who
were left over. Every device is in one session at most, so what a measurement costs it stays what one session costs.
Each session's sum carries the whole noise of a session: the noise of the total is theirs together, independent, so
variances add up. It grows with the square root of the number of sessions, the counts with the number itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from common.errors import TooFewSurvivors
from server.rounds.charges import Charge
from server.rounds.release_rounds import Outcome

Session = Callable[[int], Outcome]
"""Holds one session; the argument is its number from 0 on."""


def together(hold: Session, *, most: int, devices_max: int) -> Outcome:
    """Sessions until nobody is left over.

    Args:
        hold: holds one session with devices that no earlier one has asked.
        most: sessions that may be held.
        devices_max: devices that a session can hold; one with fewer leaves nobody over.

    Raises:
        TooFewSurvivors: the first one failed. A later one that fails is left out: what it was charged stays charged.
        SumOutOfRange: a sum that cannot be.
    """
    found: list[Outcome] = []
    while len(found) < most and (not found or found[-1].roster >= devices_max):
        try:
            found.append(hold(len(found)))
        except TooFewSurvivors:
            if not found:
                raise
            break
    return added(found)


def added(found: Sequence[Outcome]) -> Outcome:
    """The sum of sessions whose devices differ; at least one."""
    if len(found) == 1:
        return found[0]
    sums = zip(*(one.sums for one in found), strict=True)
    noise = zip(*(one.noise_stddevs for one in found), strict=True)
    return Outcome(
        sums=tuple(sum(each[1:], start=each[0]) for each in sums),
        noise_stddevs=tuple(math.hypot(*each) for each in noise),
        contributions=sum(one.contributions for one in found),
        roster=sum(one.roster for one in found),
        nodes=max(one.nodes for one in found),
        invited=max(one.invited for one in found),
        refused=_counted(one.refused for one in found),
        declined=_counted(one.declined for one in found),
    )


def of_one_device(charges: Sequence[Charge], before: Sequence[Charge]) -> list[Charge]:
    """What one device may have been charged at most: every earlier attempt, and one of the sessions held since.

    Args:
        charges: every charged session under the measurement's name; those held since are all for the same releases.
        before: those that an earlier attempt was charged for, maybe with the same devices.
    """
    earlier = {charge.session for charge in before}
    since = [charge for charge in charges if charge.session not in earlier]
    return [*before, *since[:1]]


def _counted(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one)
    return dict(total)
