"""Erasure. Owns that it reaches every room, in one transaction, and what it leaves in each.

What goes: the subject with key and age band, every consent event with its receipt, states, kept answers, the salts and
records of the transparency log, the pseudonym in the ledger. What stays: leaves of the log, whose proofs hold and tell
nothing; numbers in charges; inside the budget period a keyed tombstone with what was spent; the request itself, without
whose it was. A room that begins to hold something about subjects is named here, or the search of the tests finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.crypto.signing import PublicKey
from common.errors import TrustError
from common.wire.messages import ModelManifest
from common.wire.requests import Remains
from policies.notices import Locale
from server.access.repeats import Repeats
from server.consent import repository as subjects
from server.consent.service import ConsentService
from server.ledger.repository import pseudonym
from server.ledger.service import ROOM as LEDGER
from server.ledger.service import ServerLedger
from server.picks.service import PickService
from server.registry.service import Registry
from server.requests.remains import remains
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog


@dataclass(frozen=True, slots=True)
class Plan:
    """Whom an erasure is about, and what it will not be able to take back.

    Attributes:
        identities: the subject's in the ledger.
        charges: the newest charge that ``remains`` knows of.
    """

    handle: str
    identities: tuple[bytes, ...]
    remains: Remains
    charges: int
    locale: Locale


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure did.

    Attributes:
        destroyed: rows by room.
        traces: bytes that must not be on the disk any more.
    """

    destroyed: dict[str, int]
    remains: Remains
    traces: tuple[bytes, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rooms:
    """Every room that holds something about a subject."""

    database: Database
    consent: ConsentService
    repeats: Repeats
    ledger: ServerLedger
    picks: PickService
    log: TransparencyLog
    registry: Registry

    def identities(self, session: Transaction, handle: str, proven: bytes | None) -> tuple[bytes, ...]:
        """Ledger identities of a subject: the key it enrolled with, and the one it proved beside that, if any."""
        enrolled = subjects.enrolled_key(session, handle)
        found = () if enrolled is None else (PublicKey(enrolled.public_key).raw,)
        return found if proven is None or proven in found else (*found, proven)

    def plan(self, session: Transaction, handle: str, proven: bytes | None, locale: Locale) -> Plan:
        """What an erasure would do. Composing ε may take a second: it is done before anything is locked."""
        identities = self.identities(session, handle, proven)
        newest = self.ledger.charged(session)
        return Plan(handle, identities, self._remains(session, identities, locale), newest, locale)

    def erase(self, session: Transaction, plan: Plan) -> Erased:
        """Destroy everything about a subject. Entries of the log go last: it is locked until the end.

        Raises:
            NotFound: the subject is not known.

        **Privacy:** what was spent in the running budget period stays spent.
        """
        exclusive(session, LEDGER)
        fresh = plan.charges == self.ledger.charged(session)
        remains_of_it = plan.remains if fresh else self._remains(session, plan.identities, plan.locale)
        traces = self._traces(session, plan)
        destroyed = {
            "consent": self.consent.forget(session, plan.handle),
            "kept_answers": self.repeats.forget(session, plan.handle),
            "ledger_names": self.ledger.bury(session, plan.identities),
            "picks": self.picks.forget(session, plan.identities),
            "log_records": self.log.erase(session, plan.handle),
        }
        return Erased(destroyed, remains_of_it, traces)

    def _remains(self, session: Transaction, identities: Sequence[bytes], locale: Locale) -> Remains:
        period = self.ledger.period_in(session)
        entries = [entry for identity in identities for entry in self.ledger.entries_in(session, identity)]
        days, spent = self.ledger.policy.budget_period_days, any(entry.period >= period for entry in entries)
        return remains(
            self.ledger.policy,
            entries,
            self._manifests() if entries else (),
            locale=locale,
            tombstone_until=(period + 1) * days - 1 if spent else None,
        )

    def _manifests(self) -> Sequence[ModelManifest]:
        """Registered models. One that does not verify must not stand in the way of an erasure: then none is named."""
        try:
            return self.registry.manifests()
        except TrustError:
            return ()

    def _traces(self, session: Transaction, plan: Plan) -> tuple[bytes, ...]:
        """Names, keys, receipts and salts of a subject."""
        openings = [entry.opening for entry in self.log.about(session, plan.handle) if entry.opening is not None]
        salts = [salt for one in openings for salt in (one.salt, one.subject_salt) if salt is not None]
        names = [plan.handle, *(PublicKey.of_raw(identity).x for identity in plan.identities)]
        for event in subjects.history(session, plan.handle):
            names += [event.receipt_id, event.receipt.rpartition(".")[2]]
        return (*(name.encode() for name in names), *salts, *(pseudonym(identity) for identity in plan.identities))
