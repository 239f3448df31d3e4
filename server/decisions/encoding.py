"""The answer's bytes. Owns how an answer is put together from parts that were encoded before.

What is the same in many answers (a creative in one language, an explanation, the state's versions) is encoded once.
``answering.Answers.answer`` stays the definition: a test holds both to the same JSON.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from common.taxonomy import DecisionMode, RefusalReason
from policies.notices import Locale
from policies.placement.protocol import Placement, PlacementReason
from server.decisions import wording
from server.decisions.answering import Answers
from server.decisions.draft import Draft
from server.decisions.follow_ups import FollowUpService
from server.decisions.in_force import InForce
from server.decisions.repository import PositionKey
from server.decisions.schemas import PrivacySignal, filled

_STATES: Final = 9
_encode: Final = msgspec.json.Encoder().encode
_QUIET: Final = PrivacySignal(gpc=False, honoured=False).model_dump_json().encode()
_MODES: Final = {mode: mode.value.encode() for mode in DecisionMode}
_OUTCOMES: Final = {reason: _encode(reason.value) for reason in PlacementReason}


class Encoded:
    """What of an answer is the same under one state of things."""

    def __init__(self, state: InForce) -> None:
        self.state = state
        self._creatives: dict[tuple[str, Locale], bytes] = {}
        said: dict[str, Any] = {
            "policy_version": state.policy.policy.version,
            "policy_digest": state.policy.digest,
            "model_version": state.model_version,
            "catalogue_version": state.catalogue_version,
        }
        self.versions = _encode(said)[1:-1]
        self.candidates = _encode(state.candidates)

    def creative(self, creative_id: str, locale: Locale) -> bytes:
        """A creative in one language."""
        found = self._creatives.get((creative_id, locale))
        if found is None:
            found = filled(self.state.by_id[creative_id], locale).model_dump_json().encode()
            self._creatives[creative_id, locale] = found
        return found


class Encoder:
    """Encodes the answers of one service.

    Args of the constructor:
        answers: the definition; it makes the parts that are not the same in many answers.
        follow_ups: issues tokens.
    """

    def __init__(self, answers: Answers, follow_ups: FollowUpService) -> None:
        self._answers, self._follow_ups = answers, follow_ups
        self._reasons: dict[tuple[RefusalReason | None, Locale], bytes] = {}
        self._encoded: list[Encoded] = []

    def encode(self, draft: Draft) -> bytes:
        """The answer to a settled decision."""
        held = self._held(draft.told)
        permit, candidates = b"null", b"null"
        if (signed := self._answers.permit(draft)) is not None:
            permit, candidates = b'"%b"' % signed.encode(), held.candidates
        heard = _QUIET if not draft.heard.findings else self._answers.privacy_signal(draft).model_dump_json().encode()
        parts = [b'{"decision_id":"%b","mode":"%b","slots":[' % (draft.decision_id.encode(), _MODES[draft.mode])]
        confirmed = draft.recorded and draft.reason is not None
        for placed, before in zip(draft.placements, self._before(draft, held), strict=True):
            parts.append(before)
            if confirmed and placed.creative_id is not None:
                key = PositionKey(draft.decision_id, placed.slot_id, placed.position)
                parts.append(self._follow_ups.tokens_json(key, draft.now, placed.creative_id))
            else:
                parts.append(b"null")
        end = b'}],"permit":%b,"candidates":%b,%b,"privacy_signal":%b}'
        parts.append(end % (permit, candidates, held.versions, heard))
        return b"".join(parts)

    def _held(self, state: InForce) -> Encoded:
        """What was encoded of a state before; the newest few states are remembered: one for each arm."""
        for held in self._encoded:
            if held.state is state:
                return held
        found = Encoded(state)
        self._encoded = [found, *self._encoded[: _STATES - 1]]
        return found

    def _before(self, draft: Draft, held: Encoded) -> tuple[bytes, ...]:
        """What comes before the tokens of every position; the same for all decisions of one shape."""
        shape, what = draft.shape, (draft.reason, draft.request.locale)
        found = None if shape is None else shape.parts.get(what)
        if found is None:
            found = tuple(
                (b"},{" if number else b"{") + self._position(placed, what, held)
                for number, placed in enumerate(draft.placements)
            )
            if shape is not None:
                shape.parts[what] = found
        return found

    def _position(self, placed: Placement, what: tuple[RefusalReason | None, Locale], held: Encoded) -> bytes:
        creative = b"null" if placed.creative_id is None else held.creative(placed.creative_id, what[1])
        begin = b'"slot_id":"%b","position":%d' % (placed.slot_id.encode(), placed.position)
        return b'%b%b%b,"creative":%b,"tokens":' % (begin, self._said(*what), _OUTCOMES[placed.reason], creative)

    def _said(self, reason: RefusalReason | None, locale: Locale) -> bytes:
        """Mode, reason and explanation."""
        found = self._reasons.get((reason, locale))
        if found is None:
            mode = DecisionMode.ON_DEVICE if reason is None else DecisionMode.CONTEXTUAL
            said = {"mode": mode.value, "reason": reason, "explanation": wording.explanation(reason, locale)}
            found = self._reasons[reason, locale] = b"," + _encode(said)[1:-1] + b',"outcome":'
        return found
