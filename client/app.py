"""Flower's ClientApp: wiring only. Opens the node, hands one message through ingress, rounds and egress.

No exception passes this file: Flower would send its text to the server. What leaves instead is a closed name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from client.budget import Reservation
from client.device import Node
from client.egress import Door, FlowerTransport
from client.features.cache import load_examples
from client.ingress import Terms, accept_invitation, accept_round, accept_weights, is_masked
from client.journal import Journal
from client.releases.plan import Plan
from client.releases.vectors import Work
from client.rounds import take_part
from client.settings import Settings, home_from_env
from client.stages import Rosters, Session
from client.standing import RoundGate, learn_keys, round_gate
from client.store.keys import DeviceId
from client.warm import Load, Warm
from common.errors import (
    ContractError,
    MalformedInput,
    PolicyError,
    Refused,
    ReticentError,
    RoundError,
    TrustError,
    UnknownSigner,
)
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise
from common.taxonomy import Decline, Stage
from common.wire.messages import RoundInvitation

_log = logging.getLogger(__name__)
_WARM = Warm(load_examples)
_ROSTERS: Rosters = {}


class SealedClientApp(ClientApp):
    """Lets no exception out, from whatever part of the app: only a closed name."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer a message."""
        transport = FlowerTransport(message)
        try:
            return super().__call__(message, context)
        except Refused:
            return transport.decline(Decline.NOTHING_TO_SEND)
        except Exception as error:  # noqa: BLE001 - its text may quote anything, and would be sent or logged
            _log.error("the round failed on this node: %s", type(error).__name__)
            return transport.decline(Decline.FAILURE)


app = SealedClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer the one message of a round in which every device protects itself, or decline it."""

    def respond(node: Node, settings: Settings, transport: FlowerTransport) -> Message:
        jws, named = _unpack(message)
        accepted = accept_round(jws, named, _terms(node))
        gate = round_gate(node, Stage.ADVERTISE)
        return take_part(
            node,
            accepted,
            gate=gate,
            door=_door(node, gate),
            transport=transport,
            noise=noise_source(settings, node, accepted.invitation),
            load=_load(settings),
        )

    return _answer(message, context, respond)


@app.train(Stage.ADVERTISE.value)
def advertise(message: Message, context: Context) -> Message:
    """Stage 1 of a secure aggregation: this node's devices offer fresh keys."""
    return _answer_stage(message, context, lambda session, request: session.advertise(request.bodies))


@app.train(Stage.SHARE.value)
def share(message: Message, context: Context) -> Message:
    """Stage 2: they share their secrets with their neighbours."""
    return _answer_stage(message, context, lambda session, request: session.share(request.bodies))


@app.train(Stage.MASK.value)
def mask(message: Message, context: Context) -> Message:
    """Stage 3: they are charged, compute, and release their masked vectors."""

    def respond(session: Session[Message], request: StageRequest) -> Message:
        node, plan = session.node, session.plan
        start = accept_weights(plan.invitation, request.arrays, _terms(node))
        noise = noise_source(node.settings, node, plan.invitation)
        work = Work(node=node, plan=plan, start=start, noise=noise, load=_load(node.settings))
        return session.mask(request.bodies, work)

    return _answer_stage(message, context, respond)


@app.train(Stage.CONFIRM.value)
def confirm(message: Message, context: Context) -> Message:
    """Stage 4: they confirm who survived."""
    return _answer_stage(message, context, lambda session, request: session.confirm(request.bodies))


@app.train(Stage.REVEAL.value)
def reveal(message: Message, context: Context) -> Message:
    """Stage 5: they take the masks off the sum."""
    return _answer_stage(message, context, lambda session, request: session.reveal(request.bodies))


def _answer_stage(
    message: Message, context: Context, take: Callable[[Session[Message], StageRequest], Message]
) -> Message:
    """Verify a stage's invitation, and that the session runs under it; then take the stage's step."""

    def respond(node: Node, _settings: Settings, transport: FlowerTransport) -> Message:
        stage = Stage(message.metadata.message_type.rpartition(".")[2])
        request = unpack_stage(message, stage)
        invitation = accept_invitation(request.jws, _terms(node))
        if not is_masked(invitation):
            raise PolicyError("this round has no stages")
        if stage is not Stage.ADVERTISE:
            node.sessions.resume(invitation.session, request.jws)
        gate = round_gate(node, stage)
        session = Session(
            node=node,
            jws=request.jws,
            plan=Plan.of(invitation, node.policies.policies.privacy_budget, node.spec),
            gate=gate,
            door=_door(node, gate),
            transport=transport,
            rosters=_ROSTERS,
        )
        return take(session, request)

    return _answer(message, context, respond)


def _answer(
    message: Message, context: Context, respond: Callable[[Node, Settings, FlowerTransport], Message]
) -> Message:
    """Open the node and answer; what is wrong with the message itself is declined by its closed name."""
    settings = Settings.from_env()
    transport = FlowerTransport(message)
    directory = node_directory(context, settings)
    with _WARM.node(directory, settings) if settings.simulation else Node.open(directory, settings) as node:
        try:
            try:
                return respond(node, settings, transport)
            except UnknownSigner:  # before anything was done: perhaps the service has a newer key
                if not learn_keys(node):
                    raise
                return respond(node, settings, transport)
        except (TrustError, MalformedInput, ContractError, PolicyError, RoundError) as error:
            _log.warning("a message was declined: %s", error.name)
            return transport.decline(closed_name(error))


def _door(node: Node, gate: RoundGate) -> Door[DeviceId, Reservation]:
    return Door(
        policy=node.policies.policies.egress,
        gate=gate,
        ledger=node.ledger,
        journal=Journal(node.directory / "journal.db"),
        clock=node.settings.now,
    )


def _load(settings: Settings) -> Load:
    return _WARM.examples if settings.simulation else load_examples


def closed_name(error: ReticentError) -> Decline:
    """The name under which a bad message is declined."""
    if error.name in set(Decline):
        return Decline(error.name)
    return Decline.PROTOCOL if isinstance(error, RoundError) else Decline.UNVERIFIED


def node_directory(context: Context, settings: Settings) -> Path:
    """Where this node's data is: its own setting, else RETICENT_HOME; in the simulation engine, the partition's."""
    own = context.node_config.get("data-path")
    if isinstance(own, str):
        return Path(own)
    nodes, partition = context.run_config.get("simulation-nodes-dir"), context.node_config.get("partition-id")
    if settings.simulation and isinstance(nodes, str) and nodes and isinstance(partition, int):
        return Path(nodes) / f"node-{partition}"  # the server's word, hence for simulations only
    return home_from_env()


def noise_source(settings: Settings, node: Node, invitation: RoundInvitation) -> NoiseSource:
    """The operating system's, unless this is a simulation that names a seed."""
    if settings.simulation and settings.noise_seed is not None:
        return SimulationNoise(settings.noise_seed, node.directory.name, invitation.task, invitation.round_number)
    return SecureNoise()


def _terms(node: Node) -> Terms:
    return Terms(
        keys=node.server_keys,
        spec=node.spec,
        budget=node.policies.policies.privacy_budget,
        budget_digest=node.policies.digests["privacy_budget"],
        simulation=node.settings.simulation,
        now=node.settings.now(),
    )


def _unpack(message: Message) -> tuple[str, Mapping[str, npt.NDArray[np.generic]]]:
    """The signed invitation and the arrays beside it."""
    content = message.content
    if set(content) != {"arrays", "invitation"}:
        raise MalformedInput("a round's message holds arrays and an invitation")
    invitation = content["invitation"]
    jws = invitation.get("jws") if isinstance(invitation, ConfigRecord) else None
    if not isinstance(jws, str):
        raise MalformedInput("a round's message holds arrays and an invitation")
    return jws, _decoded(content["arrays"])


@dataclass(frozen=True, slots=True)
class StageRequest:
    """What a stage's message holds: the invitation, messages of the protocol, and in MASK the global arrays."""

    jws: str
    bodies: tuple[bytes, ...]
    arrays: Mapping[str, npt.NDArray[np.generic]]


def unpack_stage(message: Message, stage: Stage) -> StageRequest:
    """The records of a stage's message.

    Raises:
        MalformedInput: it does not hold exactly what a message of this stage holds.
    """
    content, masking = message.content, stage is Stage.MASK
    if set(content) != ({"secagg", "arrays"} if masking else {"secagg"}):
        raise MalformedInput("a stage's message holds other records than agreed")
    record = content["secagg"]
    if not isinstance(record, ConfigRecord) or set(record) != {"jws", "bodies"}:
        raise MalformedInput("a stage's message holds an invitation and bodies")
    jws, bodies = record["jws"], record["bodies"]
    if not isinstance(jws, str) or not isinstance(bodies, list):
        raise MalformedInput("a stage's message holds an invitation and bodies")
    found = tuple(body for body in bodies if isinstance(body, bytes))
    if len(found) != len(bodies):
        raise MalformedInput("a body is bytes")
    return StageRequest(jws, found, _decoded(content["arrays"]) if masking else {})


def _decoded(arrays: object) -> dict[str, npt.NDArray[np.generic]]:
    if not isinstance(arrays, ArrayRecord):
        raise MalformedInput("a round's message holds arrays")
    try:
        return {name: array.numpy() for name, array in arrays.items()}
    except (ValueError, TypeError, OSError, EOFError, MemoryError):
        raise MalformedInput("the arrays cannot be decoded") from None
