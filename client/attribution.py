"""Which ad a conversion is due to. Owns the rule: the last click inside its window, else the last view inside its own.

Attribution happens here, among this device's own views and clicks, and nowhere else. The windows of clicks and of
conversions after clicks are those that the service holds follow-up tokens to, so that all modes count alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from client.store.placed import Outcome
from common.taxonomy import FollowUp

DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Windows:
    """How long after something the next thing counts; all in seconds.

    Attributes:
        view_s: a view, after the ad was chosen.
        click_s: a click, after its view.
        after_click_s: a conversion, after a click.
        after_view_s: a conversion, after a view that nobody clicked.
    """

    view_s: float = 3_600.0
    click_s: float = DAY_S
    after_click_s: float = 7 * DAY_S
    after_view_s: float = DAY_S


WINDOWS: Final = Windows()


@dataclass(frozen=True, slots=True)
class Conversion:
    """A result that an advertiser defined.

    Attributes:
        time: seconds since the epoch.
        item: what was bought, if anything was.
        campaign: whose result it is, where the app knows; empty for any.
    """

    time: float
    item: str = ""
    campaign: str = ""


def attributed(conversion: Conversion, outcomes: Iterable[Outcome], windows: Windows = WINDOWS) -> Outcome | None:
    """The click or view that a conversion is due to; None if it is due to none.

    A placement that has had its conversion takes no second one.
    """
    held = list(outcomes)
    done = {one.place for one in held if one.kind is FollowUp.CONVERSION}
    mine = [one for one in held if one.place not in done and _about(conversion, one)]
    clicks = _within(mine, FollowUp.CLICK, conversion.time, windows.after_click_s)
    views = _within(mine, FollowUp.IMPRESSION, conversion.time, windows.after_view_s)
    return max(clicks or views, key=lambda one: one.time, default=None)


def _about(conversion: Conversion, outcome: Outcome) -> bool:
    if conversion.campaign and conversion.campaign != outcome.campaign:
        return False
    return conversion.item == outcome.item if conversion.item else bool(conversion.campaign)


def _within(outcomes: Iterable[Outcome], kind: FollowUp, time: float, window_s: float) -> list[Outcome]:
    return [one for one in outcomes if one.kind is kind and 0 <= time - one.time <= window_s]
