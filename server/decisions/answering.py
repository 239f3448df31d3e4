"""From a decision to its answer. Owns what is told about it, the permit for the device, and the follow-up tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from common.crypto.signing import SigningKey
from common.taxonomy import DecisionMode, Purpose
from common.wire.documents import seal
from common.wire.messages import PlacementPermit
from policies.consent import Permit
from server.decisions import wording
from server.decisions.draft import Draft
from server.decisions.follow_ups import FollowUpService
from server.decisions.in_force import InForce
from server.decisions.permits import PermitForm
from server.decisions.repository import PositionKey
from server.decisions.schemas import DecisionAnswer, PrivacySignal, SlotDecision, filled
from server.signals.schemas import SignalFinding
from server.signals.service import SignalReader

PERMIT_S: Final = 300


class Answers:
    """Makes answers.

    Args of the constructor:
        follow_ups: issues tokens.
        signals: says what a verdict over signals opposes.
        signer: signs permits.
        pacing: serve probability by campaign, where it is below 1.
    """

    def __init__(
        self,
        follow_ups: FollowUpService,
        signals: SignalReader,
        signer: SigningKey,
        *,
        pacing: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._follow_ups, self._signals, self._signer, self._pacing = follow_ups, signals, signer, pacing
        self._form: tuple[InForce, dict[str, float], PermitForm] | None = None

    def answer(self, draft: Draft) -> DecisionAnswer:
        """The whole answer to a settled decision."""
        state = draft.told
        permit = self.permit(draft)
        return DecisionAnswer(
            decision_id=draft.decision_id,
            mode=draft.mode,
            slots=self._slots(draft),
            permit=permit,
            candidates=None if permit is None else state.candidates,
            policy_version=state.policy.policy.version,
            policy_digest=state.policy.digest,
            model_version=state.model_version,
            catalogue_version=state.catalogue_version,
            privacy_signal=self.privacy_signal(draft),
        )

    def privacy_signal(self, draft: Draft) -> PrivacySignal:
        """Which signals were seen, and whether they were heeded."""
        request = draft.request
        return PrivacySignal(
            gpc=request.gpc or request.signals.gpc,
            honoured=Purpose.PLACE_PERSONALISED in self._signals.opposed(draft.heard, draft.jurisdiction),
            signals=tuple(SignalFinding.of(finding) for finding in draft.heard.findings),
        )

    def permit(self, draft: Draft) -> str | None:
        """The signed permit: minutes long, never longer than the consent behind it; None without consent."""
        state, verdict = draft.state, draft.verdict
        if (
            not isinstance(verdict, Permit)
            or draft.mode is not DecisionMode.ON_DEVICE
            or state.catalogue is None
            or state.model is None
        ):
            return None
        told, request, pacing = draft.told, draft.request, dict(self._pacing())
        if request.blocked_categories or request.blocked_advertisers or request.least_bids:
            return seal(self._document(draft, verdict, pacing), self._signer)
        form = self._form
        if form is None or form[0] is not told or form[1] != pacing:
            form = self._form = (told, pacing, PermitForm(self._document(draft, verdict, pacing), self._signer))
        ends = min(draft.now + PERMIT_S, int(verdict.valid_until))
        handle = request.handle or ""
        return form[2].fill(draft.decision_id, handle, request.slots, issued_at=draft.now, expires_at=ends)

    @staticmethod
    def _document(draft: Draft, verdict: Permit, pacing: dict[str, float]) -> PlacementPermit:
        state = draft.told
        return PlacementPermit(
            decision_id=draft.decision_id,
            handle=draft.request.handle or "",
            slots=draft.request.slots,
            catalogue_version=state.catalogue_version or 0,
            policy_digest=state.policy.digest,
            model_version=state.model_version or 0,
            issued_at=draft.now,
            expires_at=min(draft.now + PERMIT_S, int(verdict.valid_until)),
            stopped=tuple(sorted(state.versions.stopped)),
            pacing=pacing,
            experiment=state.versions.experiment,
            blocked_categories=tuple(sorted(draft.request.blocked_categories)),
            blocked_advertisers=tuple(sorted(draft.request.blocked_advertisers)),
            least_bids=dict(draft.request.least_bids),
        )

    def _slots(self, draft: Draft) -> tuple[SlotDecision, ...]:
        reason, locale, picked = draft.reason, draft.request.locale, draft.mode is DecisionMode.PRIVATE_PICK
        pick = draft.request.pick if picked else None
        return tuple(
            SlotDecision(
                slot_id=p.slot_id,
                position=p.position,
                mode=draft.mode,
                reason=reason,
                explanation=wording.explanation(reason, locale, picked=picked),
                outcome=p.reason,
                creative=None
                if p.creative_id is None
                else filled(draft.state.by_id[p.creative_id], locale, epsilon=None if pick is None else pick.epsilon),
                tokens=self._follow_ups.tokens(
                    PositionKey(draft.decision_id, p.slot_id, p.position), draft.now, p.creative_id
                )
                if draft.recorded and (picked or reason is not None) and p.creative_id is not None
                else None,
            )
            for p in draft.answered
        )
