"""Links of clicks. Owns where a click token leads: to the landing page registered for its creative, or nowhere.

The address is never taken from the request. A token is bound to one creative of one decision, and the page is read
from the signed catalogue under which that decision was made.
"""

from __future__ import annotations

from common.errors import NotFound
from server.controls import repository as controls
from server.decisions.follow_ups import FollowUpService
from server.measurement.known import KnownCatalogues, campaign_of, landing_page
from server.storage import Database


class ClickService:
    """Counts clicks that come by a link and says where they lead."""

    def __init__(self, database: Database, follow_ups: FollowUpService, known: KnownCatalogues) -> None:
        self._database, self._follow_ups, self._known = database, follow_ups, known

    def follow(self, token: str) -> str:
        """The landing page behind a click token; the click is counted if it is the first.

        Raises:
            TokenForged: the token was not made here, or is not a click's.
            TokenLate: its window is over.
            NotFound: the campaign is stopped, or what was shown has no landing page.
        """
        shown = self._follow_ups.follow(token).shown
        with self._database.read() as session:
            creative = self._known.creative(session, shown.catalogue_version or 0, shown.creative_id)
            if creative is None or campaign_of(creative) in controls.stopped_campaigns(session):
                raise NotFound("what was advertised is not there any more")
        return landing_page(creative)
