"""Confirmed follow-ups of placements that the service chose. Owns their order, their windows, that each counts once.

An impression is confirmed within an hour of its decision; a click or a close within a day of its impression; a
conversion within a week of its click. What the device chose has no token: it is counted by ``client.measurement``.
"""

from __future__ import annotations

import hmac
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.errors import TokenForged, TokenLate, TokenOutOfOrder, TokenReplayed
from common.taxonomy import FollowUp
from server.decisions import repository
from server.decisions.repository import DecidedCreative, PositionKey
from server.decisions.tokens import FollowUpToken, TokenMint, creative_mark
from server.storage import Database, Transaction

# Each follow-up needs the one before it and must come within this many seconds of it (the impression: of the decision).
WINDOW_S: Final = {
    FollowUp.IMPRESSION: 3_600,
    FollowUp.CLICK: 86_400,
    FollowUp.CONVERSION: 7 * 86_400,
    FollowUp.CLOSE: 86_400,
}
BEFORE: Final = {
    FollowUp.CLICK: FollowUp.IMPRESSION,
    FollowUp.CONVERSION: FollowUp.CLICK,
    FollowUp.CLOSE: FollowUp.IMPRESSION,
}


def lifetime_s(kind: FollowUp) -> int:
    """From the decision to the last moment at which a follow-up can still count."""
    before = BEFORE.get(kind)
    return WINDOW_S[kind] + (0 if before is None else lifetime_s(before))


_LIFETIME_S: Final = {kind: lifetime_s(kind) for kind in FollowUp}
_FORGED: Final = "this follow-up token was not made here"


@dataclass(frozen=True, slots=True)
class Followed:
    """A click that came by its link.

    Attributes:
        shown: what was decided for the position.
        counted: False if it was counted before, or came before its impression was confirmed.
    """

    shown: DecidedCreative
    counted: bool


class FollowUpService:
    """Issues tokens with a decision and accepts them once."""

    def __init__(self, database: Database, mint: TokenMint, clock: Callable[[], float] = time.time) -> None:
        self._database, self._mint, self._clock = database, mint, clock

    def tokens(self, key: PositionKey, decided_at: int, creative_id: str) -> dict[FollowUp, str]:
        """One token per kind; each counts until its window could at the latest end."""
        return self._mint.issue_all(key, creative_mark(creative_id), decided_at)

    def tokens_json(self, key: PositionKey, decided_at: int, creative_id: str) -> bytes:
        """The same as a JSON object."""
        return self._mint.issue_json(key, creative_mark(creative_id), decided_at)

    def confirm(self, text: str, follow_up: FollowUp) -> None:
        """Record one follow-up.

        Raises:
            TokenForged: the token is not ours, or is for something else.
            TokenReplayed: it was used before.
            TokenOutOfOrder: what must come before it has not.
            TokenLate: its window is over.
        """
        token = self._read(text, follow_up)
        with self._database.write() as session:
            self._shown(session, token)
            self._record(session, token)

    def follow(self, text: str) -> Followed:
        """A click by its link: it leads where it should however often it comes, and counts once.

        Somebody whose browser did not confirm the impression, or who clicks twice, still gets to the page that was
        advertised. Where there is nothing to lead to, an error says so.

        Raises:
            TokenForged: the token is not ours, or is not a click's.
            TokenLate: its window is over.
        """
        token = self._read(text, FollowUp.CLICK)
        with self._database.write() as session:
            shown = self._shown(session, token)
            try:
                self._record(session, token)
            except (TokenReplayed, TokenOutOfOrder):
                if self._now > _end(token):
                    raise TokenLate("the window of this follow-up is over") from None
                return Followed(shown, counted=False)
        return Followed(shown, counted=True)

    def tally(self) -> Counter[str]:
        """Confirmed follow-ups by kind."""
        with self._database.read() as session:
            return repository.tally_follow_ups(session)

    @property
    def _now(self) -> int:
        return int(self._clock())

    def _read(self, text: str, follow_up: FollowUp) -> FollowUpToken:
        token = self._mint.read(text)
        if token.follow_up is not follow_up:
            raise TokenForged("this token confirms another kind of follow-up")
        return token

    def _shown(self, session: Transaction, token: FollowUpToken) -> DecidedCreative:
        """The position of a token, locked; it must have been decided here, for that very creative."""
        found = repository.lock_position(session, token.key)
        if found is None or not hmac.compare_digest(creative_mark(found.creative_id), token.creative):
            raise TokenForged(_FORGED)
        return found

    def _record(self, session: Transaction, token: FollowUpToken) -> None:
        kind, now = token.follow_up, self._now
        confirmed = repository.follow_ups(session, token.key)
        if kind in confirmed:
            raise TokenReplayed("this follow-up was reported before")
        if now > _end(token):
            raise TokenLate("the window of this follow-up is over")
        if (before := BEFORE.get(kind)) is not None:
            _check_order(confirmed.get(before), kind, before, now)
        repository.add_follow_up(session, token.key, kind, now=now)


def _end(token: FollowUpToken) -> int:
    """The last second in which a token can count."""
    return token.decided_at + _LIFETIME_S[token.follow_up]


def _check_order(happened_at: int | None, follow_up: FollowUp, before: FollowUp, now: int) -> None:
    if happened_at is None:
        raise TokenOutOfOrder(f"a {follow_up.value} counts only after its {before.value}")
    if now - happened_at > WINDOW_S[follow_up]:
        raise TokenLate(f"the {follow_up.value} came too long after its {before.value}")
