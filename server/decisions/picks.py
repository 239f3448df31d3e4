"""A private pick as a decision reads it: from JSON to a pick, and from a pick to E[Y | pick]. Pure.

What else a decision does with one is ``server.picks``: whether its list is in force, and what it has cost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from common.privacy.posterior import posterior
from common.wire.messages import Creative
from common.wire.pick import CandidateList, Pick


def read_pick(value: object) -> Pick | None:
    """A pick; None where it is none, of which nothing is echoed."""
    if not isinstance(value, Mapping):
        return None
    try:
        return Pick.model_validate_json(json.dumps(value))
    except (ValidationError, ValueError, TypeError, RecursionError):
        return None


def informed(
    listed: CandidateList,
    pick: Pick,
    creatives: Sequence[Creative],
    contextual: Sequence[float],
    *,
    spread: float,
) -> list[float]:
    """E[Y | pick] for creatives on the list, their contextual Y for the others.

    Args:
        listed: the list that the pick is from; it says whether devices order candidates by response or by value.
        pick: the pick.
        creatives: what may be shown; candidates that are not among them are averaged over all the same.
        contextual: Y of each from context alone.
        spread: see ``common.privacy.posterior``.
    """
    known = dict(zip((creative.creative_id for creative in creatives), contextual, strict=True))
    mean = sum(contextual) / len(contextual) if contextual else 0.0
    responses = [known.get(one.creative_id, mean) for one in listed.candidates]
    values = [one.bid_micros / 1e6 for one in listed.candidates] if listed.ordered_by == "value" else None
    told = posterior(listed.drawn_by, responses, pick.index, spread=spread, values=values)
    means = dict(zip((one.creative_id for one in listed.candidates), told, strict=True))
    return [means.get(creative.creative_id, y) for creative, y in zip(creatives, contextual, strict=True)]
