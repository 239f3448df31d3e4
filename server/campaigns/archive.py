"""The public ad repository. Owns what was shown, for whom, who paid, when, and for how long that is kept.

Every publication of a catalogue ends the lines of what left it and begins those of what came. Nobody's data is in it:
it knows catalogues, never decisions.

**Source:** DSA Art. 39(2)(a)–(g) and (3): one year after the last presentation; the Chinese Internet Advertising
Measures keep delivery records for three, and the longer of the two is kept everywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from common.crypto.signing import canonical
from common.taxonomy import PlanKind, RejectionReason
from common.wire.messages import Creative
from server.campaigns import archive_repository as repository
from server.campaigns.archive_repository import Presented, Question
from server.campaigns.plan_repository import Plan
from server.storage import Database, Transaction

KEPT_DAYS: Final = 3 * 366
_DAY_S: Final = 86_400


class AdArchive:
    """The lines of one installation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def published(self, session: Transaction, creatives: Sequence[Creative], *, now: int) -> None:
        """Bring the lines to what is in force from now on, and drop what has been kept long enough."""
        known, fresh = repository.current(session), {}
        for creative in creatives:
            content = creative.model_dump_json(exclude={"bid_micros", "personal"})
            digest = hashlib.sha256(canonical(content.encode())).hexdigest()
            fresh[creative.creative_id, digest] = (creative, content)
        repository.end(session, [line for key, line in known.items() if key not in fresh], now=now)
        lines = [_line(*made, key[1], now) for key, made in fresh.items() if key not in known]
        repository.insert(session, lines)
        repository.drop_before(session, moment=now - KEPT_DAYS * _DAY_S)

    def withhold(self, session: Transaction, plan: Plan, reason: RejectionReason) -> None:
        """Show what was unlawful no more; that and why it is gone stays (DSA Art. 39(3))."""
        creative = plan.plan_id if plan.kind is PlanKind.CREATIVE else None
        repository.withhold(session, creative_id=creative, campaign=plan.campaign_id, reason=reason.value)

    def listed(self, asked: Question, *, after: tuple[int, str] | None, rows: int) -> Sequence[Presented]:
        """Lines that answer a question, oldest first."""
        with self._database.read() as session:
            return repository.listed(session, asked, after=after, rows=rows)

    def landing(self, creative_id: str) -> str | None:
        """The registered landing page of a creative that is or was shown; None for one that was taken down.

        A click may come after its creative has left the catalogue; it still leads nowhere else.
        """
        with self._database.read() as session:
            found = repository.content_of(session, creative_id)
        if found is None or found.withheld is not None:
            return None
        return Creative.model_validate_json(found.content).landing_url


def _line(creative: Creative, content: str, digest: str, now: int) -> Presented:
    name = f"{creative.creative_id}\0{digest}\0{now}".encode()
    return Presented(
        entry_id=hashlib.sha256(name).hexdigest()[:32],
        creative_id=creative.creative_id,
        digest=digest,
        campaign=creative.campaign_id or creative.advertiser,
        advertiser=creative.advertiser,
        content=content,
        began_at=now,
    )
