"""From raw events to examples. Owns the join of impressions with their outcomes; all of it happens on the device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from client.behavior.events import BehaviourEvent, Click, Impression, Purchase
from client.features.history import History, personal_numbers
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec
from common.model.situation import Situation, context_arrays

# A click or purchase of the item within this window after an impression makes the impression a positive example.
ATTRIBUTION_WINDOW_S = 24 * 3600.0


def featurise(
    spec: FeatureSpec, history: History, situations: Sequence[Situation], labels: Sequence[int] | None = None
) -> Examples:
    """Examples of ``n`` situations in the personal view.

    Args:
        spec: what to compute.
        history: the device's own history; only what lies strictly before each situation counts.
        situations: candidates at their moments.
        labels: outcomes in {0, 1}, one per situation, or None when they are yet to happen.
    """
    ids, numbers = context_arrays(spec, situations)
    return Examples(
        categorical=ids,
        numeric=numbers + personal_numbers(spec, history, situations),
        labels=np.asarray(labels if labels is not None else (), np.float32),
        times=np.array([s.time for s in situations], np.float64),
        spec_digest=spec.digest,
    )


def examples_from(spec: FeatureSpec, events: Sequence[BehaviourEvent]) -> Examples:
    """One labelled example per impression, from events in time order."""
    impressions = [event for event in events if isinstance(event, Impression)]
    situations = [Situation(e.time, e.item, e.attributes, e.context, e.numbers) for e in impressions]
    return featurise(spec, History.of(events), situations, _outcomes(impressions, events))


def _outcomes(impressions: Sequence[Impression], events: Sequence[BehaviourEvent]) -> list[int]:
    """The recorded outcome where the source knows it, else whether a click or purchase answers the impression.

    One that names its exposure answers that one alone, whenever it came; one that does not answers every exposure of
    the item in the window before it.
    """
    responses: dict[str, list[float]] = {}
    named: set[str] = set()
    if any(impression.outcome is None for impression in impressions):
        for event in events:
            if isinstance(event, Click | Purchase):
                if event.exposure_id is not None:
                    named.add(event.exposure_id)
                else:
                    responses.setdefault(event.item, []).append(event.time)
    return [
        impression.outcome
        if impression.outcome is not None
        else int(
            impression.exposure_id in named
            or any(0 <= t - impression.time <= ATTRIBUTION_WINDOW_S for t in responses.get(impression.item, ()))
        )
        for impression in impressions
    ]
