"""What ``bench.decisions`` measures, each for uvicorn's ``--factory``: the service, and the controls.

* ``real``: the service as it runs.
* ``naive``: the control of speed. The same service with one ORM session per request, all read and written in it.
* ``behind``: the control of durability. The same service, but answers leave before their rows are committed.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

from common.signals.verdict import SignalVerdict
from common.taxonomy import DecisionMode, Purpose, RefusalReason
from common.wire.messages import Creative
from policies.consent import Permit, Refusal
from policies.placement import assemble
from policies.placement.decide import decide as g
from server.access.principal import Principal
from server.api.app import create_app
from server.api.services import Services
from server.consent import repository as subjects
from server.controls import repository as controls
from server.decisions.committing import Entry, Outcome
from server.decisions.draft import Draft
from server.decisions.in_force import InForce
from server.decisions.journal import Journal, wake
from server.decisions.request import DecisionRequest
from server.decisions.schemas import DecisionAnswer
from server.decisions.seen import read_sqlite
from server.decisions.tables import DecidedPosition

BEHIND_S = 0.05


def real() -> Callable[..., Any]:
    """The service."""
    return create_app()


def naive() -> Callable[..., Any]:
    """One ORM session per request, and nothing held in memory but what is decoded."""
    app = create_app()
    app.door = None  # type: ignore[attr-defined]
    services: Services = app.state.services
    services.decisions.decide = _Naive(services).decide  # type: ignore[method-assign]
    return app


def behind() -> Callable[..., Any]:
    """Answers that do not wait for their commit."""
    os.environ["RETICENT_SEQUENCER"] = "off"
    app = create_app()
    services: Services = app.state.services
    services.decisions.journal.__class__ = _Behind
    return app


class _Naive:
    """A decision as it is written first: read, decide and record in one session."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def decide(self, request: DecisionRequest, caller: Principal) -> DecisionAnswer:
        """Answer a request."""
        services, moment = self._services, time.time()
        catalogue, model = services.catalogues.opened(), services.scorer.current()
        state = services.decisions._current.get()  # noqa: SLF001 - only to have the policy
        state = InForce(state.policy, state.versions, catalogue, model)
        creatives = () if catalogue is None else catalogue.creatives
        state.by_id = {creative.creative_id: creative for creative in creatives}
        decision_id = f"dec_{int(moment * 1000):012x}{time.perf_counter_ns():020x}"

        def score(candidates: Any) -> list[float]:  # noqa: ANN401 - creatives
            if model is None:
                return [0.0] * len(candidates)
            return model.scores(candidates, context=request.context, numbers=request.numbers, now=moment)

        with services.database.write() as session:
            stopped = controls.stopped_campaigns(session)
            running = tuple(c for c in cast("tuple[Creative, ...]", creatives) if c.campaign_id not in stopped)
            told = assemble.inputs(running, now=moment, context=request.context)
            placed = g(state.policy.policy, running, score, request.slots, salt=decision_id, inputs=told)
            draft = Draft(decision_id, moment, request, caller, state, placed, SignalVerdict())
            verdict: Permit | Refusal = Refusal(Purpose.PLACE_PERSONALISED, RefusalReason.NO_CONSENT)
            if request.handle is not None:
                found = subjects.subject(session, request.handle, app_id=caller.app_id, lock="decide")
                verdict = services.consent.permit(session, found, Purpose.PLACE_PERSONALISED)
            draft.verdict, draft.recorded = verdict, True
            mode, reason = draft.mode, draft.reason
            session.add_all(
                DecidedPosition(
                    decision_id=decision_id,
                    slot_id=one.slot_id,
                    position=one.position,
                    mode=mode.value,
                    reason=None if reason is None else reason.value,
                    outcome=one.reason.value,
                    creative_id=None if mode is DecisionMode.ON_DEVICE else one.creative_id,
                    catalogue_version=state.catalogue_version,
                    model_version=state.model_version,
                    policy_digest=state.policy.digest,
                    decided_at=int(moment),
                )
                for one in placed
            )
        return services.decisions.answers.answer(draft)


class _Behind(Journal):
    """Tells at once what will be written a little later."""

    def submit(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
        """Judge by what is committed now, and leave the row for later."""
        committer = cast("Any", self._committer)
        ask = entry.ask
        with closing(committer._database.engine.raw_connection()) as connection:  # noqa: SLF001 - the control knows what it breaks
            keys = [] if ask.key_hash is None else [ask.key_hash]
            handles = [] if ask.handle is None else [ask.handle]
            seen = read_sqlite(cast("Any", connection.cursor()), handles, keys, int(time.time()))
        found, entry.known = committer._judge.verdict(ask, entry.under, seen), True  # noqa: SLF001 - likewise
        entry.outcome = Outcome.OUTDATED if found is None else Outcome.RECORDED
        if found is not None:
            entry.verdict, entry.jurisdiction = found
        loop.call_soon(wake, [entry])
        if found is not None and self._add(entry, None):
            threading.Timer(BEHIND_S, self._begin).start()


if __name__ == "__main__":
    sys.exit(__doc__)
