"""What an advertiser hands in: campaigns, creatives and their texts. Owns fields and ranges; decides nothing.

Texts take no control characters and none that turn the direction of writing: what a reviewer reads is what people see.
A landing page is a plain https address: no user before the host, no other scheme behind a redirect.
"""

from __future__ import annotations

from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, model_validator

from common.wire.placement import ViewCap

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_VISIBLE: Final = "^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]*$"
_TIME_MAX: Final = 4_102_444_800  # 2100-01-01

Name = Annotated[str, Field(min_length=1, max_length=120, pattern=_VISIBLE)]
Tag = Annotated[str, Field(min_length=1, max_length=60, pattern=_VISIBLE)]
Region = Annotated[str, Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$", examples=["CN", "US-CA"])]
Locale = Annotated[str, Field(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})?$", examples=["en", "zh-CN"])]
Moment = Annotated[StrictInt, Field(ge=0, le=_TIME_MAX, description="Seconds since the epoch.")]
Money = Annotated[StrictInt, Field(ge=0, le=10**15, description="Millionths of the campaign's currency.")]
Landing = Annotated[
    str,
    Field(
        max_length=500,
        pattern=r"^https://[A-Za-z0-9]([A-Za-z0-9.-]{0,250}[A-Za-z0-9])?(:[0-9]{1,5})?"
        r"([/?#][A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*)?$",
        examples=["https://shop.example/offers"],
    ),
]


class CampaignTerms(BaseModel):
    """An advertiser's plan.

    Attributes:
        payer: who pays, where it is not the advertiser; shown beside the ad.
        landing_url: the registered landing page; a creative may lead elsewhere on the same host only.
        ends_at: the first second in which nothing is shown any more.
        daily_budget_micros: None: the budget alone bounds a day.
        bid_micros: offered for one response; orders candidates, bills nobody.
        regions: where alone it is shown; none: everywhere.
        tags: topics by which people can switch it off.
    """

    model_config = _FROZEN
    name: Name
    payer: Name
    landing_url: Landing
    starts_at: Moment
    ends_at: Moment
    budget_micros: Money
    daily_budget_micros: Money | None = None
    bid_micros: Annotated[StrictInt, Field(ge=0, le=10**12)] = 0
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")
    regions: tuple[Region, ...] = Field(default=(), max_length=100)
    tags: tuple[Tag, ...] = Field(default=(), max_length=20)
    caps: tuple[ViewCap, ...] = Field(default=(), max_length=4)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.ends_at <= self.starts_at:
            raise ValueError("a campaign ends after it starts")
        if self.daily_budget_micros is not None and self.daily_budget_micros > self.budget_micros:
            raise ValueError("a day's budget is within the whole budget")
        if len({cap.window_hours for cap in self.caps}) != len(self.caps):
            raise ValueError("two caps for one window")
        return self


COMMERCIAL: Final = frozenset(
    {"name", "starts_at", "ends_at", "budget_micros", "daily_budget_micros", "bid_micros", "caps"}
)
"""Terms that may change without a new review: when, how much, how often. What is shown, by whom and where may not."""


class CreativeText(BaseModel):
    """The texts of a creative in one language (the assets of a native ad: title, description, button, image).

    Attributes:
        image_alt: what the picture shows, for who does not see it.
    """

    model_config = _FROZEN
    title: Annotated[str, Field(min_length=1, max_length=90, pattern=_VISIBLE)]
    description: Annotated[str, Field(min_length=1, max_length=200, pattern=_VISIBLE)]
    image_alt: Annotated[str, Field(min_length=1, max_length=200, pattern=_VISIBLE)]
    call_to_action: Annotated[str, Field(min_length=1, max_length=25, pattern=_VISIBLE)] | None = None


Attribute = Annotated[str, Field(min_length=1, max_length=60, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]


class CreativeTerms(BaseModel):
    """One thing to be shown.

    Attributes:
        category: of what is advertised.
        item_id: the product, as the model's features know it; None: the creative is its own item.
        attributes, numbers: public facts about it; they feed features.
        landing_url: on the host of the campaign's landing page; None: that page.
    """

    model_config = _FROZEN
    category: Tag
    texts: dict[Locale, CreativeText] = Field(min_length=1, max_length=12)
    item_id: Name | None = None
    attributes: dict[Attribute, Annotated[str, Field(max_length=200, pattern=_VISIBLE)]] = Field(
        default_factory=dict, max_length=30
    )
    numbers: dict[Attribute, StrictFloat] = Field(default_factory=dict, max_length=30)
    tags: tuple[Tag, ...] = Field(default=(), max_length=20)
    landing_url: Landing | None = None


def host_of(landing_url: str) -> str:
    """The host and port that a landing page is on, in small letters."""
    return urlsplit(landing_url).netloc.casefold()
