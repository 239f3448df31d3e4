"""A node's part in a round of one message. Owns the order of its steps: ask, charge, train, add up, hand to the door.

For profiles whose devices need nobody else's protection; what secure aggregation protects is ``client.stages``'s.
Every device's update is clipped and noised before it is added to anything. All permitted devices are charged in one
durable transaction before any noise is drawn, so a crash can waste budget but never give any back. A session is
answered once: where its charge stands already, nothing is sent again.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

from client.budget import Reservation
from client.device import Node
from client.egress import Door
from client.eligibility import fresh_charges, permitted
from client.guard import sealed
from client.ingress import AcceptedRound
from client.standing import RoundGate
from client.store.keys import DeviceId
from client.training.contribution import contribution
from client.warm import Load
from common.errors import EgressRefused, ReticentError
from common.model.examples import Examples
from common.privacy.summation import Outgoing
from common.taxonomy import Masking, Purpose, RefusalReason, ReleaseKind
from common.wire.messages import TrainingContribution
from policies.budget import PlannedRelease
from policies.door import Transport

if TYPE_CHECKING:
    from common.privacy.randomness import NoiseSource

KIND = "training_contribution"
R = TypeVar("R")
Charges = Mapping[DeviceId, Reservation]

_log = logging.getLogger(__name__)


def take_part(
    node: Node,
    accepted: AcceptedRound,
    *,
    gate: RoundGate,
    door: Door[DeviceId, Reservation],
    transport: Transport[R],
    noise: NoiseSource,
    load: Load,
) -> R:
    """Train the permitted devices of a node and release their sum.

    Args:
        node: whose devices.
        accepted: a verified invitation with its weights.
        gate: consent, with the service's word where one is configured.
        door: the way out.
        transport: carries the reply.
        noise: where noise and samples come from.
        load: examples of a device.

    Raises:
        EgressRefused: no device may or can contribute, or the door said no.
    """
    needs = [Purpose.TRAIN_LOCAL, Purpose.TRAIN_CONTRIBUTE]
    devices = permitted(gate, door, node.vault.devices(), kind=KIND, needs=needs)
    charges = _charge(node, accepted, devices, door)
    outgoing = _train(node, accepted, charges, door, noise=noise, load=load)
    if not outgoing.charges():
        raise EgressRefused(RefusalReason.UNAVAILABLE)
    gate.renew()  # the door asks again, the service too
    invitation = accepted.invitation

    def header(contributions: int) -> TrainingContribution:
        return TrainingContribution(
            run_id=invitation.run_id,
            round_number=invitation.round_number,
            spec_digest=invitation.model.spec_digest,
            base_digest=invitation.arrays_digest,
            length=outgoing.length,
            contributions=contributions,
            release=invitation.parameters.release(invitation.profile),
            masking=Masking.NONE,
        )

    return door.release_contribution(outgoing, header, transport)


def _charge(node: Node, accepted: AcceptedRound, devices: list[DeviceId], door: Door[DeviceId, Reservation]) -> Charges:
    """Spend first: one durable transaction for all devices; those whose budget is used up stay out."""
    invitation = accepted.invitation
    release = invitation.parameters.release(invitation.profile)
    answers = node.ledger.reserve(
        devices,
        [PlannedRelease(ReleaseKind.TRAINING_UPDATE, release)],
        cause=f"{invitation.run_id}/{invitation.round_number}/{invitation.session}",
    )
    charges, refused = fresh_charges(answers)
    door.keep_back(KIND, refused)
    return charges


def _train(
    node: Node,
    accepted: AcceptedRound,
    charges: Charges,
    door: Door[DeviceId, Reservation],
    *,
    noise: NoiseSource,
    load: Load,
) -> Outgoing[DeviceId, Reservation]:
    """Train one device after the other; one whose storage fails is left out, its owner told, its charge kept."""
    from client.training.local import LocalTrainer  # torch: only when there is somebody to train

    invitation = accepted.invitation
    outgoing: Outgoing[DeviceId, Reservation] = Outgoing(len(accepted.start))
    if not charges:
        return outgoing
    trainer = LocalTrainer(
        model=invitation.model,
        spec=node.spec,
        parameters=invitation.parameters,
        profile=invitation.profile,
        rng=noise,
        simulation=node.settings.simulation,
    )
    if len(charges) == 1:
        import client.training.dp_sgd  # noqa: F401 - a single device trains by it, and nothing is loaded while sealed
    failed: list[DeviceId] = []
    with sealed():
        updates = trainer.updates(accepted.start, _loads(node, charges, load))
        for (device, charge), update in zip(charges.items(), updates, strict=True):
            try:
                if isinstance(update, Exception):
                    raise update
                outgoing.add(device, contribution(update), charge)
            except (ReticentError, sqlite3.Error) as error:
                _log.warning("a device was left out of a round: %s", type(error).__name__)
                failed.append(device)
    door.keep_back(KIND, dict.fromkeys(failed, RefusalReason.UNAVAILABLE))
    return outgoing


def _loads(node: Node, devices: Iterable[DeviceId], load: Load) -> Iterator[Examples | Exception]:
    """Examples of one device after the other, read when its turn comes."""
    for device in devices:
        try:
            yield load(node, device)
        except (ReticentError, sqlite3.Error) as error:
            yield error
