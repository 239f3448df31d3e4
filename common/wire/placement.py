"""What placements are made of: creatives, the catalogue, slots, and the permit to fill them. Arrives on a device."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictFloat, StrictInt

from common.wire.base import Digest, Handle, Message, ShortText
from common.wire.surface import Surface


class ViewCap(Message):
    """At most ``views_max`` views of a campaign in any ``window_hours``; counted on the device."""

    views_max: StrictInt = Field(ge=1, le=10_000)
    window_hours: float = Field(gt=0, le=24 * 366)


class Creative(Message):
    """One thing that can be shown.

    Attributes:
        attributes, numbers: public facts about the item; they feed features.
        campaign_id: the campaign that it belongs to; None: its advertiser's only one.
        bid_micros: what is offered for one response, in millionths of the account's currency; it orders candidates.
        tags: topics by which people can switch ads off.
        call_to_action: the words of the button; none where a language has none.
        starts_at, ends_at: shown from the first second to before the second, since the epoch; None: no such bound.
        regions: countries or subdivisions where alone it is shown; none: everywhere.
        caps: the campaign's own frequency caps, beside the policy's.
        personal: whether personal scores may choose it; False where fewer people than the crowd were reached.
    """

    creative_id: ShortText
    item_id: ShortText
    attributes: dict[str, str]
    numbers: dict[str, StrictFloat] = Field(default_factory=dict)
    category: ShortText
    advertiser: ShortText
    payer: ShortText
    title: dict[str, ShortText]
    description: dict[str, ShortText]
    image_url: ShortText
    image_alt: dict[str, ShortText]
    landing_url: Annotated[str, Field(pattern=r"^https://", max_length=500)]
    label: dict[str, ShortText]
    campaign_id: ShortText | None = None
    bid_micros: StrictInt = Field(default=0, ge=0, le=10**12)
    tags: tuple[ShortText, ...] = ()
    call_to_action: dict[str, ShortText] = Field(default_factory=dict)
    starts_at: StrictInt | None = None
    ends_at: StrictInt | None = None
    regions: tuple[ShortText, ...] = ()
    caps: tuple[ViewCap, ...] = ()
    personal: StrictBool = True


class Catalogue(Message):
    """All creatives, and the placements they go to: the same signed bytes for everybody."""

    kind: Literal["catalogue"] = "catalogue"
    version: int = Field(ge=1)
    creatives: tuple[Creative, ...]
    surfaces: tuple[Surface, ...] = ()


class SlotRequest(Message):
    """One slot to be filled, with ``count`` positions."""

    slot_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    count: int = Field(default=1, ge=1, le=20)


class PlacementPermit(Message):
    """Lets one subject's device fill these slots by itself, with exactly this catalogue, policy and model.

    Holds nothing that depends on behaviour; it is one of two keys, the other being the device's own gate.

    Attributes:
        stopped: campaigns that a privacy officer has switched off: the device leaves their creatives out.
        pacing: serve probability by campaign, where it is below 1; the same for everybody at that moment.
        experiment: digest of the experiment in force; the device draws its arm by itself.
        blocked_categories, blocked_advertisers: what the surface refuses.
        least_bids: what must be offered at least to take part, by slot id, in millionths: the surface's price floor.
    """

    kind: Literal["placement_permit"] = "placement_permit"
    decision_id: ShortText
    handle: Handle
    slots: tuple[SlotRequest, ...]
    catalogue_version: int = Field(ge=1)
    policy_digest: Digest
    model_version: int = Field(ge=1)
    issued_at: int
    expires_at: int
    stopped: tuple[ShortText, ...] = ()
    pacing: dict[ShortText, Annotated[float, Field(ge=0, le=1)]] = Field(default_factory=dict)
    experiment: Digest | None = None
    blocked_categories: tuple[ShortText, ...] = ()
    blocked_advertisers: tuple[ShortText, ...] = ()
    least_bids: dict[ShortText, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
