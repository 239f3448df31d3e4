"""Consent at rounds. Owns that a round takes only whom the service's own records permit, and that stopping stops it.

Asked when a round starts and again before an update is accepted: a withdrawal, an objection, a lapsed grant or a kill
switch in between keeps the update out. The devices' own gates decide as well; either no is enough. What is not known
here, or cannot be read, is a no.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final

from common.crypto.signing import SigningKey
from common.errors import ConsentRefused
from common.taxonomy import Purpose, RefusalReason
from policies.schema import PurposesPolicy
from server.consent.reading import ConsentReader
from server.settings import RoundConsentRule
from server.storage import Database

REFUSED: Final = ConsentRefused.__name__


@dataclass(frozen=True, slots=True)
class RoundConsent:
    """The service's records of consent, as rounds ask them.

    Attributes:
        database: the server's.
        reader: of its consent records.
        rule: whether devices that are not enrolled here are refused, as they should be wherever people enrol.
    """

    database: Database
    reader: ConsentReader
    rule: RoundConsentRule

    @classmethod
    def at(
        cls,
        database: Database,
        *,
        rules: PurposesPolicy,
        signer: SigningKey,
        rule: RoundConsentRule,
        clock: Callable[[], float] = time.time,
    ) -> RoundConsent:
        """The records in ``database``."""
        return cls(database, ConsentReader(database, rules=rules, signer=signer, clock=clock), rule)

    def check(self, purposes: Collection[Purpose]) -> None:
        """Go on only if nobody has stopped these purposes, or what they need.

        Raises:
            ConsentRefused: a privacy officer has stopped one.
            StorageUnavailable: that cannot be known.
        """
        with self.database.read() as session:
            if any(self.reader.stopped_for_all(session, purpose) for purpose in purposes):
                raise ConsentRefused(RefusalReason.KILL_SWITCH)

    def refused(self, identities: Sequence[bytes], purposes: Collection[Purpose]) -> frozenset[bytes]:
        """Devices that may not take part now.

        Args:
            identities: raw Ed25519 keys, as they were enrolled and certified.
            purposes: all that the release needs.

        Raises:
            StorageUnavailable: that cannot be known.
        """
        names = {_text(identity): identity for identity in identities}
        stranger = self.rule is RoundConsentRule.DEVICES
        with self.database.read() as session:
            answers = [self.reader.permitted_keys(session, list(names), purpose) for purpose in purposes]
        return frozenset(
            identity for name, identity in names.items() if not all(found.get(name, stranger) for found in answers)
        )


def _text(identity: bytes) -> str:
    return base64.urlsafe_b64encode(identity).rstrip(b"=").decode()
