"""Placement permits. Owns writing them quickly: what is the same in many of them is brought into canonical form once.

A permit is what ``seal`` makes of it, to the byte; a test holds both together. What may differ between two permits is
found in the canonical form of a sample by values that stand for it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from common.crypto.signing import SigningKey, canonical, sign_canonical
from common.wire.documents import PERMIT_TYP, seal
from common.wire.messages import PlacementPermit, SlotRequest

_DECISION, _HANDLE, _SLOT = "decision-goes-here", "handle-goes-here", "slots-go-here"
_ISSUED, _EXPIRES = 1_111_111_111_111_111, 2_222_222_222_222_222
_MARKS: Final = re.compile(
    rf'(?<="){_DECISION}(?=")|(?<="){_HANDLE}(?=")|{_ISSUED}|{_EXPIRES}|\{{"count":1,"slot_id":"{_SLOT}"\}}'.encode()
)
_ORDER: Final = (_DECISION, str(_EXPIRES), _HANDLE, str(_ISSUED), f'{{"count":1,"slot_id":"{_SLOT}"}}')


class PermitForm:
    """A permit with blanks.

    Args of the constructor:
        permit: any permit; all of it but decision, handle, times and slots is kept.
        signer: signs what is filled in.
    """

    def __init__(self, permit: PlacementPermit, signer: SigningKey) -> None:
        self._permit, self._signer = permit, signer
        blanks = {
            "decision_id": _DECISION,
            "handle": _HANDLE,
            "slots": (SlotRequest(slot_id=_SLOT),),
            "issued_at": _ISSUED,
            "expires_at": _EXPIRES,
        }
        text = canonical(permit.model_copy(update=blanks).model_dump_json().encode())
        found = tuple(mark.decode() for mark in _MARKS.findall(text))
        self._parts = _MARKS.split(text) if found == _ORDER else None

    def fill(
        self, decision_id: str, handle: str, slots: Sequence[SlotRequest], *, issued_at: int, expires_at: int
    ) -> str:
        """A signed permit."""
        if self._parts is None:  # a name in it looks like a blank
            blanks = {"decision_id": decision_id, "handle": handle, "slots": tuple(slots)}
            times = {"issued_at": issued_at, "expires_at": expires_at}
            return seal(self._permit.model_copy(update=blanks | times), self._signer)
        wanted = ",".join([f'{{"count":{slot.count},"slot_id":"{slot.slot_id}"}}' for slot in slots])
        filling = (decision_id.encode(), b"%d" % expires_at, handle.encode(), b"%d" % issued_at, wanted.encode(), b"")
        payload = b"".join([part for pair in zip(self._parts, filling, strict=True) for part in pair])
        return sign_canonical(payload, self._signer, PERMIT_TYP)
