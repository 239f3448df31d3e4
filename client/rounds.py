"""A node's part in one round. Owns the order of steps over its devices: ask, charge, train, add up, hand to the door.

Every device's update is clipped and noised before it is added to anything. All permitted devices are charged in one
durable transaction before any noise is drawn, so a crash can waste budget but never give any back.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from client.budget import Reservation
from client.device import Node
from client.egress import Door, Transport
from client.ingress import AcceptedRound
from client.store.keys import DeviceId
from client.training.contribution import contribution
from client.warm import Load
from common.errors import EgressRefused, ReticentError
from common.privacy.summation import Outgoing
from common.taxonomy import Masking, Purpose, RefusalReason
from common.wire.messages import TrainingContribution
from policies.consent import Refusal

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
    door: Door[DeviceId, Reservation],
    transport: Transport[R],
    noise: NoiseSource,
    load: Load,
    attempt: str,
) -> R:
    """Train the permitted devices of a node and release their sum.

    Args:
        node: whose devices.
        accepted: a verified invitation with its weights.
        door: the way out.
        transport: carries the reply.
        noise: where noise and samples come from.
        load: examples of a device.
        attempt: unique per call: every fresh draw of noise is a charge of its own.

    Raises:
        EgressRefused: no device may or can contribute, or the door said no.
    """
    permitted = _permitted(node, door)
    charges = _charge(node, accepted, permitted, door, attempt)
    outgoing = _train(node, accepted, charges, door, noise=noise, load=load)
    if not outgoing.charges():
        raise EgressRefused(RefusalReason.UNAVAILABLE)
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


def _permitted(node: Node, door: Door[DeviceId, Reservation]) -> list[DeviceId]:
    """Devices whose live receipts permit learning here and contributing; the others' owners are told why not."""
    devices = sorted(node.vault.devices())
    barred: dict[DeviceId, RefusalReason] = {}
    for device in devices:
        answer = node.gate.permits(device, Purpose.TRAIN_LOCAL)
        if isinstance(answer, Refusal):
            barred[device] = answer.reason
    barred |= door.barred(KIND, [device for device in devices if device not in barred])
    door.keep_back(KIND, barred)
    return [device for device in devices if device not in barred]


def _charge(
    node: Node, accepted: AcceptedRound, devices: list[DeviceId], door: Door[DeviceId, Reservation], attempt: str
) -> Charges:
    """Spend first: one durable transaction for all devices; those whose budget is used up stay out."""
    invitation = accepted.invitation
    answers = node.ledger.reserve(
        devices,
        invitation.parameters.release(invitation.profile),
        purpose=Purpose.TRAIN_CONTRIBUTE,
        cause=f"{invitation.run_id}/{invitation.round_number}/{attempt}",
    )
    charges = {device: answer for device, answer in answers.items() if isinstance(answer, Reservation)}
    door.keep_back(KIND, {device: RefusalReason.BUDGET_EXHAUSTED for device in devices if device not in charges})
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
    failed: list[DeviceId] = []
    for device, charge in charges.items():
        try:
            update = trainer.train(accepted.start, load(node, device))
            outgoing.add(device, contribution(update), charge)
        except (ReticentError, sqlite3.Error) as error:
            _log.warning("a device was left out of a round: %s", type(error).__name__)
            failed.append(device)
    door.keep_back(KIND, dict.fromkeys(failed, RefusalReason.UNAVAILABLE))
    return outgoing
