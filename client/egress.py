"""The only door out of a device. Owns the numbered steps that every message passes, and the transports behind them.

It imports only ``common`` and ``policies``: it cannot send a behaviour event because it cannot name one. Gate, ledger
and journal are handed in, and asked afresh for every message. Any doubt is a refusal, and a refusal or an error
carries a closed name, never text.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar, get_args

import numpy as np

from common.crypto.http_signing import sign
from common.crypto.signing import SigningKey
from common.errors import EgressRefused, ServiceUnreachable
from common.privacy.summation import Outgoing
from common.taxonomy import Decline, Purpose, RefusalReason
from common.wire import codec
from common.wire.base import Message
from common.wire.journal import SENT, JournalRow
from common.wire.messages import DocumentRequest, FollowUpReport, Outbound, TrainingContribution
from common.wire.paths import route_of
from policies.consent import Permit
from policies.door import Charge, Gate, Journal, Letter, Payload, Sealed, Spending, Transport
from policies.forms import form_holds, row_of
from policies.schema import EgressPolicy, EgressRule

if TYPE_CHECKING:
    import httpx
    from flwr.app import Message as FlowerMessage

DAY_S: Final = 86_400.0
OUTBOUND: Final = get_args(get_args(Outbound)[0])
NAMELESS: Final = (DocumentRequest, FollowUpReport)
"""Messages that no signature goes with: they are nobody's, or bring a credential of their own."""
K = TypeVar("K", bound=str)
C = TypeVar("C", bound=Charge)
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door(Generic[K, C]):
    """The door of one node. Each message passes steps (1) to (7) in this order."""

    policy: EgressPolicy
    gate: Gate[K]
    ledger: Spending[C]
    journal: Journal
    clock: Callable[[], float] = time.time

    def barred(self, kind: str, devices: Sequence[K], purpose: Purpose | None = None) -> dict[K, RefusalReason]:
        """Devices that may not send a message of this kind now, and why: steps (2), (3) and the cadence of (4)."""
        rule = self._rule(kind)
        sent = self.journal.sent_since(kind, self.clock() - DAY_S)
        wanted = {rule.purpose, purpose} - {None}
        reasons = {device: self._reason(rule, wanted, device, sent.get(device, 0)) for device in devices}
        return {device: reason for device, reason in reasons.items() if reason is not None}

    def keep_back(self, kind: str, reasons: Mapping[K, RefusalReason], purpose: Purpose | None = None) -> None:
        """Tell owners, in their journal, that a message of theirs was not sent, and why."""
        named, now = self._rule(kind).purpose or purpose, self.clock()
        self.journal.write([JournalRow(now, one, kind, named, 0, "", 0.0, why.value) for one, why in reasons.items()])

    def release_contribution(
        self, outgoing: Outgoing[K, C], header: Callable[[int], TrainingContribution], transport: Transport[R]
    ) -> R:
        """Release the sum of a node's masked updates; groups with a device that is barred by now are left out."""
        kind, waiting = "training_contribution", outgoing.charges()
        barred = self.barred(kind, list(waiting))
        total, charges = outgoing.without(barred.keys())
        held = {device: barred.get(device, RefusalReason.UNAVAILABLE) for device in waiting if device not in charges}
        self.keep_back(kind, held)
        if not charges:
            raise EgressRefused(next(iter(held.values()), RefusalReason.UNAVAILABLE))
        return self._release([(header(len(charges)), total, charges)], None, transport)

    def release_letters(self, letters: Mapping[K, Letter[C]], purpose: Purpose, transport: Transport[R]) -> R:
        """Release one message per device, all of one kind and for one purpose; barred devices are left out.

        Raises:
            EgressRefused: some step said no; owners find the reason in their journal.
        """
        return self._each(letters, purpose, transport)

    def release(self, message: Message, device: K, transport: Transport[R]) -> R:
        """Release a message that holds nothing about behaviour and costs no privacy.

        Raises:
            EgressRefused: some step said no.
        """
        return self._each({device: Letter(message)}, None, transport)

    def _each(self, letters: Mapping[K, Letter[C]], purpose: Purpose | None, transport: Transport[R]) -> R:
        kinds = {_kind(letter.message) for letter in letters.values()}
        if len(kinds) != 1:
            raise EgressRefused(RefusalReason.BAD_FORM if kinds else RefusalReason.UNAVAILABLE)
        (kind,) = kinds
        barred = self.barred(kind, list(letters), purpose)
        self.keep_back(kind, barred, purpose)
        going = {device: letter for device, letter in letters.items() if device not in barred}
        if not going:
            raise EgressRefused(next(iter(barred.values())))
        parcels = [(one.message, row_of(one), {device: one.charge}) for device, one in going.items()]
        return self._release(parcels, purpose, transport)

    def _release(
        self,
        parcels: Sequence[tuple[Message, Payload | None, Mapping[K, C | None]]],
        purpose: Purpose | None,
        transport: Transport[R],
    ) -> R:
        sealed: list[Sealed] = []
        paid: list[C] = []
        rows: list[JournalRow] = []
        for message, payload, charges in parcels:
            # (1) a member of the union, (2) declared in egress.yaml; (3) its purpose: ``barred``, just before
            rule = self._rule(_kind(message))
            # (4) size of the message, shape and dtype of the array beside it, as declared
            body = codec.encode(message)
            data = b"" if payload is None else payload.tobytes()
            if len(body) > rule.size_bytes_max or not form_holds(message, payload, len(charges)):
                raise EgressRefused(RefusalReason.BAD_FORM)
            entries = [charge for charge in charges.values() if charge is not None]
            if len(entries) != (len(charges) if rule.charged else 0):
                raise EgressRefused(RefusalReason.BUDGET_EXHAUSTED)
            head = (rule.message, rule.purpose or purpose, len(body + data), hashlib.sha256(body + data).hexdigest())
            costs = {device: 0.0 if charge is None else charge.epsilon for device, charge in charges.items()}
            rows += [JournalRow(self.clock(), device, *head, cost, SENT) for device, cost in costs.items()]
            paid += entries
            sealed.append(Sealed(message, body, payload))
        # (5) the budget is spent, durably
        if paid:
            self.ledger.settle(paid)
        # (6) a journal entry that its owner can read
        self.journal.write(rows)
        # (7) only now
        return transport.send(sealed)

    def _rule(self, kind: str) -> EgressRule:
        found = [rule for rule in self.policy.messages if rule.message == kind]
        if len(found) != 1:
            raise EgressRefused(RefusalReason.NOT_DECLARED)
        return found[0]

    def _reason(self, rule: EgressRule, wanted: set[Purpose | None], device: K, sent: int) -> RefusalReason | None:
        if len(wanted) > 1:
            return RefusalReason.NOT_DECLARED
        for purpose in wanted:
            answer = self.gate.permits(device, purpose) if purpose else None
            if not isinstance(answer, Permit):
                return answer.reason if answer else RefusalReason.UNAVAILABLE
        return RefusalReason.TOO_OFTEN if sent >= rule.per_day_max else None


def _kind(message: Message) -> str:
    if type(message) not in OUTBOUND:
        raise EgressRefused(RefusalReason.NOT_DECLARED)
    return str(message.model_dump(include={"kind"})["kind"])


class FlowerTransport:
    """Answers one Flower message."""

    def __init__(self, request: FlowerMessage) -> None:
        self._request = request

    def send(self, parcels: Sequence[Sealed]) -> FlowerMessage:
        """The reply: messages and the integers beside them, nothing else."""
        from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
        from flwr.app import Message as FlowerMessage

        rows = [parcel.payload for parcel in parcels if parcel.payload is not None]
        if isinstance(parcels[0].message, TrainingContribution):
            update = ArrayRecord({"update": Array(rows[0])})
            content = RecordDict({"update": update, "contribution": ConfigRecord({"body": parcels[0].body})})
        else:
            content = RecordDict({"secagg": ConfigRecord({"bodies": [parcel.body for parcel in parcels]})})
            if rows:
                content["payload"] = ArrayRecord({"masked": Array(np.stack(rows))})
        return FlowerMessage(content, reply_to=self._request)

    def decline(self, name: Decline) -> FlowerMessage:
        """The reply of a node that sends no update: a closed name."""
        from flwr.app import Error
        from flwr.app import Message as FlowerMessage

        return FlowerMessage(Error(100 + list(Decline).index(name), name.value), reply_to=self._request)


class HttpAnswer(NamedTuple):
    """What the service answered; nothing in it is verified yet."""

    status: int
    body: bytes


class Signer(NamedTuple):
    """Whose word a request is: the handle that the service gave, and the key enrolled for it; before, the key alone."""

    handle: str
    key: SigningKey


class HttpTransport:
    """Sends a message to the service as JSON, signed by the device (RFC 9421) where it speaks for its own subject.

    Documents are fetched and follow-ups confirmed without a word about the device: nothing says who asks.
    """

    def __init__(
        self, base_url: str, *, signer: Signer | None = None, transport: httpx.BaseTransport | None = None
    ) -> None:
        import httpx

        # No redirects, no proxies or certificates by environment: the request goes where the owner said.
        self._client = httpx.Client(base_url=base_url, transport=transport, timeout=30, trust_env=False)
        self._signer, self._lost = signer, httpx.HTTPError

    def send(self, parcels: Sequence[Sealed]) -> HttpAnswer:
        """One request.

        Raises:
            ServiceUnreachable: no answer came.
        """
        ((message, body, _),) = parcels
        method, path = route_of(message, _kind(message))
        content = body[1:] if method == "POST" else b""
        headers = {"content-type": "application/json"} if content else {}
        if method != "GET":
            headers["idempotency-key"] = secrets.token_urlsafe(16)
        request = self._client.build_request(method, path, content=content, headers=headers)
        if self._signer is not None and not isinstance(message, NAMELESS):
            who, url = self._signer, str(request.url)
            signed = sign(method, url, key=who.key, keyid=who.handle, now=time.time(), body=content, headers=headers)
            request.headers.update(signed)
        try:
            answer = self._client.send(request)
        except self._lost:
            raise ServiceUnreachable("the service could not be reached") from None
        return HttpAnswer(answer.status_code, answer.content)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
