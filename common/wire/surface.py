"""What is public about a placement that an app offers. Arrives on devices inside the signed catalogue."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictInt

from common.wire.base import Message, ShortText


class Surface(Message):
    """One placement: a slot that decision requests name, with what it takes and refuses.

    Attributes:
        floor_micros: least expected value of a response, in millionths; for policies that order by value.
        blocked_categories, blocked_advertisers: what is never shown in it.
    """

    slot_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,64}$")]
    floor_micros: StrictInt = Field(default=0, ge=0, le=10**12)
    blocked_categories: tuple[ShortText, ...] = ()
    blocked_advertisers: tuple[ShortText, ...] = ()
