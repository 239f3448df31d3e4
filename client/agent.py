"""The device's dealings with the service: enrol, decide, withdraw, fetch, place. Owns their order; sends by the door.

Everything fetched is the same for everybody and is verified before use. At decision time nothing is sent at all: the
app hands over the service's permit, and what is chosen stays here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from client.behavior.events import BehaviourEvent
from client.budget import Reservation
from client.device import Node
from client.egress import Door, HttpAnswer
from client.features.extract import featurise
from client.features.history import History
from client.journal import Journal
from client.placement import Installed, place
from client.store.keys import DeviceId
from common.crypto.signing import SigningKey
from common.errors import ConsentRefused, DigestMismatch, MalformedInput, TrustError
from common.model.manifest import open_manifest
from common.model.situation import Situation
from common.secagg.certificate import open_certificate
from common.taxonomy import AgeBand, FollowUp, Purpose, RefusalReason
from common.wire.base import Message
from common.wire.documents import open_document
from common.wire.messages import (
    Catalogue,
    ConsentChange,
    ConsentReceipt,
    ConsentWithdrawal,
    Creative,
    DocumentRequest,
    FollowUpReport,
    PolicyDocument,
    SubjectEnrolment,
)
from policies.door import Sealed
from policies.placement.protocol import Placement

if TYPE_CHECKING:
    from torch import nn

Locale = Literal["en", "zh-CN"]
Decision = Literal["given", "refused"]


class ServiceTransport(Protocol):
    """Carries messages to the service; a new one per API key."""

    def send(self, parcels: Sequence[Sealed]) -> HttpAnswer:
        """One request."""


Connect = Callable[[str], ServiceTransport]
"""Makes a transport for an API key (empty before enrolment)."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Enrolled(_Answer):
    handle: str
    api_key: str
    certificate: str | None = None


class _Receipt(_Answer):
    receipt: str


class _Receipts(_Answer):
    receipts: tuple[_Receipt, ...]


class _NoticeDigest(_Answer):
    digest: str


A = TypeVar("A", bound=_Answer)


@dataclass(frozen=True, slots=True)
class Equipment:
    """Verified documents in memory: what a node needs to place by itself. The same for all its devices."""

    catalogue: Catalogue
    network: nn.Module
    model_version: int
    policy_digest: str


class Agent:
    """One device's side of the service.

    Args of the constructor:
        node: hosts the device.
        device: whose side.
        connect: makes transports.
    """

    def __init__(self, node: Node, device: DeviceId, connect: Connect) -> None:
        self.node, self.device, self._connect = node, device, connect

    @property
    def handle(self) -> str | None:
        """The subject handle; None before enrolment."""
        return self.node.gate.handle(self.device)

    def enrol(self, *, app_id: str, age_band: AgeBand, jurisdiction: str) -> str:
        """Get a random handle. A fresh public key and what the person declared are all that is sent.

        Raises:
            MalformedInput: the service did not answer as it should.
            UnknownSigner, TrustError: the certificate in its answer is not one for this key by a pinned authority.
        """
        identity = SigningKey.generate()
        enrolment = SubjectEnrolment(
            public_key=identity.public.x, app_id=app_id, age_band=age_band, jurisdiction=jurisdiction
        )
        answer = self._ask(enrolment, _Enrolled)
        certificate = self._certificate(answer, identity)
        self.node.credentials.keep(self.device, api_key=answer.api_key, identity=identity, certificate=certificate)
        self.node.gate.enrol(self.device, answer.handle)
        return answer.handle

    def decide(
        self, decisions: Mapping[Purpose, Decision], *, notice_digest: str, locale: Locale = "en", surface: str = "sdk"
    ) -> list[ConsentReceipt]:
        """Grant or refuse purposes under the notice that was shown; receipts are verified and kept."""
        change = ConsentChange(
            handle=self._own_handle(),
            notice_digest=notice_digest,
            decisions=dict(decisions),
            locale=locale,
            surface=surface,
        )
        return self._keep(self._ask(change, _Receipts))

    def withdraw(self, purposes: Sequence[Purpose] | None = None) -> list[ConsentReceipt]:
        """Withdraw purposes, or everything; in force at the service when this returns, and here as well."""
        wanted: tuple[Purpose, ...] | Literal["all"] = "all" if purposes is None else tuple(purposes)
        return self._keep(self._ask(ConsentWithdrawal(handle=self._own_handle(), purposes=wanted), _Receipts))

    def report(self, token: str, follow_up: FollowUp) -> None:
        """Confirm an impression, click or conversion of a contextual placement."""
        self._send(FollowUpReport(token=token, follow_up=follow_up))

    def notice(self) -> str:
        """Digest of the notice in force at the service.

        Raises:
            DigestMismatch: it is not one that this device was installed with; its text must be shown first.
        """
        digest = _parse(self._send(DocumentRequest(document="notice")), _NoticeDigest).digest
        if digest not in self.node.notices:
            raise DigestMismatch("the service's privacy notice is not one that this device knows; update the app")
        return digest

    def fetch(self) -> Equipment:
        """Fetch catalogue, policy and model, and verify each.

        Raises:
            TamperedModel, UnknownSigner, TrustError, SpecMismatch: something does not verify; nothing is used.
            DigestMismatch: the service applies another placement policy than this device was installed with.
        """
        from common.model.network import load_network

        keys = self.node.server_keys
        catalogue = open_document(self._text("catalogue"), Catalogue, keys)
        policy = open_document(self._text("placement_policy"), PolicyDocument, keys)
        if policy.digest != self.node.policies.digests["placement"]:
            raise DigestMismatch("the service applies another placement policy than this device; update the app")
        manifest, weights = open_manifest(
            self._text("model"),
            self._send(DocumentRequest(document="model_arrays")),
            keys,
            spec=self.node.spec,
        )
        network = load_network(weights, manifest.model, self.node.spec)
        return Equipment(catalogue, network, manifest.version, policy.digest)

    def place(
        self,
        permit_jws: str,
        equipment: Equipment,
        *,
        context: Mapping[str, str],
        now: float,
        moment: float | None = None,
    ) -> tuple[Placement, ...]:
        """A = g(Y), Y from this device's own history; nothing is sent.

        Args:
            permit_jws: from the service's answer to the app.
            equipment: as fetched.
            context: categorical facts of the page, the same that the app told the service.
            now: seconds since the epoch.
            moment: the moment to score at; ``now`` by default. Recorded populations live in the past. Only behaviour
                strictly before it counts.

        Raises:
            ConsentRefused: our gate or the permit says no.
        """
        from client.scoring import score

        when = now if moment is None else moment

        def scores(creatives: Sequence[Creative]) -> Sequence[float]:
            situations = [Situation(when, c.item_id, c.attributes, context, c.numbers) for c in creatives]
            examples = featurise(self.node.spec, self._history(), situations)
            return [float(y) for y in score(equipment.network, examples, self.node.spec)]

        here = Installed(
            handle=self._own_handle(),
            keys=self.node.server_keys,
            catalogue=equipment.catalogue,
            policy=self.node.policies.policies.placement,
            policy_digest=equipment.policy_digest,
            model_version=equipment.model_version,
        )
        permit = self.node.gate.permits(self.device, Purpose.PLACE_PERSONALISED)
        return place(permit_jws, here, score=scores, gate_permit=permit, now=now)

    def record(self, event: BehaviourEvent) -> bool:
        """Remember what followed a placement; it stays on the device and feeds the next training."""
        return self.node.recorder.record(self.device, event)

    def _certificate(self, answer: _Enrolled, identity: SigningKey) -> bytes:
        """The certificate in an enrolment; none where no authority is pinned: then nobody would believe it."""
        authorities = self.node.authorities
        if not answer.certificate or not authorities:
            return b""
        try:
            certificate = base64.urlsafe_b64decode(answer.certificate + "=" * (-len(answer.certificate) % 4))
        except ValueError:
            raise MalformedInput("the service did not answer as it should") from None
        if open_certificate(certificate, authorities, self.node.settings.now()) != identity.public.raw:
            raise TrustError("the service certified another key than this device's")
        return certificate

    def _history(self) -> History:
        return History.of(self.node.vault.read(self.device))

    def _own_handle(self) -> str:
        handle = self.handle
        if handle is None:
            raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
        return handle

    def _keep(self, answer: _Receipts) -> list[ConsentReceipt]:
        return self.node.gate.store_receipts((self.device, row.receipt) for row in answer.receipts)

    def _text(self, document: Literal["catalogue", "model", "placement_policy"]) -> str:
        return self._send(DocumentRequest(document=document)).decode("ascii", "replace")

    def _ask(self, message: Message, kind: type[A]) -> A:
        return _parse(self._send(message), kind)

    def _send(self, message: Message) -> bytes:
        """Through the door.

        Raises:
            EgressRefused: the door said no.
            MalformedInput: the service refused; its problem name is told, nothing else of its answer.
        """
        node = self.node
        door: Door[DeviceId, Reservation] = Door(
            policy=node.policies.policies.egress,
            gate=node.gate,
            ledger=node.ledger,
            journal=Journal(node.directory / "journal.db"),
        )
        anonymous = isinstance(message, DocumentRequest | SubjectEnrolment)
        transport = self._connect("" if anonymous else self.node.credentials.api_key(self.device))
        answer = door.release(message, self.device, transport)
        if answer.status >= 400:
            raise MalformedInput(f"the service refused ({answer.status} {_problem(answer.body)})")
        return answer.body


def _parse(body: bytes, kind: type[A]) -> A:
    try:
        return kind.model_validate_json(body)
    except ValidationError:
        raise MalformedInput("the service did not answer as it should") from None


def _problem(body: bytes) -> str:
    """The catalogued name in a problem answer; anything else is not repeated."""
    try:
        name = str(json.loads(body)["type"]).rpartition(":")[2]
    except (ValueError, KeyError, TypeError):
        return "unknown"
    return name if name.replace("-", "").isalnum() and len(name) < 60 else "unknown"
