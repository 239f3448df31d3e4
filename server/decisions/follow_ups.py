"""Confirmed follow-ups of contextual placements. Owns their order, their windows, and that each counts once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from common.errors import TokenForged, TokenLate, TokenOutOfOrder, TokenReplayed
from common.taxonomy import FollowUp
from server.decisions import repository
from server.decisions.repository import PositionKey
from server.decisions.tokens import FollowUpToken, TokenMint
from server.storage import Database

# Each follow-up needs the one before it and must come within this many seconds of it (the impression: of the decision).
WINDOW_S: Final = {FollowUp.IMPRESSION: 3_600, FollowUp.CLICK: 86_400, FollowUp.CONVERSION: 7 * 86_400}
_BEFORE: Final = {FollowUp.CLICK: FollowUp.IMPRESSION, FollowUp.CONVERSION: FollowUp.CLICK}


class FollowUpService:
    """Issues tokens with a decision and accepts them once."""

    def __init__(self, database: Database, mint: TokenMint, clock: Callable[[], float] = time.time) -> None:
        self._database, self._mint, self._clock = database, mint, clock

    def tokens(self, key: PositionKey, decided_at: int) -> dict[FollowUp, str]:
        """One token per kind; each expires when its window could at the latest end."""
        tokens, expires_at = {}, decided_at
        for kind in FollowUp:
            expires_at += WINDOW_S[kind]
            tokens[kind] = self._mint.issue(FollowUpToken(key, kind, expires_at))
        return tokens

    def confirm(self, text: str, follow_up: FollowUp) -> None:
        """Record one follow-up.

        Raises:
            TokenForged: the token is not ours, or is for something else.
            TokenReplayed: it was used before.
            TokenOutOfOrder: what must come before it has not.
            TokenLate: its window is over.
        """
        token, now = self._mint.read(text), int(self._clock())
        if token.follow_up is not follow_up:
            raise TokenForged("this token confirms another kind of follow-up")
        with self._database.write() as session:
            if not repository.lock_position(session, token.key):
                raise TokenForged("this follow-up token was not made here")
            confirmed = repository.follow_ups(session, token.key)
            if follow_up in confirmed:
                raise TokenReplayed("this follow-up was reported before")
            if now > token.expires_at:
                raise TokenLate("the window of this follow-up is over")
            before = _BEFORE.get(follow_up)
            if before is not None:
                _check_order(confirmed.get(before), follow_up, before, now)
            repository.add_follow_up(session, token.key, follow_up, now=now)

    def tally(self) -> Counter[str]:
        """Confirmed follow-ups by kind."""
        with self._database.read() as session:
            return repository.tally_follow_ups(session)


def _check_order(happened_at: int | None, follow_up: FollowUp, before: FollowUp, now: int) -> None:
    if happened_at is None:
        raise TokenOutOfOrder(f"a {follow_up.value} counts only after its {before.value}")
    if now - happened_at > WINDOW_S[follow_up]:
        raise TokenLate(f"the {follow_up.value} came too long after its {before.value}")
