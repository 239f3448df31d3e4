"""Nodes that speak secure aggregation with known vectors, without storage, consent or torch: for tests of the server.

They use the real device side of the protocol (``common.secagg.device``). What a test wants to go wrong, it says by
stage: a node may stay silent, answer twice, answer for another, or send bytes that nobody can read.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.serverapp import Grid

from common.crypto.signing import PublicKey, SigningKey
from common.errors import ReticentError
from common.secagg import device
from common.secagg.certificate import issue_certificate
from common.secagg.states import Advertised, Confirmed, Masked, Shared
from common.secagg.terms import SessionTerms
from common.taxonomy import Stage
from common.wire.codec import decode, encode
from common.wire.secagg import (
    MaskedMeasurement,
    MaskedUpdateHeader,
    SecAggConfirmations,
    SecAggDelivery,
    SecAggRoster,
    SecAggSurvivors,
)

FOREVER = 2.0**40
Ints = npt.NDArray[np.int64]
Spoil = Callable[[Message, list[bytes], list[npt.NDArray[np.uint8]]], Message | None]


@dataclass
class FakeDevice:
    """One participant with a vector that the test knows."""

    vector: Ints
    identity: SigningKey = field(default_factory=SigningKey.generate)
    certificate: bytes = b""
    state: object = None

    @property
    def name(self) -> bytes:
        return self.identity.public.raw


@dataclass
class FakeNode:
    """A node of several devices; ``spoil`` replaces its answer in a stage."""

    devices: list[FakeDevice]
    spoil: dict[Stage, Spoil] = field(default_factory=dict)

    def answer(self, message: Message, terms: SessionTerms, header: MaskedUpdateHeader | MaskedMeasurement) -> Message:
        stage = Stage(message.metadata.message_type.removeprefix("train."))
        bodies = [bytes(body) for body in message.content["secagg"]["bodies"]]
        rows: list[npt.NDArray[np.uint8]] = []
        replies: list[bytes] = []
        try:
            getattr(self, f"_{stage.value}")(terms, header, bodies, replies, rows)
        except ReticentError as error:
            return Message(Error(2, error.name), reply_to=message)
        if stage in self.spoil:
            spoilt = self.spoil[stage](message, replies, rows)
            if spoilt is None:
                return None  # type: ignore[return-value]
            return spoilt
        return reply_of(message, replies, rows if stage is Stage.MASK else None)

    def _advertise(self, terms, _header, _bodies, replies, _rows) -> None:
        for one in self.devices:
            one.state, advert = device.begin(terms, one.identity, one.certificate, os.urandom)
            replies.append(encode(advert))

    def _share(self, terms, _header, bodies, replies, _rows) -> None:
        self.roster = device.verify_roster(terms, decode(bodies[0], SecAggRoster))
        for one in self._in(Advertised):
            if one.name in self.roster.identities:  # else it was barred or not drawn
                one.state, shares = device.share(one.state, self.roster, os.urandom)
                replies.append(encode(shares))

    def _mask(self, terms, header, bodies, replies, rows) -> None:
        by_index = {self.roster.index_of(one.name): one for one in self._in(Shared)}
        for body in bodies:
            delivery = decode(body, SecAggDelivery)
            one = by_index[delivery.index]
            one.state, payload = device.mask(one.state, self.roster, delivery, one.vector)
            replies.append(encode(header.model_copy(update={"index": delivery.index})))
            rows.append(np.frombuffer(payload, np.uint8))

    def _confirm(self, terms, _header, bodies, replies, _rows) -> None:
        survivors = decode(bodies[0], SecAggSurvivors)
        for one in self._in(Masked):
            one.state, confirmation = device.confirm(one.state, self.roster, survivors)
            self.digest = confirmation.survivors_digest
            replies.append(encode(confirmation))

    def _reveal(self, terms, _header, bodies, replies, _rows) -> None:
        confirmations = decode(bodies[0], SecAggConfirmations)
        verified = device.verify_confirmations(terms, self.roster, self.digest, confirmations)
        for one in self._in(Confirmed):
            one.state, reveal = device.reveal(one.state, self.roster, verified)
            replies.append(encode(reveal))

    def _in(self, state: type) -> list[FakeDevice]:
        return [one for one in self.devices if isinstance(one.state, state)]


def reply_of(message: Message, bodies: Sequence[bytes], rows: Sequence[npt.NDArray[np.uint8]] | None) -> Message:
    """The agreed form of a reply."""
    content = RecordDict({"secagg": ConfigRecord({"bodies": list(bodies)})})
    if rows is not None:
        content["payload"] = ArrayRecord({"masked": Array(np.array(rows, np.uint8).reshape(len(rows), -1))})
    return Message(content, reply_to=message)


class FakeSecAggGrid(Grid):
    """Answers at once, by ``FakeNode``; time does not pass unless somebody waits."""

    run = None  # type: ignore[assignment]
    set_run = create_message = send_and_receive = None  # type: ignore[assignment]

    def __init__(
        self, nodes: dict[int, FakeNode], terms: SessionTerms, header: MaskedUpdateHeader | MaskedMeasurement
    ) -> None:
        self.nodes, self.terms, self.header = nodes, terms, header
        self.replies: list[Message] = []
        self.sent: list[Message] = []
        self.dead: set[int] = set()
        self.dies: dict[Stage, set[int]] = {}

    def get_node_ids(self) -> Iterable[int]:
        return list(self.nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
            ids.append(message.metadata.message_id)
            self.sent.append(message)
            node = message.metadata.dst_node_id
            stage = Stage(message.metadata.message_type.removeprefix("train."))
            if node in self.dies.get(stage, set()):
                self.dead.add(node)
            if node in self.dead:
                continue
            reply = self.nodes[node].answer(message, self.terms, self.header)
            if reply is not None:
                self.replies.append(reply)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        found, self.replies = self.replies, []
        return found


FakeSecAggGrid.__abstractmethods__ = frozenset()  # the rest of Flower's interface is not used by our strategy


def enrol(authority: SigningKey, vectors: Sequence[Ints], devices_per_node: int) -> dict[int, FakeNode]:
    """Certified devices with these vectors, on nodes of ``devices_per_node``, numbered from 10."""
    devices = []
    for vector in vectors:
        one = FakeDevice(vector)
        one.certificate = issue_certificate(authority, one.name, FOREVER)
        devices.append(one)
    parts = [devices[start : start + devices_per_node] for start in range(0, len(devices), devices_per_node)]
    return {10 + number: FakeNode(part) for number, part in enumerate(parts)}


def authorities(key: SigningKey) -> tuple[PublicKey, ...]:
    """The one authority of a test."""
    return (key.public,)
