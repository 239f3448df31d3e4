"""One secure aggregation over Flower's Grid. Owns who is sent what in which stage, deadlines, and what is refused.

The protocol itself is ``common.secagg``'s: this adapter decodes, attributes every message to the node it came from,
counts what is refused by name, and hands the rest on. Nothing but the exact sum ever leaves it; a stage that loses too
many ends the session by a named error, and what was charged stays charged.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from flwr.app import Message
from flwr.serverapp import Grid

from common.errors import ConsentRefused, OutOfRange, ProtocolViolation, Replayed, ReticentError
from common.model.arrays import Arrays
from common.secagg.certificate import open_certificate
from common.secagg.server import Aggregator, UnmaskedSum
from common.secagg.terms import SessionTerms
from common.taxonomy import RefusalReason, Stage
from common.wire.base import Message as WireMessage
from common.wire.codec import decode, encode
from common.wire.secagg import (
    MaskedMeasurement,
    MaskedUpdateHeader,
    SecAggAdvert,
    SecAggConfirmation,
    SecAggReveal,
    SecAggShares,
)
from server.rounds.aggregation import ReplyFault
from server.rounds.secagg_wire import Rows, pack, unpack
from server.rounds.strategy import UNAVAILABLE, Patience, closed_name, exchange

_SHARE_OF_DEADLINE: Mapping[Stage, float] = {
    Stage.ADVERTISE: 0.15,
    Stage.SHARE: 0.15,
    Stage.MASK: 0.4,  # devices train in it
    Stage.CONFIRM: 0.15,
    Stage.REVEAL: 0.15,
}
Header = MaskedUpdateHeader | MaskedMeasurement
M = TypeVar("M", bound=WireMessage)


class Charging(Protocol):
    """The server's ledger, for one session."""

    def barred(self, identities: Sequence[bytes]) -> Mapping[bytes, str]:
        """Devices that the release would take past a bound, with the error's name; nothing is charged."""

    def charge(self, identities: Sequence[bytes]) -> Collection[bytes]:
        """Charge these devices durably, and return those that could not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one secure aggregation asks for.

    Attributes:
        terms: session id, length, modulus and cohort.
        invitation: the signed invitation, in the request of every stage.
        model: arrays that go out with the MASK stage.
        header: what every masked vector must declare, its index aside.
        group: the round, for Flower's own log.
        devices_per_node_max: devices one node may speak for.
        limit: bound on the sum's coordinates for a roster size; beyond it the sum wrapped or somebody cheated.
        draw: chooses that many of the devices offered, where more came than the cohort may hold.
        refused: which of these devices may not take part at this moment; asked when the roster closes, before anybody
            is charged, and before each masked vector is added.
        elsewhere: devices that another session of the same measurement has asked: they are left out.
    """

    terms: SessionTerms
    invitation: str
    model: Arrays
    header: Header
    group: str
    devices_per_node_max: int
    limit: Callable[[int], int]
    draw: Callable[[list[bytes], int], Collection[bytes]]
    refused: Callable[[Sequence[bytes]], Collection[bytes]]
    elsewhere: Collection[bytes] = frozenset()


@dataclass(slots=True)
class SecureTally:
    """What one session was made of; counts only.

    Attributes:
        roster: devices whose keys went into the roster.
        charged: devices that were charged.
        survivors: devices in the sum; 0 until it is unmasked.
        nodes: nodes with a device in the sum.
        refused: messages refused, by stage and fault.
        declined: nodes that answered with a closed error name, by stage and name.
    """

    roster: int = 0
    charged: int = 0
    survivors: int = 0
    nodes: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    declined: Counter[str] = field(default_factory=Counter)


def aggregate(
    grid: Grid, nodes: Sequence[int], session: Session, *, charging: Charging, patience: Patience, tally: SecureTally
) -> UnmaskedSum:
    """Drive one session from keys to the sum.

    Args:
        grid: Flower's grid.
        nodes: whom to ask.
        session: what for.
        charging: asked before the roster closes, and charged before any masked vector is asked for.
        patience: deadline of the whole session, clock and heartbeat.
        tally: filled in as the session goes on, also when it fails.

    Raises:
        TooFewSurvivors: a stage lost more devices than the policy allows.
        SumOutOfRange: the sum cannot be what was masked.
    """
    return _Run(grid, session, charging, patience, tally).run(nodes)


class _Run:
    """One session in progress."""

    def __init__(
        self, grid: Grid, session: Session, charging: Charging, patience: Patience, tally: SecureTally
    ) -> None:
        self._grid, self._session, self._charging = grid, session, charging
        self._patience, self._tally = patience, tally
        self._aggregator = Aggregator(session.terms)
        self._home: dict[int, int] = {}  # index in the roster -> node

    def run(self, nodes: Sequence[int]) -> UnmaskedSum:
        """All five stages."""
        deliveries = self._share(self._advertise(nodes))
        self._mask(self._charge(deliveries))
        survivors = self._aggregator.close_masked()
        confirmed = self._confirm(encode(survivors))
        confirmations = self._aggregator.close_confirmations()
        self._reveal(encode(confirmations), confirmed)
        total = self._aggregator.finish(self._session.limit(self._tally.roster))
        self._tally.survivors = len(total.survivors)
        self._tally.nodes = len({self._home[index] for index in total.survivors})
        return total

    # ── stages ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _advertise(self, nodes: Sequence[int]) -> bytes:
        """Collect keys, leave out who is barred or too many, close the roster; the roster."""
        offered: dict[bytes, tuple[int, SecAggAdvert]] = {}
        terms = self._session.terms

        def take(node: int, bodies: Sequence[bytes], _rows: Rows | None) -> None:
            for body in bodies:
                with self._counting(Stage.ADVERTISE):
                    advert = decode(body, SecAggAdvert)
                    identity = open_certificate(advert.certificate, terms.authorities, terms.now)
                    if identity in offered:
                        raise Replayed("a device is on the roster once")
                    if identity not in self._session.elsewhere:
                        offered[identity] = (node, advert)

        self._ask(Stage.ADVERTISE, dict.fromkeys(nodes, ()), take)
        over = self._charging.barred(sorted(offered))
        self._tally.refused.update(f"{Stage.ADVERTISE.value}/{name}" for name in over.values())
        barred = set(over)
        barred |= self._without_consent(Stage.ADVERTISE, [identity for identity in offered if identity not in barred])
        allowed = [identity for identity in sorted(offered) if identity not in barred]
        if len(allowed) > terms.cohort.devices_max:
            allowed = sorted(self._session.draw(allowed, terms.cohort.devices_max))
        taken: dict[bytes, int] = {}
        for identity in allowed:
            with self._counting(Stage.ADVERTISE):
                node, advert = offered[identity]
                taken[self._aggregator.add_advert(advert)] = node
        roster = self._aggregator.close_adverts()
        self._home = {index: taken[identity] for index, identity in enumerate(self._aggregator.identities)}
        self._tally.roster = len(self._home)
        return encode(roster)

    def _share(self, body: bytes) -> dict[int, bytes]:
        """Hand out the roster, collect encrypted shares; what to deliver to whom, by index."""

        def take(node: int, bodies: Sequence[bytes], _rows: Rows | None) -> None:
            for reply in bodies:
                with self._counting(Stage.SHARE):
                    shares = decode(reply, SecAggShares)
                    self._own(node, shares.index)
                    self._aggregator.add_shares(shares)

        self._ask(Stage.SHARE, dict.fromkeys(self._nodes(self._home), (body,)), take)
        return {index: encode(delivery) for index, delivery in self._aggregator.close_shares().items()}

    def _charge(self, deliveries: Mapping[int, bytes]) -> dict[int, bytes]:
        """Charge everybody who may now release something; who cannot be charged gets no delivery."""
        by_identity = {self._aggregator.identities[index]: index for index in deliveries}
        gone = self._without_consent(Stage.SHARE, list(by_identity))
        by_identity = {identity: index for identity, index in by_identity.items() if identity not in gone}
        deliveries = {index: deliveries[index] for index in by_identity.values()}
        refused = {by_identity[identity] for identity in self._charging.charge(sorted(by_identity))}
        if refused:
            self._tally.refused[f"{Stage.MASK.value}/BudgetExhausted"] += len(refused)
        self._tally.charged = len(deliveries) - len(refused)
        return {index: body for index, body in deliveries.items() if index not in refused}

    def _mask(self, deliveries: Mapping[int, bytes]) -> None:
        """Deliver shares and the model; add masked vectors as they arrive."""
        bodies: dict[int, list[bytes]] = defaultdict(list)
        for index in sorted(deliveries):
            bodies[self._home[index]].append(deliveries[index])

        def take(node: int, replies: Sequence[bytes], rows: Rows | None) -> None:
            if rows is None or len(rows) != len(replies):
                self._refuse(Stage.MASK, ReplyFault.SHAPE.value)
                return
            for reply, row in zip(replies, rows, strict=True):
                with self._counting(Stage.MASK):
                    header = decode(reply, type(self._session.header))
                    if header != self._session.header.model_copy(update={"index": header.index}):
                        raise ProtocolViolation("a masked vector declares something else than its round asked for")
                    self._own(node, header.index)
                    if header.index not in deliveries:
                        raise ProtocolViolation("a device answered that was not asked")
                    if self._session.refused([self._aggregator.identities[header.index]]):
                        raise ConsentRefused(RefusalReason.WITHDRAWN)
                    self._aggregator.add_masked(header.index, row.tobytes())

        self._ask(Stage.MASK, bodies, take)

    def _confirm(self, body: bytes) -> set[int]:
        """Have the survivors confirm that they all see the same set; who did, by index."""
        confirmed: set[int] = set()
        survivors = self._aggregator.survivors

        def take(node: int, bodies: Sequence[bytes], _rows: Rows | None) -> None:
            for reply in bodies:
                with self._counting(Stage.CONFIRM):
                    confirmation = decode(reply, SecAggConfirmation)
                    self._own(node, confirmation.index)
                    self._aggregator.add_confirmation(confirmation)
                    confirmed.add(confirmation.index)

        self._ask(Stage.CONFIRM, dict.fromkeys(self._nodes(survivors), (body,)), take)
        return confirmed

    def _reveal(self, body: bytes, confirmed: Collection[int]) -> None:
        """Collect the shares that take the masks off the sum."""

        def take(node: int, bodies: Sequence[bytes], _rows: Rows | None) -> None:
            for reply in bodies:
                with self._counting(Stage.REVEAL):
                    reveal = decode(reply, SecAggReveal)
                    self._own(node, reveal.index)
                    self._aggregator.add_reveal(reveal)

        self._ask(Stage.REVEAL, dict.fromkeys(self._nodes(confirmed), (body,)), take)

    # ── what they share ──────────────────────────────────────────────────────────────────────────────────────────────

    def _ask(
        self,
        stage: Stage,
        bodies: Mapping[int, Sequence[bytes]],
        take: Callable[[int, Sequence[bytes], Rows | None], None],
    ) -> None:
        """One exchange with the nodes of ``bodies``; replies that have another form are counted and dropped."""
        masking = stage is Stage.MASK
        model = self._session.model if masking else None
        contents = {node: pack(self._session.invitation, parts, model) for node, parts in bodies.items()}

        def receive(node: int, reply: Message) -> None:
            if reply.has_error():
                self._tally.declined[f"{stage.value}/{closed_name(reply.error.reason)}"] += 1
                return
            with self._counting(stage):
                found = unpack(reply.content, masking=masking)
                if len(found[0]) > self._session.devices_per_node_max:
                    raise OutOfRange("a node speaks for more devices than it may")
                take(node, *found)

        silent = exchange(
            self._grid,
            contents,
            message_type=f"train.{stage.value}",
            group_id=self._session.group,
            deadline_s=_SHARE_OF_DEADLINE[stage] * self._patience.round_deadline_s,
            patience=self._patience,
            take=receive,
            stray=lambda fault: self._refuse(stage, fault.value),
        )
        if silent:
            self._tally.declined[f"{stage.value}/{UNAVAILABLE}"] += silent

    def _without_consent(self, stage: Stage, identities: Sequence[bytes]) -> set[bytes]:
        """Devices that may not take part now, counted by name and never told apart."""
        refused = set(self._session.refused(identities)) if identities else set()
        if refused:
            self._tally.refused[f"{stage.value}/{ConsentRefused.__name__}"] += len(refused)
        return refused

    def _nodes(self, indices: Collection[int]) -> list[int]:
        """The nodes of some devices, in a fixed order."""
        return sorted({self._home[index] for index in indices})

    def _own(self, node: int, index: int) -> None:
        """A node answers for its own devices only."""
        if self._home.get(index) != node:
            raise ProtocolViolation("a node answered for a device of another node")

    def _refuse(self, stage: Stage, name: str) -> None:
        self._tally.refused[f"{stage.value}/{name}"] += 1

    def _counting(self, stage: Stage) -> _Counting:
        return _Counting(lambda name: self._refuse(stage, name))


@dataclass(slots=True)
class _Counting:
    """Counts one bad message by the name of its error and goes on."""

    refuse: Callable[[str], None]

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> bool:
        if isinstance(error, ReticentError):
            self.refuse(error.name)
            return True
        return False
