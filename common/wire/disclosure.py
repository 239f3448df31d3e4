"""The disclosure card of a model: what was released to make it, at what cost, and what that does not protect.

Travels inside the signed manifest, so a card cannot be shown for another model or edited afterwards. Real figures and
extrapolated ones never share a field. After the practice of Gboard's model cards (Xu et al. 2023, "Federated learning
of Gboard language models with differential privacy").
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.privacy.parameters import PrivacyStatement
from common.taxonomy import Mechanism, Profile, ReleaseKind
from common.wire.base import Message, ShortText


class ReleaseDisclosure(Message):
    """All releases of one kind that went into the model.

    Attributes:
        clipping_norm: C of the last of them, in the vector's own units.
        clipping_norm_adaptive: True if C moved from round to round (its own release paid for that).
        noise_stddev: σ = z·C on the sum (user level) or on one step's sum (record level).
        participations_max: how many of them one device can be part of.
        statement: what they cost together, on their own line.
    """

    kind: ReleaseKind
    mechanism: Mechanism
    dimension: int = Field(ge=1)
    clipping_norm: float = Field(gt=0)
    clipping_norm_adaptive: bool = False
    noise_multiplier: float = Field(ge=0)
    noise_stddev: float = Field(ge=0)
    participations_max: int = Field(ge=1)
    statement: PrivacyStatement


class CohortDisclosure(Message):
    """How many devices there really were, over the rounds of the training."""

    rounds: int = Field(ge=1)
    roster_min: int = Field(ge=0)
    roster_median: float = Field(ge=0)
    contributions_min: int = Field(ge=0)
    contributions_median: float = Field(ge=0)


class Extrapolation(Message):
    """What the same noise on the mean update would cost with more devices; nothing of this was run."""

    devices: int = Field(ge=1)
    noise_multiplier: float = Field(gt=0)
    statement: PrivacyStatement


class Disclosure(Message):
    """Everything a reader needs to judge the privacy claim of one model.

    Attributes:
        totals: one statement per line (unit, relation, trust); lines are never added up.
        trust_assumptions: who must behave for the totals to hold.
    """

    schema_version: Literal["reticent-disclosure-1"] = "reticent-disclosure-1"
    profile: Profile
    totals: tuple[PrivacyStatement, ...]
    releases: tuple[ReleaseDisclosure, ...]
    sampling_assumption: ShortText
    trust_assumptions: tuple[ShortText, ...]
    randomness: ShortText
    cohort: CohortDisclosure
    extrapolations: tuple[Extrapolation, ...] = ()
    not_protected: tuple[ShortText, ...]
