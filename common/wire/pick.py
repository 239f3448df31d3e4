"""The private pick on the wire: one index out of a public list, and that list. Holds all its fields.

The index is drawn by top-m randomised response (``common.privacy.top_m``): it is ε-LDP for everything that chose it.
Everything else in a pick is public: which list, which mechanism, which ε.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, Literal

from pydantic import Field, StrictInt

from common.crypto.signing import canonical
from common.privacy.top_m import TopM
from common.wire.base import Digest, Handle, Message, ShortText
from common.wire.placement import Creative, SlotRequest

SlotGroupName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")]
MechanismName = Literal["top_m_randomised_response"]
ContextName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


class Pick(Message):
    """What a device tells about itself for one slot group and epoch: the same answer however often it is asked.

    Attributes:
        epoch: number of the epoch.
        index: place in the list.
        epsilon: ε of the one draw behind it.
        list_hash: digest of the list, which fixes candidates, order, m and ε.
    """

    slot_group: SlotGroupName
    epoch: StrictInt = Field(ge=0, le=1 << 31)
    index: StrictInt = Field(ge=0, lt=1024)
    mechanism: MechanismName = "top_m_randomised_response"
    epsilon: float = Field(gt=0, le=12, allow_inf_nan=False)
    list_hash: Digest


class PrivatePick(Message):
    """Asks for placements with a private pick: the page's facts, the slots, the pick, and nothing else of the person.

    Attributes:
        context: facts about the page, which the app knows too.
    """

    kind: Literal["private_pick"] = "private_pick"
    handle: Handle
    slots: tuple[SlotRequest, ...] = Field(min_length=1, max_length=8)
    context: dict[ContextName, ShortText] = Field(default_factory=dict, max_length=32)
    locale: Literal["en", "zh-CN"] = "en"
    pick: Pick


class PickStop(Message):
    """Asks the service to use no pick of this device in the running epoch; the same words whether there is one."""

    kind: Literal["pick_stop"] = "pick_stop"
    handle: Handle


class CandidateList(Message):
    """The public list of one slot group and epoch, fixed for the epoch and the same signed bytes for everybody.

    Attributes:
        ends_at: when the epoch is over, seconds since the epoch of Unix.
        chosen: m.
        epsilon: ε of one draw.
        candidates: K creatives, whole, so that a thin client needs no catalogue; their order is the public order.
        ordered_by: what devices order candidates by, ``response`` or ``value``; it stays for the epoch, whichever
            placement policy is put in force meanwhile.
    """

    kind: Literal["candidate_list"] = "candidate_list"
    slot_group: SlotGroupName
    epoch: int = Field(ge=0)
    ends_at: int
    catalogue_version: int = Field(ge=1)
    mechanism: MechanismName = "top_m_randomised_response"
    chosen: int = Field(ge=1)
    epsilon: float = Field(gt=0, le=12, allow_inf_nan=False)
    candidates: tuple[Creative, ...] = Field(min_length=2, max_length=8)
    ordered_by: Literal["response", "value"] = "response"

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON: what a pick names. Lists from before ``ordered_by`` was said keep theirs."""
        unsaid = {"ordered_by"} if self.ordered_by == "response" else None
        return hashlib.sha256(canonical(self.model_dump_json(exclude=unsaid).encode())).hexdigest()

    @property
    def drawn_by(self) -> TopM:
        """The mechanism over this list."""
        return TopM(candidates=len(self.candidates), chosen=self.chosen, epsilon=self.epsilon)
