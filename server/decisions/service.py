"""Decisions. Owns the rule that nothing personal happens without a permit read from the database at that moment.

The contextual answer is always made first; a live permit then adds what lets the device choose by itself. The permit
is read in the transaction that records the decision, and nothing leaves before its commit.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common.crypto.signing import SigningKey
from common.errors import ContractError, StorageUnavailable, TrustError
from common.signals.verdict import SignalVerdict
from common.taxonomy import DecisionMode, Purpose, RefusalReason, Role
from common.wire.documents import seal
from common.wire.messages import Catalogue, Creative, PlacementPermit
from policies.consent import Permit, Refusal
from policies.placement.decide import decide as g
from policies.placement.eligibility import eligible, running
from policies.placement.protocol import Placement
from policies.schema import PlacementPolicy
from server.access.service import Principal
from server.campaigns.service import CatalogueService
from server.consent import repository as consent_repository
from server.consent.repository import SubjectFacts
from server.consent.service import ConsentService
from server.controls import repository as controls_repository
from server.decisions import repository, wording
from server.decisions.follow_ups import FollowUpService
from server.decisions.repository import Basis, Decided, PositionKey
from server.decisions.request import DecisionRequest
from server.decisions.schemas import DecisionAnswer, PrivacySignal, SlotDecision, filled
from server.decisions.scoring import ContextModel, ContextualScorer
from server.signals.schemas import SignalFinding
from server.signals.service import SignalReader
from server.storage import Database, Transaction

PERMIT_S: Final = 300
_PURPOSE: Final = Purpose.PLACE_PERSONALISED
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """The placement policy and the digest of its document."""

    policy: PlacementPolicy
    digest: str


@dataclass(frozen=True, slots=True)
class _Made:
    """A decision on its way to becoming an answer."""

    decision_id: str
    now: int
    request: DecisionRequest
    catalogue: Catalogue | None
    model: ContextModel | None
    placements: tuple[Placement, ...]
    heard: SignalVerdict
    stopped: frozenset[str] = frozenset()
    jurisdiction: str | None = None

    @property
    def creatives(self) -> tuple[Creative, ...]:
        """What may be shown now: the catalogue without stopped campaigns."""
        return () if self.catalogue is None else running(self.catalogue.creatives, self.stopped)


class DecisionService:
    """Answers decision requests."""

    def __init__(
        self,
        database: Database,
        *,
        consent: ConsentService,
        catalogues: CatalogueService,
        scorer: ContextualScorer,
        follow_ups: FollowUpService,
        signals: SignalReader,
        policy: PolicyInForce,
        signer: SigningKey,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._consent, self._catalogues, self._scorer = database, consent, catalogues, scorer
        self._follow_ups, self._policy, self._signer, self._clock = follow_ups, policy, signer, clock
        self._signals = signals

    def decide(self, request: DecisionRequest, caller: Principal) -> DecisionAnswer:
        """Answer a request. Never an error because of consent: the answer is contextual then and says why."""
        made = self._contextual(request)
        try:
            with self._database.write() as session:
                made = self._without_stopped(session, made)
                found = self._subject(session, made, caller)
                made = replace(made, jurisdiction=None if found is None else found.jurisdiction)
                verdict = self._verdict(session, made, found)
                repository.insert(session, made.decision_id, _lines(made, verdict), self._basis(made), now=made.now)
        except StorageUnavailable:
            return self._answer(made, Refusal(_PURPOSE, RefusalReason.UNAVAILABLE), recorded=False)
        return self._answer(made, verdict, recorded=True)

    def tally(self) -> Counter[tuple[str, str]]:
        """Decided positions by mode and reason."""
        with self._database.read() as session:
            return repository.tally(session)

    def _contextual(self, request: DecisionRequest) -> _Made:
        """G over contextual scores, before anything is asked about the person."""
        moment = self._clock()
        decision_id = f"dec_{int(moment * 1000):012x}{secrets.token_hex(10)}"
        heard = self._signals.judge(replace(request.signals, gpc=request.gpc or request.signals.gpc))
        made = _Made(decision_id, int(moment), request, self._catalogue(), self._model(), (), heard)
        return self._placed(made, moment)

    def _placed(self, made: _Made, moment: float) -> _Made:
        """The request's slots filled from what may be shown."""
        request, model = made.request, made.model

        def score(candidates: Sequence[Creative]) -> list[float]:
            if model is None:
                return [0.0] * len(candidates)
            return model.scores(candidates, context=request.context, numbers=request.numbers, now=moment)

        policy, salt = self._policy.policy, made.decision_id
        try:
            return replace(made, placements=g(policy, made.creatives, score, request.slots, salt=salt))
        except ContractError as error:
            _LOG.error("contextual scores are not used: %s", error.name)
            flat = g(policy, made.creatives, lambda c: [0.0] * len(c), request.slots, salt=salt)
            return replace(made, placements=flat, model=None)

    def _without_stopped(self, session: Transaction, made: _Made) -> _Made:
        """The decision anew without campaigns that are stopped at this moment; the same one where none is."""
        stopped = controls_repository.stopped_campaigns(session)
        return self._placed(replace(made, stopped=stopped), made.now) if stopped else made

    def _catalogue(self) -> Catalogue | None:
        try:
            return self._catalogues.opened()
        except (TrustError, StorageUnavailable) as error:
            _LOG.error("the catalogue is not used: %s", error.name)
            return None

    def _model(self) -> ContextModel | None:
        try:
            return self._scorer.current()
        except StorageUnavailable:
            return None

    def _subject(self, session: Transaction, made: _Made, caller: Principal) -> SubjectFacts | None:
        """Whom the decision is for, if the caller may speak for them; changes of their consent wait."""
        handle = made.request.handle
        if handle is None or made.request.malformed or (caller.role is Role.DEVICE and caller.subject != handle):
            return None
        return consent_repository.subject(session, handle, app_id=caller.app_id, lock="decide")

    def _verdict(self, session: Transaction, made: _Made, found: SubjectFacts | None) -> Permit | Refusal:
        """The consent gate; default deny."""
        if made.request.malformed:
            return Refusal(_PURPOSE, RefusalReason.MALFORMED)
        if made.request.handle is None:
            return Refusal(_PURPOSE, RefusalReason.NO_CONSENT)
        answer = self._consent.permit(session, found, _PURPOSE, signal_opt_out=self._opposed(made))
        if isinstance(answer, Permit) and (made.catalogue is None or made.model is None):
            return Refusal(_PURPOSE, RefusalReason.UNAVAILABLE)
        return answer

    def _opposed(self, made: _Made) -> bool:
        """Whether any signal opposes personalised placement or what it needs, where the person is."""
        return _PURPOSE in self._signals.opposed(made.heard, made.jurisdiction)

    def _basis(self, made: _Made) -> Basis:
        return Basis(
            catalogue_version=None if made.catalogue is None else made.catalogue.version,
            model_version=None if made.model is None else made.model.version,
            policy_digest=self._policy.digest,
        )

    def _answer(self, made: _Made, verdict: Permit | Refusal, *, recorded: bool) -> DecisionAnswer:
        permit = self._permit(made, verdict) if isinstance(verdict, Permit) else None
        candidates = None
        if permit is not None and made.catalogue is not None:
            pool = eligible(made.creatives, self._policy.policy.eligibility)
            candidates = tuple(creative.creative_id for creative in pool)
        basis = self._basis(made)
        return DecisionAnswer(
            decision_id=made.decision_id,
            mode=_mode(verdict),
            slots=self._slots(made, verdict, recorded=recorded),
            permit=permit,
            candidates=candidates,
            policy_version=self._policy.policy.version,
            policy_digest=basis.policy_digest,
            model_version=basis.model_version,
            catalogue_version=basis.catalogue_version,
            privacy_signal=PrivacySignal(
                gpc=made.request.gpc or made.request.signals.gpc,
                honoured=self._opposed(made),
                signals=tuple(SignalFinding.of(finding) for finding in made.heard.findings),
            ),
        )

    def _slots(self, made: _Made, verdict: Permit | Refusal, *, recorded: bool) -> tuple[SlotDecision, ...]:
        creatives = {c.creative_id: c for c in (() if made.catalogue is None else made.catalogue.creatives)}
        reason, locale = _reason(verdict), made.request.locale
        return tuple(
            SlotDecision(
                slot_id=p.slot_id,
                position=p.position,
                mode=_mode(verdict),
                reason=reason,
                explanation=wording.explanation(reason, locale),
                outcome=p.reason,
                creative=None if p.creative_id is None else filled(creatives[p.creative_id], locale),
                tokens=self._follow_ups.tokens(PositionKey(made.decision_id, p.slot_id, p.position), made.now)
                if recorded and reason is not None and p.creative_id is not None
                else None,
            )
            for p in made.placements
        )

    def _permit(self, made: _Made, answer: Permit) -> str | None:
        """The signed permit: minutes long, never longer than the consent behind it."""
        if made.catalogue is None or made.model is None:
            return None
        permit = PlacementPermit(
            decision_id=made.decision_id,
            handle=made.request.handle or "",
            slots=made.request.slots,
            catalogue_version=made.catalogue.version,
            policy_digest=self._policy.digest,
            model_version=made.model.version,
            issued_at=made.now,
            expires_at=min(made.now + PERMIT_S, int(answer.valid_until)),
            stopped=tuple(sorted(made.stopped)),
        )
        return seal(permit, self._signer)


def _mode(verdict: Permit | Refusal) -> DecisionMode:
    return DecisionMode.ON_DEVICE if isinstance(verdict, Permit) else DecisionMode.CONTEXTUAL


def _reason(verdict: Permit | Refusal) -> RefusalReason | None:
    return verdict.reason if isinstance(verdict, Refusal) else None


def _lines(made: _Made, verdict: Permit | Refusal) -> list[Decided]:
    """What is recorded: the creative only where the service chose it."""
    mode, reason = _mode(verdict), _reason(verdict)
    return [
        Decided(p.slot_id, p.position, mode, reason, p.reason.value, p.creative_id if reason else None)
        for p in made.placements
    ]
