"""The only door out of a device. Owns the numbered steps that every message passes, and the transports behind them.

It imports only ``common`` and ``policies``: it cannot send a behaviour event because it cannot name one. Gate, ledger
and journal are handed in, and asked afresh for every message. Any doubt is a refusal, and a refusal or an error
carries a closed name, never text.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, Protocol, TypeVar, get_args

import numpy as np

from common.errors import EgressRefused
from common.privacy.summation import IntVector, Outgoing
from common.taxonomy import Decline, Purpose, RefusalReason
from common.wire import codec
from common.wire.journal import SENT, JournalRow
from common.wire.messages import DocumentRequest, Message, Outbound, TrainingContribution
from common.wire.paths import PATHS
from policies.consent import Permit, Refusal
from policies.schema import EgressPolicy, EgressRule

if TYPE_CHECKING:
    import httpx
    from flwr.app import Message as FlowerMessage

DAY_S: Final = 86_400.0
OUTBOUND: Final = get_args(get_args(Outbound)[0])


class Charge(Protocol):
    """A durable entry of one device in its ledger."""

    @property
    def epsilon(self) -> float:
        """What it cost the device."""


K = TypeVar("K", bound=str)
C = TypeVar("C", bound=Charge)
R = TypeVar("R")
K_contra = TypeVar("K_contra", bound=str, contravariant=True)
C_contra = TypeVar("C_contra", bound=Charge, contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class Gate(Protocol[K_contra]):
    """Answers from live, verified consent receipts."""

    def permits(self, device: K_contra, purpose: Purpose) -> Permit | Refusal:
        """Whether this device's data may be used for this purpose now."""


class Spending(Protocol[C_contra]):
    """The ledger, as far as the door needs it."""

    def settle(self, reservations: Iterable[C_contra]) -> None:
        """Mark charges as released; raises unless every one of them stands durably in the ledger."""


class Journal(Protocol):
    """Where the door writes what it did."""

    def write(self, rows: Sequence[JournalRow]) -> None:
        """Write all rows durably, or none."""

    def sent_since(self, kind: str, since: float) -> Mapping[str, int]:
        """Messages of a kind that each device has sent since a moment."""


class Transport(Protocol[R_co]):
    """Carries what the door has let through."""

    def send(self, message: Message, body: bytes, payload: IntVector | None) -> R_co:
        """Transmit once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Door(Generic[K, C]):
    """The door of one node. Each message passes steps (1) to (7) in this order."""

    policy: EgressPolicy
    gate: Gate[K]
    ledger: Spending[C]
    journal: Journal
    clock: Callable[[], float] = time.time

    def barred(self, kind: str, devices: Sequence[K]) -> dict[K, RefusalReason]:
        """Devices that may not send a message of this kind now, and why: steps (2), (3) and the cadence of (4)."""
        rule = self._rule(kind)
        sent = self.journal.sent_since(kind, self.clock() - DAY_S)
        reasons = {device: self._reason(rule, device, sent.get(device, 0)) for device in devices}
        return {device: reason for device, reason in reasons.items() if reason is not None}

    def keep_back(self, kind: str, reasons: Mapping[K, RefusalReason]) -> None:
        """Tell owners, in their journal, that a message of theirs was not sent, and why."""
        self._note(self._rule(kind), {device: (0.0, reason.value) for device, reason in reasons.items()}, 0, "")

    def release_contribution(
        self, outgoing: Outgoing[K, C], header: Callable[[int], TrainingContribution], transport: Transport[R]
    ) -> R:
        """Release the sum of a node's masked updates.

        Args:
            outgoing: the updates; groups with a device that is barred by now are left out.
            header: makes the message for a number of contributions.
            transport: carries it.

        Raises:
            EgressRefused: some step said no; owners find the reason in their journal.
        """
        kind, waiting = "training_contribution", outgoing.charges()
        barred = self.barred(kind, list(waiting))
        total, charges = outgoing.without(barred.keys())
        held = {device: barred.get(device, RefusalReason.UNAVAILABLE) for device in waiting if device not in charges}
        self.keep_back(kind, held)
        if not charges:
            raise EgressRefused(next(iter(held.values()), RefusalReason.UNAVAILABLE))
        return self._release(header(len(charges)), total, charges, transport)

    def release(self, message: Message, device: K, transport: Transport[R]) -> R:
        """Release a message without payload, which costs no privacy.

        Raises:
            EgressRefused: some step said no.
        """
        kind = _kind(message)
        reason = self.barred(kind, [device]).get(device)
        if reason is not None:
            self.keep_back(kind, {device: reason})
            raise EgressRefused(reason)
        return self._release(message, None, {device: None}, transport)

    def _release(
        self, message: Message, payload: IntVector | None, charges: Mapping[K, C | None], transport: Transport[R]
    ) -> R:
        # (1) a member of the union, (2) declared in egress.yaml; (3) its purpose: ``barred``, just before
        rule = self._rule(_kind(message))
        # (4) size of the message, shape and dtype of the array beside it, as declared
        body = codec.encode(message)
        data = b"" if payload is None else payload.tobytes()
        if len(body) > rule.size_bytes_max or not _form_holds(message, payload, len(charges)):
            raise EgressRefused(RefusalReason.BAD_FORM)
        # (5) the budget is spent, durably
        paid = [charge for charge in charges.values() if charge is not None]
        if len(paid) != (len(charges) if rule.charged else 0):
            raise EgressRefused(RefusalReason.BUDGET_EXHAUSTED)
        if paid:
            self.ledger.settle(paid)
        # (6) a journal entry that its owner can read
        lines = {device: (0.0 if charge is None else charge.epsilon, SENT) for device, charge in charges.items()}
        self._note(rule, lines, len(body) + len(data), hashlib.sha256(body + data).hexdigest())
        # (7) only now
        return transport.send(message, body, payload)

    def _rule(self, kind: str) -> EgressRule:
        found = [rule for rule in self.policy.messages if rule.message == kind]
        if len(found) != 1:
            raise EgressRefused(RefusalReason.NOT_DECLARED)
        return found[0]

    def _reason(self, rule: EgressRule, device: K, sent: int) -> RefusalReason | None:
        if rule.purpose is not None:
            answer = self.gate.permits(device, rule.purpose)
            if not isinstance(answer, Permit):
                return answer.reason
        return RefusalReason.TOO_OFTEN if sent >= rule.per_day_max else None

    def _note(self, rule: EgressRule, lines: Mapping[K, tuple[float, str]], size: int, digest: str) -> None:
        head = (rule.message, rule.purpose and rule.purpose.value, size, digest)
        self.journal.write([JournalRow(self.clock(), device, *head, *line) for device, line in lines.items()])


def _kind(message: Message) -> str:
    if type(message) not in OUTBOUND:
        raise EgressRefused(RefusalReason.NOT_DECLARED)
    return str(message.model_dump(include={"kind"})["kind"])


def _form_holds(message: Message, payload: IntVector | None, devices: int) -> bool:
    """Whether a payload is there exactly when declared, of the declared shape and dtype, for the declared devices."""
    if not isinstance(message, TrainingContribution) or payload is None:
        return payload is None and devices == 1 and not isinstance(message, TrainingContribution)
    return payload.dtype == np.int64 and payload.shape == (message.length,) and message.contributions == devices


class FlowerTransport:
    """Answers one Flower message."""

    def __init__(self, request: FlowerMessage) -> None:
        self._request = request

    def send(self, message: Message, body: bytes, payload: IntVector | None) -> FlowerMessage:  # noqa: ARG002 - one transport of several
        """The reply: the update's integers and its header, nothing else."""
        from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
        from flwr.app import Message as FlowerMessage

        update = ArrayRecord({} if payload is None else {"update": Array(payload)})
        return FlowerMessage(
            RecordDict({"update": update, "contribution": ConfigRecord({"body": body})}), reply_to=self._request
        )

    def decline(self, name: Decline) -> FlowerMessage:
        """The reply of a node that sends no update: a closed name."""
        from flwr.app import Error
        from flwr.app import Message as FlowerMessage

        return FlowerMessage(Error(100 + list(Decline).index(name), name.value), reply_to=self._request)


class HttpAnswer(NamedTuple):
    """What the service answered; nothing in it is verified yet."""

    status: int
    body: bytes


class HttpTransport:
    """Sends a message to the service as JSON. Documents are fetched without a word about the device.

    Args of the constructor:
        base_url: the service.
        api_key: the device's own key, if it has enrolled.
        transport: for tests.
    """

    def __init__(self, base_url: str, *, api_key: str = "", transport: httpx.BaseTransport | None = None) -> None:
        import httpx

        # No redirects, no proxies or certificates by environment: the request goes where the owner said.
        self._client = httpx.Client(base_url=base_url, transport=transport, timeout=30, trust_env=False)
        self._key = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def send(self, message: Message, body: bytes, payload: IntVector | None) -> HttpAnswer:  # noqa: ARG002 - likewise
        """One request."""
        if isinstance(message, DocumentRequest):
            answer = self._client.get(PATHS[message.document])
        else:
            headers = {"content-type": "application/json", **self._key}
            answer = self._client.post(PATHS[_kind(message)], content=body[1:], headers=headers)
        return HttpAnswer(answer.status_code, answer.content)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
