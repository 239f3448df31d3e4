"""What an app says of a page, a person's signals and a device's pick. Owns these words; sends nothing.

A private pick is the device's: drawn once for a slot group and epoch, and paid for. To hand on the same pick again is
free. A backend neither draws one nor changes one: what is not the device's own answer is not used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypedDict

from reticent_client.answers import Locale
from reticent_client.decode import decode


@dataclass(frozen=True, slots=True)
class Slot:
    """One opportunity on a surface: an id of letters, digits and ``_.:-``, and how many positions it has."""

    slot_id: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Signals:
    """Privacy signals that the app has seen. Hand on what there is: an empty string is not the same as none.

    ``repr`` leaves the strings out: they are personal data.
    """

    gpc: bool = False
    tcf: str | None = field(default=None, repr=False)
    gpp: str | None = field(default=None, repr=False)
    us_privacy: str | None = field(default=None, repr=False)

    def told(self) -> dict[str, Any]:
        """As the service takes them: what is absent is not sent."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Pick:
    """A device's private pick: one index out of the public list ``/v1/candidates/{slot_group}``.

    ``repr`` leaves the index out: it is personal, if only by a little.

    Attributes:
        slot_group: whose list; every slot of the decision must be of this group.
        epoch: number of the epoch.
        index: place in the list.
        epsilon: of the one draw behind it.
        list_hash: digest of the list.
    """

    slot_group: str
    epoch: int
    index: int = field(repr=False)
    epsilon: float
    list_hash: str
    mechanism: str = "top_m_randomised_response"

    def told(self) -> dict[str, Any]:
        """As the service takes it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """What a device gives its app to have placements with a private pick: the page, the slots, the pick.

    Attributes:
        handle: of the device whose pick it is. Hand on what belongs to your own session's person, and nobody else's.
    """

    handle: str = field(repr=False)
    slots: tuple[Slot, ...]
    pick: Pick
    context: Mapping[str, str] = field(default_factory=dict)
    locale: Locale = "en"

    @classmethod
    def read(cls, message: str | bytes | Mapping[str, object]) -> Self:
        """Understand a device's message.

        Raises:
            UnexpectedAnswer: it is none; the text names the field, and never its value.
        """
        if isinstance(message, Mapping):
            return decode(cls, dict(message))
        try:
            data = json.loads(message)
        except (ValueError, RecursionError):
            data = None
        return decode(cls, data)


class Asked(TypedDict, total=False):
    """What may be said beside the slots; what is left out is as if it were not there.

    Attributes:
        handle: of the person, as their device got it; without one the answer is for whoever sees the page.
        context: facts about the page, never about the person.
        locale: language of the ads, ``en`` if it is not said.
        signals: privacy signals that came with the person's request.
        tmax_ms: milliseconds until the answer must be here; ``calls.TMAX_MS`` if it is not said.
        blocked_categories: what this page refuses.
        blocked_advertisers: likewise, by name.
        pick: the private pick of the handle's device (``DeviceMessage.read``). It is used or the answer is contextual
            and says why (``reason``): ``pick-outdated`` means that the device should fetch the list of this epoch.
    """

    handle: str | None
    context: Mapping[str, str | float]
    locale: Locale
    signals: Signals
    tmax_ms: int
    blocked_categories: Sequence[str]
    blocked_advertisers: Sequence[str]
    pick: Pick | None
