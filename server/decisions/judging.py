"""The consent gate over what a transaction sees. Owns how a decision is judged there; default deny."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from common.taxonomy import Purpose, RefusalReason
from policies.consent import UNKNOWN_SUBJECT, ConsentSnapshot, Permit, Refusal
from server.decisions.asking import Ask, Under
from server.decisions.seen import Person, Seen

PURPOSE: Final = Purpose.PLACE_PERSONALISED
Gate = Callable[[str, ConsentSnapshot, Purpose], Permit | Refusal]
"""Whether a purpose is permitted to somebody (empty: unknown), by what was read of them."""


class Judge:
    """Judges what is to be committed.

    Args of the constructor:
        gate: the consent gate.
        heeds_gpc: whether Global Privacy Control opposes personalised placement in a jurisdiction.
    """

    def __init__(self, gate: Gate, heeds_gpc: Callable[[str], bool]) -> None:
        self._gate, self._heeds_gpc = gate, heeds_gpc

    def verdict(self, ask: Ask, under: Under, seen: Seen) -> tuple[Permit | Refusal, str | None] | None:
        """The verdict and the person's jurisdiction, as far as they are known; None: it was decided under the past."""
        if seen.versions != under.versions:
            return None
        if ask.malformed:
            return Refusal(PURPOSE, RefusalReason.MALFORMED), None
        if not ask.named:
            return Refusal(PURPOSE, RefusalReason.NO_CONSENT), None
        found = None if ask.handle is None else seen.people.get(ask.handle)
        if found is not None and ask.app_id is not None and ask.app_id != found.app_id:
            found = None  # subjects of other apps are not known to this caller
        jurisdiction = None if found is None else found.jurisdiction
        answer = self._word(ask, found, seen, opposed=self._opposed(ask, jurisdiction))
        if isinstance(answer, Permit) and not under.able:
            answer = Refusal(PURPOSE, RefusalReason.UNAVAILABLE)
        elif isinstance(answer, Permit) and ask.pick_refused is not None:
            answer = Refusal(PURPOSE, ask.pick_refused)
        return answer, jurisdiction

    def _opposed(self, ask: Ask, jurisdiction: str | None) -> bool:
        """Whether any signal opposes personalised placement or what it needs, where the person is."""
        if not ask.opposed or ask.opposed_without_gpc:
            return ask.opposed
        return jurisdiction is None or self._heeds_gpc(jurisdiction)

    def _word(self, ask: Ask, found: Person | None, seen: Seen, *, opposed: bool) -> Permit | Refusal:
        """The gate's word; the last one where everything that it hangs on, the second included, is the same."""
        last = None if found is None else found.judged
        if last is not None and last[0] is seen and last[1] is opposed:
            return last[2]
        state = _snapshot(found, seen, opposed=opposed)
        word = self._gate("" if found is None else ask.handle or "", state, PURPOSE)
        if found is not None:
            found.judged = (seen, opposed, word)
        return word


def _snapshot(found: Person | None, seen: Seen, *, opposed: bool) -> ConsentSnapshot:
    """Everything the gate may look at."""
    if found is None:
        return replace(UNKNOWN_SUBJECT, stopped=seen.stopped(None), signal_opt_out=opposed)
    return ConsentSnapshot(
        found.age_band,
        found.facts,
        seen.notices,
        objection=found.objected,
        restricted=found.restricted,
        signal_opt_out=opposed,
        stopped=seen.stopped(found.jurisdiction),
    )
