"""Shape of the placement policy document. Owns its fields, ranges and units; reads no file and decides nothing.

There is no field for a price, and none can be added by a document (``extra="forbid"``): g orders and chooses, and what
anything costs anybody is settled elsewhere, from what was agreed before anybody's behaviour was looked at.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EligibilityRules(BaseModel):
    """Filters before anything is scored; they look at the catalogue, the policy and the page, never at a person.

    Attributes:
        denied_categories: never shown, whatever the score; compared without regard to case, spaces and hyphens.
        denied_advertisers: likewise, by the advertiser's exact name.
        allowed_categories: if there are any, nothing else is shown.
        match_context: names of facts about the page that a creative must share where the page states them
            (``category`` compares with the creative's category, other names with its attributes).
        require_label: a creative without its "Ad" label in every language is not shown.
        languages: in which a creative must have its texts.
    """

    model_config = _FROZEN
    denied_categories: tuple[str, ...]
    denied_advertisers: tuple[str, ...] = ()
    allowed_categories: tuple[str, ...] = ()
    match_context: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")], ...] = ()
    require_label: bool = True
    languages: tuple[str, ...] = ()


class CapScope(StrEnum):
    """What a frequency cap counts together."""

    CREATIVE = "creative"
    CAMPAIGN = "campaign"
    ADVERTISER = "advertiser"
    CATEGORY = "category"


class CapRule(BaseModel):
    """At most ``views_max`` views of one creative, campaign, advertiser or category in any ``window_hours``."""

    model_config = _FROZEN
    scope: CapScope
    views_max: int = Field(ge=1, le=10_000)
    window_hours: float = Field(gt=0, le=24 * 366)


class Calibration(BaseModel):
    """Y on the log-odds scale, stretched and shifted: logit(calibrated Y) = slope · logit(Y) + intercept.

    **Source:** Platt 1999, "Probabilistic Outputs for Support Vector Machines".
    """

    model_config = _FROZEN
    slope: float = Field(default=1.0, gt=0, le=100)
    intercept: float = Field(default=0.0, ge=-50, le=50)


class ScoreRule(BaseModel):
    """What candidates are ordered by.

    Attributes:
        kind: ``response`` is calibrated Y; ``value`` is what the advertiser bids for a response times calibrated Y.
        calibration: from a model's Y to a probability that can be multiplied.
        floor: least score that may be shown; in Y's units, or in the bids' units for ``value``.
    """

    model_config = _FROZEN
    kind: Literal["response", "value"] = "response"
    calibration: Calibration = Calibration()
    floor: float | None = Field(default=None, ge=0)


class GreedyStrategy(BaseModel):
    """The best candidate left, always."""

    model_config = _FROZEN
    kind: Literal["greedy"]


class ThresholdStrategy(BaseModel):
    """Show the best-scoring creative of a slot if it reaches the threshold, else leave the slot to the fallback."""

    model_config = _FROZEN
    kind: Literal["threshold"]
    score_min: float = Field(ge=0, le=1)


class TopKStrategy(BaseModel):
    """Fill slots from the ``k`` best, one creative once."""

    model_config = _FROZEN
    kind: Literal["top_k"]
    k: int = Field(ge=1, le=1000)


class SoftmaxStrategy(BaseModel):
    """Among the ``k`` best, with probability proportional to exp(score / ``temperature``)."""

    model_config = _FROZEN
    kind: Literal["softmax"]
    temperature: float = Field(gt=0)
    k: int = Field(default=20, ge=1, le=1000)


class EpsilonGreedyStrategy(BaseModel):
    """The best, but with probability ``exploration`` one drawn evenly from the ``k`` best."""

    model_config = _FROZEN
    kind: Literal["epsilon_greedy"]
    exploration: float = Field(ge=0, le=1)
    k: int = Field(default=20, ge=1, le=1000)


class ThompsonStrategy(BaseModel):
    """Among the ``k`` best, with the probability that each is the best one under a posterior of the scores.

    Attributes:
        posterior: ``gaussian`` has the score as its mean and ``stddev`` as its deviation where nothing was observed;
            ``beta`` is a Beta distribution of the response with mean Y worth ``prior_strength`` observations.
        stddev: in the score's units; ``gaussian`` only.
        prior_strength: how many observations Y is worth; evidence beside it narrows either posterior.
        cells: of the quadrature.
        k: the pool.
    """

    model_config = _FROZEN
    kind: Literal["thompson"]
    posterior: Literal["gaussian", "beta"] = "gaussian"
    stddev: float = Field(default=0.02, gt=0)
    prior_strength: float = Field(default=100.0, gt=0, le=1e9)
    cells: int = Field(default=200, ge=50, le=5000)
    k: int = Field(default=20, ge=1, le=100)


AnyStrategy = Annotated[
    GreedyStrategy | ThresholdStrategy | TopKStrategy | SoftmaxStrategy | EpsilonGreedyStrategy | ThompsonStrategy,
    Field(discriminator="kind"),
]


class PlacementPolicy(BaseModel):
    """The placement policy g: eligibility, caps, score, floor, then a strategy with its tie-break."""

    model_config = _FROZEN
    version: int = Field(ge=1)
    name: str
    eligibility: EligibilityRules
    caps: tuple[CapRule, ...] = Field(default=(), max_length=16)
    score: ScoreRule = ScoreRule()
    strategy: AnyStrategy
    tie_break: Literal["stable_hash"] = "stable_hash"
