"""What an advertiser is billed. Owns the rule that noise never makes anybody pay more. Pure.

Where the service chose (modes contextual and private_pick) it counts clicks by their tokens, exactly, and bills each at
its creative's bid. What devices chose is known through noisy sums alone: there the lower end of the 95 % interval is
billed, at the campaign's lowest bid of the day. A figure that is withheld bills nothing; what was served but is too
little to be shown is billed with what comes later.
"""

from __future__ import annotations

from dataclasses import dataclass

from common.measurement.estimates import Noisy, total


@dataclass(frozen=True, slots=True)
class Bill:
    """What is owed for one campaign, in millionths of its currency.

    Attributes:
        served_clicks: counted exactly.
        on_device_clicks: the lower end of what devices reported.
    """

    served_clicks: int
    served_micros: int
    on_device_clicks: int
    on_device_micros: int

    @property
    def total_micros(self) -> int:
        """Both."""
        return self.served_micros + self.on_device_micros


def bill(*, served_clicks: int, served_micros: int, clicks: Noisy, cost_micros: Noisy) -> Bill:
    """The bill for a time.

    Args:
        served_clicks: exact.
        served_micros: what they cost.
        clicks: of days that are shown, as devices reported them.
        cost_micros: each of those days' clicks times that day's lowest bid.
    """
    return Bill(served_clicks, served_micros, int(total(clicks).low), int(total(cost_micros).low))
