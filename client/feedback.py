"""What follows an ad on this device. Owns what counts as seen, followed, closed or converted, and where that goes.

It goes two ways, both inside the device: into the list that caps and measurement count, and into the vault as the
behaviour that the next training learns from. The rules are the service's for its own modes: each thing counts once, a
click only after its view, all inside their windows.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

import msgspec

from client.attribution import WINDOWS, Conversion, attributed
from client.behavior.events import BehaviourEvent, Click, Impression, Purchase
from client.device import Node
from client.store.keys import DeviceId
from client.store.placed import Outcome, PlacedAd, Position
from common.taxonomy import FollowUp

APP: Final = "ads"
"""The app name under which the device itself records what followed its own ads."""


class Counted(StrEnum):
    """What became of something that an app reported about an ad."""

    COUNTED = "counted"
    REPEATED = "counted before"
    LATE = "too late to count"
    UNSEEN = "not seen before"
    UNKNOWN = "no ad of this device"


class Feedback:
    """What follows the ads of one device.

    Args of the constructor:
        node: hosts the device.
        device: whose ads.
        app: which app reports.
    """

    def __init__(self, node: Node, device: DeviceId, app: str = APP) -> None:
        self._node, self._device, self._app = node, device, app

    def seen(self, place: Position, *, now: float, moment: float | None = None) -> Counted:
        """An ad was viewable.

        Args:
            place: which position of which decision.
            now: seconds since the epoch.
            moment: when it happened in a recorded population, whose times lie in the past.
        """
        ad = self._node.placements.find(self._device, place)
        if ad is None:
            return Counted.UNKNOWN
        if not 0 <= now - ad.time <= WINDOWS.view_s:
            return Counted.LATE
        return self._note(ad, FollowUp.IMPRESSION, now, _impression, moment)

    def clicked(self, place: Position, *, now: float, moment: float | None = None) -> Counted:
        """An ad was followed. Arguments as for ``seen``."""
        return self._after_view(place, FollowUp.CLICK, now, _click, moment)

    def closed(self, place: Position, *, now: float) -> Counted:
        """An ad was closed. It is no behaviour to learn from: somebody wanted to be rid of it."""
        return self._after_view(place, FollowUp.CLOSE, now, None, None)

    def converted(self, conversion: Conversion, *, value_micros: int = 0) -> Outcome | None:
        """Attribute a result that an advertiser defined; the conversion, None if no ad of this device led to it.

        It is counted; it is learnt from through its click, or as a purchase where ``record`` is told of one.

        Args:
            conversion: what happened, when.
            value_micros: its value in millionths of the account's currency, where the app says it.
        """
        touched = attributed(conversion, self._node.outcomes.read(self._device))
        if touched is None:
            return None
        result = msgspec.structs.replace(
            touched, time=conversion.time, kind=FollowUp.CONVERSION, value_micros=value_micros, after=touched.kind
        )
        return result if self._node.outcomes.add(self._device, result) else None

    def record(self, event: BehaviourEvent) -> bool:
        """Record behaviour; a purchase that an ad of this device led to is joined to it. False if it was known."""
        if not isinstance(event, Purchase) or event.exposure_id is not None:
            return self._node.recorder.record(self._device, event)
        led = self.converted(Conversion(event.time, event.item))
        if led is not None:
            event = msgspec.structs.replace(event, exposure_id=led.place.text)
        return self._node.recorder.record(self._device, event)

    def _after_view(
        self, place: Position, kind: FollowUp, now: float, event: Event | None, moment: float | None
    ) -> Counted:
        ad = self._node.placements.find(self._device, place)
        if ad is None:
            return Counted.UNKNOWN
        views = [
            one.time
            for one in self._node.outcomes.read(self._device)
            if one.kind is FollowUp.IMPRESSION and one.place == place
        ]
        if not views:
            return Counted.UNSEEN
        if not 0 <= now - views[0] <= WINDOWS.click_s:
            return Counted.LATE
        return self._note(ad, kind, now, event, moment)

    def _note(self, ad: PlacedAd, kind: FollowUp, now: float, event: Event | None, moment: float | None) -> Counted:
        outcome = Outcome(
            time=now,
            kind=kind,
            decision_id=ad.decision_id,
            slot_id=ad.slot_id,
            position=ad.position,
            creative_id=ad.creative_id,
            item=ad.item,
            campaign=ad.campaign,
            advertiser=ad.advertiser,
            category=ad.category,
            mode=ad.mode,
        )
        if self._node.outcomes.has(self._device, kind, ad.place):
            return Counted.REPEATED
        if event is not None:  # first: what the vault does not take is not counted either
            self._node.recorder.record(self._device, event(ad, self._app, now if moment is None else moment))
        return Counted.COUNTED if self._node.outcomes.add(self._device, outcome) else Counted.REPEATED


Event = Callable[[PlacedAd, str, float], BehaviourEvent]


def _impression(ad: PlacedAd, app: str, time: float) -> BehaviourEvent:
    return Impression(
        time=time,
        app=app,
        item=ad.item,
        attributes=ad.attributes,
        context=ad.context,
        numbers=ad.numbers,
        exposure_id=ad.place.text,
    )


def _click(ad: PlacedAd, app: str, time: float) -> BehaviourEvent:
    return Click(time=time, app=app, item=ad.item, attributes=ad.attributes, exposure_id=ad.place.text)
