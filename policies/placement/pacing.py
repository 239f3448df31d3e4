"""Pacing. Owns which campaigns take part in one decision: one coin a campaign, with the serve probability it is given.

The coins are tossed before anything is scored, by the seed alone. The candidates they leave are part of what a decision
is conditioned on, like the page: propensities are given them, and a policy is judged under the pacing that was in
force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from common.errors import OutOfRange
from common.wire.messages import Creative
from policies.placement.draw import uniforms
from policies.placement.inputs import Inputs


def paced(creatives: Sequence[Creative], inputs: Inputs, seed: str) -> tuple[Creative, ...]:
    """The creatives whose campaigns take part this time.

    Raises:
        OutOfRange: a serve probability is not in [0, 1].
    """
    if not inputs.pacing:
        return tuple(creatives)
    serves = coins(inputs.pacing, seed)
    serving = {campaign: serves(campaign) for campaign in inputs.pacing}
    campaigns = inputs.campaigns  # as ``inputs.campaign_of`` says, written out: it is asked of a thousand at a time
    return tuple(
        one
        for one in creatives
        if serving.get(campaigns.get(one.creative_id) or one.campaign_id or one.advertiser, True)
    )


def coins(pacing: Mapping[str, float], seed: str) -> Callable[[str], bool]:
    """Says of a paced campaign whether it takes part in the decision of this seed.

    Raises:
        OutOfRange: (what is returned) a serve probability is not in [0, 1].
    """
    toss = uniforms(seed, "pacing")

    def serves(campaign: str) -> bool:
        probability = pacing[campaign]
        if not 0 <= probability <= 1:
            raise OutOfRange("a serve probability is a number from 0 to 1")
        return toss(campaign) < probability

    return serves
