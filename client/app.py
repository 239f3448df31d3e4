"""Flower's ClientApp: wiring only. Opens the node, hands one message through ingress, rounds and egress.

No exception passes this file: Flower would send its text to the server. What leaves instead is a closed name.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from flwr.app import ArrayRecord, ConfigRecord, Context, Message
from flwr.clientapp import ClientApp

from client.device import Node
from client.egress import Door, FlowerTransport
from client.features.cache import load_examples
from client.ingress import AcceptedRound, Terms, accept_round
from client.journal import Journal
from client.rounds import take_part
from client.settings import Settings, home_from_env
from client.warm import Warm
from common.errors import ContractError, MalformedInput, PolicyError, Refused, TrustError
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise
from common.taxonomy import Decline

_log = logging.getLogger(__name__)
_WARM = Warm(load_examples)


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
    """Answer one round's invitation with the node's contribution, or decline it."""
    settings = Settings.from_env()
    transport = FlowerTransport(message)
    directory = node_directory(context, settings)
    with _WARM.node(directory, settings) if settings.simulation else Node.open(directory, settings) as node:
        try:
            accepted = _accept(message, node)
        except (TrustError, MalformedInput, ContractError, PolicyError) as error:
            _log.warning("an invitation was declined: %s", error.name)
            return transport.decline(closed_name(error))
        return take_part(
            node,
            accepted,
            door=Door(
                policy=node.policies.policies.egress,
                gate=node.gate,
                ledger=node.ledger,
                journal=Journal(node.directory / "journal.db"),
            ),
            transport=transport,
            noise=noise_source(settings, node, accepted),
            load=_WARM.examples if settings.simulation else load_examples,
            attempt=secrets.token_hex(8),
        )


def closed_name(error: TrustError | MalformedInput | ContractError | PolicyError) -> Decline:
    """The name under which a bad invitation is declined."""
    return Decline(error.name) if error.name in set(Decline) else Decline.UNVERIFIED


def node_directory(context: Context, settings: Settings) -> Path:
    """Where this node's data is: its own setting, else RETICENT_HOME; in the simulation engine, the partition's."""
    own = context.node_config.get("data-path")
    if isinstance(own, str):
        return Path(own)
    nodes, partition = context.run_config.get("simulation-nodes-dir"), context.node_config.get("partition-id")
    if settings.simulation and isinstance(nodes, str) and nodes and isinstance(partition, int):
        return Path(nodes) / f"node-{partition}"  # the server's word, hence for simulations only
    return home_from_env()


def noise_source(settings: Settings, node: Node, accepted: AcceptedRound) -> NoiseSource:
    """The operating system's, unless this is a simulation that names a seed."""
    if settings.simulation and settings.noise_seed is not None:
        return SimulationNoise(settings.noise_seed, node.directory.name, accepted.invitation.round_number)
    return SecureNoise()


def _accept(message: Message, node: Node) -> AcceptedRound:
    jws, arrays = _unpack(message)
    terms = Terms(
        keys=node.server_keys,
        spec=node.spec,
        budget=node.policies.policies.privacy_budget,
        budget_digest=node.policies.digests["privacy_budget"],
        simulation=node.settings.simulation,
    )
    return accept_round(jws, arrays, terms)


def _unpack(message: Message) -> tuple[str, Mapping[str, npt.NDArray[np.generic]]]:
    """The signed invitation and the arrays beside it."""
    content = message.content
    if set(content) != {"arrays", "invitation"}:
        raise MalformedInput("a round's message holds arrays and an invitation")
    arrays, invitation = content["arrays"], content["invitation"]
    jws = invitation.get("jws") if isinstance(invitation, ConfigRecord) else None
    if not isinstance(arrays, ArrayRecord) or not isinstance(jws, str):
        raise MalformedInput("a round's message holds arrays and an invitation")
    try:
        return jws, {name: array.numpy() for name, array in arrays.items()}
    except (ValueError, TypeError, OSError, EOFError, MemoryError):
        raise MalformedInput("the arrays cannot be decoded") from None
