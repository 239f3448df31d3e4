"""Decisions. Owns the rule that nothing personal happens without a permit read from the database at that moment.

The contextual answer is always made first; a live permit then adds what lets the device choose by itself. The permit
is read in the transaction that records the decision, and nothing leaves before its commit. What is the same for
everybody (catalogue, model, stopped campaigns) is held in memory and checked in that transaction too: a decision made
under anything else is made anew.
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

from common.errors import ContractError, NotAuthenticated
from common.signals.verdict import SignalVerdict
from common.taxonomy import Purpose, RefusalReason, Role
from common.wire.pick import CandidateList, Pick
from policies.consent import Refusal
from policies.placement.protocol import Placement
from server.access.principal import Principal
from server.consent.service import ConsentService
from server.decisions import repository
from server.decisions.answering import Answers
from server.decisions.asking import Ask, shown
from server.decisions.board import Board
from server.decisions.committing import Committer, Entry, Outcome
from server.decisions.draft import Draft
from server.decisions.in_force import Current, InForce
from server.decisions.journal import Journal
from server.decisions.judging import Judge
from server.decisions.request import DecisionRequest
from server.decisions.schemas import DecisionAnswer
from server.picks.service import PickClaim, PickService
from server.signals.service import SignalReader
from server.storage import Database

TRIES: Final = 5
"""How often what is in force may change under one decision before it gives up; each time takes a publication."""
_PURPOSE: Final = Purpose.PLACE_PERSONALISED
_NOTHING_HEARD: Final = SignalVerdict()
_LOG = logging.getLogger(__name__)


class DecisionService:
    """Answers decision requests.

    Args of the constructor:
        database: where decisions are recorded.
        consent: the consent gate.
        current: what is in force for everybody.
        answers: makes answers out of decisions.
        signals: reads privacy signals.
        pacing: serve probability by campaign, where it is below 1; asked for every decision, so it must be quick.
        picks: reads and charges private picks; without it none is used.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        *,
        consent: ConsentService,
        current: Current,
        answers: Answers,
        signals: SignalReader,
        pacing: Callable[[], Mapping[str, float]] = dict,
        picks: PickService | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._consent, self._current = database, consent, current
        self.answers: Final = answers
        self._signals, self._clock = signals, clock
        self._pacing = pacing
        self._picks = picks
        self.journal: Final = Journal(
            Committer(
                database, Judge(consent.judged, signals.heeds_gpc), clock, None if picks is None else picks.charge
            )
        )

    def decide(self, request: DecisionRequest, caller: Principal) -> DecisionAnswer:
        """Answer a request. Never an error because of consent: the answer is contextual then and says why."""
        return self.answers.answer(self.decided(request, caller))

    def decided(self, request: DecisionRequest, caller: Principal) -> Draft:
        """The decision behind an answer, recorded if it says so. Waits for the commit.

        Raises:
            NotAuthenticated: never from here, unless the caller was only recalled.
        """
        state = self._current.get()
        limit = None if request.tmax_ms is None else time.monotonic() + request.tmax_ms / 1000
        draft = self._made(request, caller, state)
        for _ in range(TRIES):
            entry = self.entry(draft)
            in_time = self.journal.record(entry, None if limit is None else limit - time.monotonic())
            if not in_time:
                return self.late(draft)
            if entry.outcome is not Outcome.OUTDATED:
                return self.settled(draft, entry)
            state = self._current.read(state)
            draft = self._made(request, caller, state)
        return self.settled(draft, self.entry(draft))  # which is of no avail

    def ready(self, request: DecisionRequest, caller: Principal) -> Draft | None:
        """The decision, if all that it takes is in memory already; else None, and ``decide`` brings it there."""
        if request.pick is not None:
            return None
        held, moment = self._current.held, self._clock()
        decision_id = _decision_id(moment)
        state = None if held is None else held.drawn(decision_id)
        request = request if state is None else state.on_surface(request)
        found = None if state is None else state.ready(request, moment)
        if state is None or found is None:
            return None
        pacing = self._pacing()
        shape = None
        if not (request.floors or request.least_bids):
            shape = found.shape(request.slots, salt=decision_id, pacing=pacing)
        placed = self._decided(found, request, pacing, decision_id) if shape is None else shape.placements
        return Draft(decision_id, moment, request, caller, state, placed, self._heard(request), shape=shape)

    def entry(self, draft: Draft, key_hash: str | None = None) -> Entry:
        """A decision as it is committed.

        Args:
            draft: the decision.
            key_hash: of the API key that it came with, if that is to be checked again.
        """
        handle, request, pick = self._handle(draft), draft.request, draft.request.pick
        opposed, without_gpc = self._signals.opposes(draft.heard, _PURPOSE)
        shape = draft.shape
        ask = Ask(
            draft.decision_id,
            draft.now,
            handle,
            named=request.handle is not None,
            malformed=request.malformed,
            app_id=draft.caller.app_id,
            key_hash=key_hash,
            opposed=opposed,
            opposed_without_gpc=without_gpc,
            contextual=shown(draft.placements) if shape is None else shape.shown,
            picked=None if draft.picked is None else shown(draft.picked),
            pick_refused=draft.pick_refused,
        )
        claim = None if draft.picked is None or pick is None or handle is None else PickClaim(handle, pick)
        return Entry(ask, draft.state.under, claim)

    def settled(self, draft: Draft, entry: Entry) -> Draft:
        """The decision after the journal's word on it.

        Raises:
            NotAuthenticated: the API key has ended meanwhile.
        """
        if entry.outcome is Outcome.KEY_ENDED:
            raise NotAuthenticated("a valid API key is needed: Authorization: Bearer rtk_…")
        draft.recorded, draft.jurisdiction = entry.outcome is Outcome.RECORDED, entry.jurisdiction
        draft.verdict = entry.verdict if draft.recorded else Refusal(_PURPOSE, RefusalReason.UNAVAILABLE)
        return draft

    def late(self, draft: Draft) -> Draft:
        """The decision as it is answered when the caller's time is over: contextual, and nothing to confirm."""
        draft.verdict, draft.recorded = Refusal(_PURPOSE, RefusalReason.LATE), False
        return draft

    def tally(self) -> Counter[tuple[str, str]]:
        """Decided positions by mode and reason."""
        with self._database.read() as session:
            return repository.tally(session)

    def _made(self, request: DecisionRequest, caller: Principal, state: InForce) -> Draft:
        """G over contextual scores, before anything is asked about the person."""
        request, moment = state.on_surface(request), self._clock()
        decision_id = _decision_id(moment)
        state = state.drawn(decision_id)
        try:
            placed = self._placed(request, state, moment, decision_id)
        except ContractError as error:
            _LOG.error("contextual scores are not used: %s", error.name)
            state = state.without_model()
            placed = self._placed(request, state, moment, decision_id)
        draft = Draft(decision_id, moment, request, caller, state, placed, self._heard(request))
        if request.pick is not None and not request.malformed and request.handle is not None:
            self._pick(draft, request.pick)
        return draft

    def _pick(self, draft: Draft, pick: Pick) -> None:
        """What the private pick leads to, beside the contextual placements, or why it leads to nothing."""
        found: CandidateList | RefusalReason = RefusalReason.PICK_OUTDATED
        if self._picks is not None and draft.state.model is not None:
            found = self._picks.offered(pick, draft.request.slots)
        if isinstance(found, RefusalReason) or self._picks is None:
            draft.pick_refused = RefusalReason.PICK_OUTDATED
            return
        board = draft.state.informed(draft.request, draft.moment, partial(self._picks.scores, found, pick))
        draft.picked = self._decided(board, draft.request, self._pacing(), draft.decision_id)

    def _placed(
        self, request: DecisionRequest, state: InForce, moment: float, decision_id: str
    ) -> tuple[Placement, ...]:
        board = state.board(request, moment)
        return self._decided(board, request, self._pacing(), decision_id)

    @staticmethod
    def _decided(
        board: Board, request: DecisionRequest, pacing: Mapping[str, float], salt: str
    ) -> tuple[Placement, ...]:
        """What a board gives for a request."""
        floors, least_bids = request.floors, request.least_bids
        return board.decide(request.slots, salt=salt, pacing=pacing, floors=floors, least_bids=least_bids)

    def _heard(self, request: DecisionRequest) -> SignalVerdict:
        signals = request.signals
        if not (request.gpc or signals.gpc) and signals.tcf is signals.gpp is signals.us_privacy is None:
            return _NOTHING_HEARD
        return self._signals.judge(replace(signals, gpc=request.gpc or signals.gpc))

    def _handle(self, draft: Draft) -> str | None:
        """Whom the decision is for, if the caller may speak for them."""
        request, caller = draft.request, draft.caller
        if request.malformed or (caller.role is Role.DEVICE and caller.subject != request.handle):
            return None
        return request.handle


def _decision_id(moment: float) -> str:
    """Random, and in the order of time, which keeps the table's index together."""
    return f"dec_{int(moment * 1000):012x}{os.urandom(10).hex()}"
