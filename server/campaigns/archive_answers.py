"""A line of the ad repository as the public reads it. Owns its form and which reach may be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import RejectionReason
from common.wire.messages import Creative
from server.campaigns.archive_repository import Presented
from server.campaigns.crowd import CROWD_MIN, is_crowd

_FROZEN: Final = ConfigDict(frozen=True, extra="forbid")


class AdContent(BaseModel):
    """What was shown (DSA Art. 39(2)(a))."""

    model_config = _FROZEN
    title: dict[str, str]
    description: dict[str, str]
    image_alt: dict[str, str]
    call_to_action: dict[str, str]
    label: dict[str, str]
    category: str
    item_id: str
    landing_url: str


class Aim(BaseModel):
    """For whom it was meant (DSA Art. 39(2)(e))."""

    model_config = _FROZEN
    regions: tuple[str, ...] = Field(description="None: everywhere.")
    particular_group: bool = Field(description="Whether it was meant for some people rather than for whoever comes.")
    parameters: tuple[str, ...] = Field(default=("page", "region", "on-device-relevance"))
    excluded: tuple[str, ...] = Field(
        default=("not-known-to-be-adult", "no-consent", "opted-out"),
        description="Who is left out of relevance on the device; they see it by the page alone.",
    )


class Reach(BaseModel):
    """How many it reached (DSA Art. 39(2)(g)); by country it is not known, because nobody's whereabouts are."""

    model_config = _FROZEN
    devices_per_day: int | None = Field(description="Lower end of a noised count over the last thirty measured days.")
    withheld: str | None = Field(description="Why there is no figure.")


class AdEntry(BaseModel):
    """One content of one ad, and when it could be shown (DSA Art. 39(2))."""

    model_config = _FROZEN
    entry_id: str
    creative_id: str
    campaign: str
    advertiser: str | None = Field(description="On whose behalf it was shown.")
    payer: str | None = Field(description="Who paid.")
    began_at: int
    ended_at: int | None = Field(description="None: it is still shown.")
    content: AdContent | None
    aim: Aim | None
    reach: Reach
    withheld: RejectionReason | None = Field(description="Why it was taken down; its content is not repeated then.")


class AdEntries(BaseModel):
    """A page of the repository, oldest first."""

    items: tuple[AdEntry, ...]
    next_cursor: str | None


def entry(line: Presented, crowds: Mapping[str, float], *, now: int) -> AdEntry:
    """A line for the public."""
    creative = Creative.model_validate_json(line.content)
    hidden = line.withheld is not None
    return AdEntry(
        entry_id=line.entry_id,
        creative_id=line.creative_id,
        campaign=line.campaign,
        advertiser=None if hidden else line.advertiser,
        payer=None if hidden else creative.payer,
        began_at=line.began_at,
        ended_at=_ended(line, creative, now),
        content=None if hidden else _content(creative),
        aim=None if hidden else Aim(regions=creative.regions, particular_group=bool(creative.regions)),
        reach=_reach(crowds.get(line.campaign)),
        withheld=None if line.withheld is None else RejectionReason(line.withheld),
    )


def _ended(line: Presented, creative: Creative, now: int) -> int | None:
    """A campaign ends to the second, whenever the next catalogue is published."""
    if creative.ends_at is not None and creative.ends_at <= min(now, line.ended_at or now):
        return creative.ends_at
    return line.ended_at


def _reach(noised: float | None) -> Reach:
    if noised is None:
        return Reach(devices_per_day=None, withheld="not-counted")
    if not is_crowd(noised):
        return Reach(devices_per_day=None, withheld=f"below-{CROWD_MIN}")
    return Reach(devices_per_day=round(noised), withheld=None)


def _content(creative: Creative) -> AdContent:
    return AdContent.model_validate({name: getattr(creative, name) for name in AdContent.model_fields})
