"""The device's dealings with the service: enrol, decide, withdraw, fetch, place. Owns their order; sends by the door.

Everything fetched is the same for everybody and is verified before use. At decision time nothing is sent at all: the
app hands over the service's permit, and what is chosen stays here.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from client import experiments
from client.behavior.events import BehaviourEvent
from client.budget import Reservation
from client.device import Node
from client.egress import Door, HttpAnswer, Signer
from client.feedback import Feedback
from client.journal import Journal
from client.placing import Equipment as Equipment  # noqa: PLC0414 - part of this module's words
from client.placing import Visit, fill
from client.store.keys import DeviceId
from common.crypto.signing import PublicKey, SigningKey
from common.errors import ConsentRefused, DigestMismatch, MalformedInput, TrustError, UnknownSigner
from common.model.manifest import open_manifest
from common.secagg.certificate import open_certificate
from common.taxonomy import AgeBand, FollowUp, Purpose, RefusalReason
from common.wire.base import Message
from common.wire.documents import open_document
from common.wire.keys import follow
from common.wire.messages import (
    Catalogue,
    ConsentChange,
    ConsentReceipt,
    ConsentStanding,
    ConsentWithdrawal,
    DocumentRequest,
    FollowUpReport,
    PolicyDocument,
    SubjectEnrolment,
)
from common.wire.subject import SubjectRead
from policies.door import Letter, Sealed, Transport
from policies.loader import read_placement
from policies.placement.assemble import offers
from policies.placement.protocol import Placement

Locale = Literal["en", "zh-CN"]
Decision = Literal["given", "refused"]


class ServiceTransport(Protocol):
    """Carries messages to the service; a new one per signer."""

    def send(self, parcels: Sequence[Sealed]) -> HttpAnswer:
        """One request."""

    def close(self) -> None:
        """Give its connections back."""


Connect = Callable[[Signer | None], ServiceTransport]
"""Makes a transport that signs as a device, or as nobody before it has enrolled."""


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Enrolled(_Answer):
    handle: str
    certificate: str | None = None


class _Receipt(_Answer):
    receipt: str


class _Receipts(_Answer):
    receipts: tuple[_Receipt, ...]


class _NoticeDigest(_Answer):
    digest: str


class _Standing(_Answer):
    standing: str


class _Key(_Answer):
    succession: str | None = None


class _KeySet(_Answer):
    keys: tuple[_Key, ...]


T = TypeVar("T")
A = TypeVar("A", bound=BaseModel)


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
        """Get a random handle. A public key, signed with its own, and what the person declared are all that is sent.

        The key is fresh, unless one is left from an erasure in this budget period: then its budget goes on with it.

        Raises:
            MalformedInput: the service did not answer as it should.
            UnknownSigner, TrustError: the certificate in its answer is not one for this key by a pinned authority.
        """
        identity = self.node.credentials.signing_key(self.device) or SigningKey.generate()
        enrolment = SubjectEnrolment(
            public_key=identity.public.x, app_id=app_id, age_band=age_band, jurisdiction=jurisdiction
        )
        answer = _parse(self.send(enrolment, signer=Signer(identity.public.x, identity)), _Enrolled)
        certificate = self._certificate(answer, identity)
        self.node.credentials.keep(self.device, identity=identity, certificate=certificate)
        self.node.gate.enrol(self.device, answer.handle)
        return answer.handle

    def decide(
        self, decisions: Mapping[Purpose, Decision], *, notice_digest: str, locale: Locale = "en", surface: str = "sdk"
    ) -> list[ConsentReceipt]:
        """Grant or refuse purposes under the notice that was shown; receipts are verified and kept.

        Raises:
            EgressRefused, MalformedInput, ServiceUnreachable, TrustError: nothing was decided here.
        """
        change = ConsentChange(
            handle=self._own_handle(),
            notice_digest=notice_digest,
            decisions=dict(decisions),
            locale=locale,
            surface=surface,
        )
        return self._keep(self.ask(change, _Receipts))

    def withdraw(self, purposes: Sequence[Purpose] | None = None) -> list[ConsentReceipt]:
        """Withdraw purposes, or everything; in force here before anything is sent, at the service when this returns.

        Raises:
            EgressRefused, MalformedInput, ServiceUnreachable, TrustError: the service may not have heard of it; here it
                holds all the same, and ``Gate.untold`` says what is left to tell.
        """
        stopped = tuple(Purpose) if purposes is None else tuple(purposes)
        self.node.gate.stop(self.device, stopped)
        wanted: tuple[Purpose, ...] | Literal["all"] = "all" if purposes is None else stopped
        receipts = self._keep(self.ask(ConsentWithdrawal(handle=self._own_handle(), purposes=wanted), _Receipts))
        self.node.gate.told(self.device, stopped)
        return receipts

    def standing(self) -> ConsentStanding:
        """How this device stands at the service at this moment, signed; what it refuses, the gate refuses from now on.

        Raises:
            EgressRefused, MalformedInput, ServiceUnreachable, TrustError: there is no such word, which means no.
        """
        jws = self.ask(SubjectRead(what="standing"), _Standing).standing
        return self.trusting(lambda _keys: self.node.gate.heard(self.device, jws))

    def follow_keys(self) -> bool:
        """Learn the service's newer keys from successions that a pinned key has signed; whether there were any.

        Raises:
            TrustError: a succession of a pinned key is not what it must be.
        """
        held = self.node.server_keys
        published = self.ask(DocumentRequest(document="keys"), _KeySet).keys
        found = follow(held, [key.succession for key in published if key.succession is not None])
        if found.keys() == held.keys():
            return False
        self.node.pin(keys=found.values())
        return True

    def trusting(self, open_it: Callable[[Mapping[str, PublicKey]], T]) -> T:
        """What ``open_it`` makes of something signed; where its signer is unknown, newer keys are looked for once."""
        try:
            return open_it(self.node.server_keys)
        except UnknownSigner:
            if not self.follow_keys():
                raise
            return open_it(self.node.server_keys)

    def report(self, token: str, follow_up: FollowUp) -> None:
        """Confirm an impression, click or conversion of a contextual placement."""
        self.send(FollowUpReport(token=token, follow_up=follow_up))

    def notice(self) -> str:
        """Digest of the notice in force at the service.

        Raises:
            DigestMismatch: it is not one that this device was installed with; its text must be shown first.
        """
        digest = _parse(self.send(DocumentRequest(document="notice")), _NoticeDigest).digest
        if digest not in self.node.notices:
            raise DigestMismatch("the service's privacy notice is not one that this device knows; update the app")
        return digest

    def fetch(self) -> Equipment:
        """Fetch catalogue, policy and model, and verify each.

        Raises:
            TamperedModel, UnknownSigner, TrustError, SpecMismatch: something does not verify; nothing is used.
            DigestMismatch, PolicyError, InvariantViolated: the placement policy is not what was signed, or is none that
                this device would apply: it denies less than every document must.
        """
        from common.model.network import load_network

        self.follow_keys()  # now: a permit may be signed by a newer key, and nothing is fetched when one is used
        keys = self.node.server_keys
        signed = self._text("catalogue")
        catalogue = open_document(signed, Catalogue, keys)
        published = open_document(self._text("placement_policy"), PolicyDocument, keys)
        policy, digest = read_placement(published.text.encode())
        if digest != published.digest:
            raise DigestMismatch("the placement policy is not the text that its digest names")
        manifest, weights = open_manifest(
            self._text("model"),
            self.send(DocumentRequest(document="model_arrays")),
            keys,
            spec=self.node.spec,
        )
        network = load_network(weights, manifest.model, self.node.spec)
        return Equipment(
            catalogue=catalogue,
            network=network,
            model_version=manifest.version,
            policy=policy,
            policy_digest=digest,
            policy_text=published.text,
            catalogue_jws=signed,
            offers=offers(catalogue.creatives),
            experiment=experiments.opened(self._text("experiment"), keys),
        )

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
        visit = Visit(context, now, now if moment is None else moment)
        return fill(self.node, self.device, permit_jws, equipment, visit)

    @property
    def feedback(self) -> Feedback:
        """What follows this device's ads: views, clicks, closes and conversions. It stays on the device."""
        return Feedback(self.node, self.device)

    def record(self, event: BehaviourEvent) -> bool:
        """Remember behaviour; it stays on the device and feeds the next training. Purchases are attributed here."""
        return self.feedback.record(event)

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

    def _own_handle(self) -> str:
        handle = self.handle
        if handle is None:
            raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
        return handle

    def _keep(self, answer: _Receipts) -> list[ConsentReceipt]:
        rows = [(self.device, row.receipt) for row in answer.receipts]
        return self.trusting(lambda _keys: self.node.gate.store_receipts(rows))

    def _text(self, document: Literal["catalogue", "model", "placement_policy", "experiment"]) -> str:
        return self.send(DocumentRequest(document=document)).decode("ascii", "replace")

    def ask(self, message: Message, kind: type[A], *, charge: Reservation | None = None) -> A:
        """What the service answers to a message, in the form of ``kind``; errors as ``send`` says."""
        return _parse(self.send(message, charge=charge), kind)

    def send(self, message: Message, *, charge: Reservation | None = None, signer: Signer | None = None) -> bytes:
        """Through the door, under this device's signature where the message has one.

        Args:
            message: what to say.
            charge: what a private pick was charged, in the ledger of picks.
            signer: another than this device under its handle: before it has one.

        Raises:
            EgressRefused: the door said no.
            ServiceUnreachable: no answer came.
            MalformedInput: the service refused; its problem name is told, nothing else of its answer.
        """
        with contextlib.closing(self._connect(signer or self._signer())) as transport:
            answer = self.release(message, transport, charge=charge)
        if answer.status >= 400:
            raise MalformedInput(f"the service refused ({answer.status} {_problem(answer.body)})")
        return answer.body

    def release(self, message: Message, transport: Transport[T], *, charge: Reservation | None = None) -> T:
        """Through the door and over a transport; arguments and errors as ``send``."""
        node = self.node
        door: Door[DeviceId, Reservation] = Door(
            policy=node.policies.policies.egress,
            gate=node.gate,
            ledger=node.ledger if charge is None else node.pick_ledger,
            journal=Journal(node.directory / "journal.db"),
        )
        if charge is None:
            return door.release(message, self.device, transport)
        return door.release_letters({self.device: Letter(message, charge)}, Purpose.PLACE_PERSONALISED, transport)

    def _signer(self) -> Signer | None:
        handle, key = self.handle, self.node.credentials.signing_key(self.device)
        return None if handle is None or key is None else Signer(handle, key)


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
