"""One day's placements of one device as things to be counted. Owns what is read from its stores for a measurement.

Only what the device chose by itself is counted here: where the service chose, it has its own exact count of confirmed
follow-ups, and nothing must be counted twice. A placement that was chosen and never seen counts as unseen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from client.device import Node
from client.store.keys import DeviceId
from client.store.placed import Outcome, PlacedAd, Position
from common.measurement.counting import Happened
from common.taxonomy import DecisionMode, FollowUp, Metric
from common.wire.measurement import MeasurementPlan

DAY_S: Final = 86_400
_METRICS: Final = {
    FollowUp.IMPRESSION: Metric.VIEWS,
    FollowUp.CLICK: Metric.CLICKS,
    FollowUp.CONVERSION: Metric.CONVERSIONS,
}
_HERE: Final = DecisionMode.ON_DEVICE.value


def happened(node: Node, device: DeviceId, plan: MeasurementPlan) -> list[Happened]:
    """What a measurement of this day counts of a device, before any bound.

    Args:
        node: whose stores.
        device: whose placements and outcomes.
        plan: which day, and the arms of which experiment.

    Raises:
        StoreError: the stores cannot be read.
    """
    since, until = plan.day * DAY_S, (plan.day + 1) * DAY_S
    outcomes = [one for one in node.outcomes.read(device, since=since, until=until) if one.mode == _HERE]
    placed = {ad.place: ad for ad in node.placements.read(device) if ad.mode == _HERE}
    arms = _arms(node, device, plan, {one.decision_id for one in outcomes})
    found = [*_followed(outcomes, placed, arms), *_unseen(node, device, placed, (since, until))]
    return sorted(found, key=lambda one: one.time)


def group_of(node: Node, device: DeviceId) -> str:
    """The group that the device's owner has declared; empty where none was."""
    return node.choices.read(device).group


def _followed(
    outcomes: Iterable[Outcome], placed: Mapping[Position, PlacedAd], arms: Mapping[str, str]
) -> Iterator[Happened]:
    for one in outcomes:
        if (metric := _METRICS.get(one.kind)) is not None:
            ad = placed.get(one.place)
            yield Happened(
                time=one.time,
                campaign=one.campaign or one.advertiser,
                metric=metric,
                value_micros=one.value_micros,
                predicted=0.0 if ad is None else ad.score,
                arm=arms.get(one.decision_id, ""),
            )


def _unseen(
    node: Node, device: DeviceId, placed: Mapping[Position, PlacedAd], day: tuple[float, float]
) -> Iterator[Happened]:
    """Placements chosen that day and not seen by now."""
    chosen = [ad for ad in placed.values() if day[0] <= ad.time < day[1]]
    if not chosen:
        return
    later = node.outcomes.read(device, since=day[0])
    seen = {one.place for one in later if one.kind is FollowUp.IMPRESSION}
    for ad in chosen:
        if ad.place not in seen:
            yield Happened(ad.time, ad.campaign or ad.advertiser, Metric.UNSEEN)


def _arms(node: Node, device: DeviceId, plan: MeasurementPlan, decisions: Iterable[str]) -> dict[str, str]:
    """The arm in which each kept decision was made, by decision, where it belongs to the measured experiment."""
    if plan.experiment is None:
        return {}
    kept = {name: node.decisions.find(device, name) for name in decisions}
    return {name: one.arm for name, one in kept.items() if one is not None and one.experiment == plan.experiment}
