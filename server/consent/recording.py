"""How a consent event is written down: record, receipt, projection and log entry, in one transaction or not at all.

Owns the order of receipts (those of one purpose have one order even within a second), the validity of a grant by
jurisdiction, and the content of the record (ISO/IEC TS 27560:2023).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

from common.crypto.signing import SigningKey
from common.taxonomy import ConsentMethod, ConsentState, InvalidationReason, LogKind, Purpose, Role
from common.wire.consent import ConsentRecord, Party, SignalEvidence
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt
from policies.notices import Locale
from policies.schema import PurposeRule, PurposesPolicy
from server.consent import notice_repository, repository
from server.consent.repository import Evidence, StoredEvent, SubjectFacts
from server.storage import Transaction

DAY_S: Final = 86_400
SYSTEM: Final = "system"
_SAYS_NO: Final = frozenset({ConsentState.REFUSED, ConsentState.WITHDRAWN})


class EventLog(Protocol):
    """The transparency log, as far as this room needs it."""

    def append(
        self,
        session: Transaction,
        kind: LogKind,
        record: Mapping[str, Any],
        *,
        actor: str,
        subject: str | None = None,
    ) -> int:
        """Write one entry in the caller's transaction; its number."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """One signed receipt, and where its event stands in the transparency log."""

    receipt_id: str
    purpose: Purpose
    state: ConsentState
    valid_until: int
    jws: str
    log_seq: int | None

    @classmethod
    def of(cls, event: StoredEvent) -> Receipt:
        """That of a stored event."""
        return cls(event.receipt_id, event.purpose, event.state, event.valid_until, event.receipt, event.log_seq)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Under which notice, in which language, where, how and through whom an event came about.

    Attributes:
        entity: role of whoever reports it, or ``system``.
        actor: the same for the log, with the holder where a person acted.
    """

    notice_digest: str
    locale: Locale
    surface: str
    entity: Role | Literal["system"]
    method: ConsentMethod
    actor: str = ""
    signals: SignalEvidence = field(default_factory=SignalEvidence)
    reason: InvalidationReason | None = None

    @classmethod
    def of(cls, last: StoredEvent, entity: Role | Literal["system"], method: ConsentMethod) -> Circumstances:
        """Those of an earlier event, reported anew."""
        return cls(last.notice_digest, last.locale, last.surface, entity, method)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """What every record states beside the event itself.

    Attributes:
        purposes: the purposes document, and its digest.
        controller: who is responsible.
        storage_location: where the record is kept.
    """

    purposes: PurposesPolicy
    digest: str
    controller: Party
    storage_location: str

    def purpose(self, purpose: Purpose) -> PurposeRule:
        """The rule of one purpose."""
        return next(rule for rule in self.purposes.purposes if rule.id is purpose)


class Recorder:
    """Writes consent events."""

    def __init__(self, rulebook: Rulebook, *, signer: SigningKey, log: EventLog, clock: Callable[[], float]) -> None:
        self._rulebook, self._signer, self._log, self._clock = rulebook, signer, log, clock

    def record(
        self,
        session: Transaction,
        found: SubjectFacts,
        purpose: Purpose,
        state: ConsentState,
        *,
        under: Circumstances,
        projected: bool = True,
    ) -> Receipt:
        """Append one event: signed, logged, projected.

        Args:
            session: the caller's transaction, in which the subject is locked.
            found: about whom.
            purpose: about what.
            state: what the event brings about.
            under: how it came about.
            projected: whether it is now the state of the purpose.
        """
        moment = self._moment(session, found.handle, purpose, state)
        reask = self._reask(found, state, moment)
        receipt = self._receipt(session, found, purpose, state, under=under, moment=moment, reask=reask)
        jws = seal(receipt, self._signer)
        seq = self._log.append(
            session,
            LogKind.CONSENT,
            _entry(receipt, jws, under),
            actor=under.actor or str(under.entity),
            subject=found.handle,
        )
        evidence = Evidence(
            surface=under.surface,
            actor=str(under.entity),
            method=under.method,
            signals=under.signals,
            log_seq=seq,
            reason=under.reason,
            reask_not_before=reask,
        )
        repository.add_event(session, receipt, jws, evidence, projected=projected)
        return Receipt(receipt.receipt_id, purpose, state, receipt.valid_until, jws, seq)

    def mark(self, session: Transaction, found: SubjectFacts, record: Mapping[str, Any], *, actor: str) -> int:
        """Log something about a subject that is no event of a purpose: an objection, a restriction, a rectification."""
        return self._log.append(session, LogKind.CONSENT, record, actor=actor, subject=found.handle)

    def _moment(self, session: Transaction, handle: str, purpose: Purpose, state: ConsentState) -> int:
        """Now, but later than the last decision: of two receipts the newer one is always the later one."""
        last = repository.latest_event(session, handle, purpose)
        if last is None:
            return int(self._clock())
        return max(int(self._clock()), last.event_time + (state is not ConsentState.REQUESTED))

    def _reask(self, found: SubjectFacts, state: ConsentState, moment: int) -> int | None:
        """A no keeps people from being asked again for as long as their jurisdiction says."""
        days = self._rulebook.purposes.jurisdiction(found.jurisdiction).reask_days
        return moment + days * DAY_S if days and state in _SAYS_NO else None

    def _receipt(
        self,
        session: Transaction,
        found: SubjectFacts,
        purpose: Purpose,
        state: ConsentState,
        *,
        under: Circumstances,
        moment: int,
        reask: int | None,
    ) -> ConsentReceipt:
        book = self._rulebook
        days = book.purposes.jurisdiction(found.jurisdiction).validity_days
        return ConsentReceipt(
            schema_version="reticent-receipt-2",
            receipt_id=f"rcp_{secrets.token_urlsafe(16)}",
            handle=found.handle,
            purpose=purpose,
            state=state,
            age_band=found.age_band,
            notice_digest=under.notice_digest,
            event_time=moment,
            valid_until=moment + days * DAY_S if state is ConsentState.GIVEN else 0,
            locale=under.locale,
            jurisdiction=found.jurisdiction,
            controller=book.controller.name,
            record=self._record(session, purpose, under=under, reask=reask),
        )

    def _record(
        self, session: Transaction, purpose: Purpose, *, under: Circumstances, reask: int | None
    ) -> ConsentRecord:
        book, rule = self._rulebook, self._rulebook.purpose(purpose)
        notice = notice_repository.notice(session, under.notice_digest)
        return ConsentRecord(
            notice_version=1 if notice is None else notice.notice.version,
            purpose_title=rule.title[under.locale],
            personal_data=rule.data,
            controllers=(book.controller,),
            recipients=tuple(Party(party_id=r.id, name=r.name, party_type="recipient") for r in rule.recipients),
            storage_location=book.storage_location,
            retention=rule.retention,
            withdrawal_method=book.purposes.withdrawal_method,
            method=under.method,
            entity=under.entity,
            ui_surface=under.surface,
            signals=under.signals,
            policy_digest=book.digest,
            reask_not_before=reask or 0,
        )


def _entry(receipt: ConsentReceipt, jws: str, under: Circumstances) -> dict[str, Any]:
    """What the log commits to: enough to tell which receipt it is, and that not a byte of it was changed."""
    return {
        "event": "consent",
        "receipt_id": receipt.receipt_id,
        "receipt_sha256": hashlib.sha256(jws.encode()).hexdigest(),
        "purpose": receipt.purpose.value,
        "state": receipt.state.value,
        "event_time": receipt.event_time,
        "valid_until": receipt.valid_until,
        "jurisdiction": receipt.jurisdiction,
        "notice_digest": receipt.notice_digest,
        "method": under.method.value,
        "reason": None if under.reason is None else under.reason.value,
    }
