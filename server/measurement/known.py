"""What catalogues said: creatives, campaigns, their owners, bids and landing pages. Owns reading past versions.

A result is reported and billed by the catalogue it was served under, whatever is in force by now.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from common.crypto.signing import PublicKey
from common.errors import NotFound
from common.taxonomy import PlanKind
from common.wire.documents import open_document
from common.wire.messages import Catalogue, Creative
from server.campaigns import plan_repository, repository
from server.storage import Database, Transaction

_KEPT: Final = 8
_SEARCHED: Final = 20
_SPACES: Final = frozenset(map(chr, range(0x21))) | {"\x7f", "\\"}


def campaign_of(creative: Creative) -> str:
    """The campaign that a creative belongs to: its own, or its advertiser's only one."""
    return creative.campaign_id or creative.advertiser


def landing_page(creative: Creative) -> str:
    """The registered landing page, once it is seen to be nothing else than a plain https address.

    Raises:
        NotFound: it is none that anybody should be sent to.
    """
    url = creative.landing_url
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise NotFound("this creative has no landing page") from None
    plain = parts.scheme == "https" and parts.hostname and parts.username is None and parts.password is None
    if not plain or not _SPACES.isdisjoint(url) or port == 0:
        raise NotFound("this creative has no landing page")
    return url


class KnownCatalogues:
    """Published catalogues, opened once each; the last few are kept."""

    def __init__(self, database: Database, keys: Mapping[str, PublicKey]) -> None:
        self._database, self._keys = database, keys
        self._opened: OrderedDict[int, Mapping[str, Creative]] = OrderedDict()
        self._lock = threading.Lock()

    def creative(self, session: Transaction, version: int, creative_id: str) -> Creative | None:
        """A creative as one version had it."""
        return self.creatives(session, version).get(creative_id)

    def creatives(self, session: Transaction, version: int) -> Mapping[str, Creative]:
        """All creatives of one version, by id; none where there is no such version.

        Raises:
            TrustError: its signature does not verify.
        """
        with self._lock:
            if version in self._opened:
                self._opened.move_to_end(version)
                return self._opened[version]
        stored = repository.at(session, version)
        if stored is None:
            return {}
        opened = open_document(stored.jws, Catalogue, self._keys)
        found = {creative.creative_id: creative for creative in opened.creatives}
        with self._lock:
            self._opened[version] = found
            while len(self._opened) > _KEPT:
                self._opened.popitem(last=False)
        return found

    def bids(self, session: Transaction, since: int, until: int) -> dict[str, int]:
        """The lowest bid of every campaign in catalogues in force in a time, in millionths, by campaign."""
        found: dict[str, int] = {}
        for version in repository.in_force_between(session, since, until):
            for creative in self.creatives(session, version).values():
                name = campaign_of(creative)
                found[name] = min(found.get(name, creative.bid_micros), creative.bid_micros)
        return found

    def owner(self, campaign: str) -> str | None:
        """The advertiser of a campaign: as its plan says, else the newest catalogue that has it."""
        with self._database.read() as session:
            plan = plan_repository.plan(session, PlanKind.CAMPAIGN, campaign)
            if plan is not None:
                return plan.advertiser
            newest = repository.newest_version(session) or 0
            for version in range(newest, max(newest - _SEARCHED, 0), -1):
                for creative in self.creatives(session, version).values():
                    if campaign_of(creative) == campaign:
                        return creative.advertiser
        return None
