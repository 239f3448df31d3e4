"""What a decision asks of the database. Owns its form, between processes too, and the rows that it becomes.

Everything here is plain values: whoever commits a decision needs nothing else of the process that made it.
"""

from __future__ import annotations

import msgspec

from common.taxonomy import DecisionMode, RefusalReason
from policies.consent import Permit, Refusal
from policies.placement.protocol import Placement
from server.decisions.repository import Row
from server.decisions.versions import Versions

Shown = tuple[str, int, str, str | None, float | None]
"""One position: slot, position, what came of it, the creative and with which probability it was chosen."""


class Under(msgspec.Struct, frozen=True, array_like=True, eq=False):
    """What many decisions are made under.

    Attributes:
        versions: of all that is the same for everybody; a decision made under others is not recorded.
        able: a catalogue and a model are there, so a device could choose.
        catalogue_version, model_version: what is used; None where nothing verifies.
        policy_digest, arm: of the policy by which the service chooses, and the experiment's arm that it belongs to.
        device_digest: of the policy that devices are told.
    """

    versions: Versions
    able: bool
    catalogue_version: int | None
    model_version: int | None
    policy_digest: str
    arm: str | None
    device_digest: str


class Ask(msgspec.Struct, array_like=True, eq=False):
    """One decision as it is committed.

    Attributes:
        handle: of the person, where the caller may speak for them.
        named: whether the request was about somebody at all.
        malformed: something of the request could not be understood.
        app_id: of the caller; None where it may speak for people of any app.
        key_hash: of the API key that it came with, where that was only recalled and must still be valid.
        opposed: a signal of the request opposes the placement.
        opposed_without_gpc: so does one that is not Global Privacy Control, which some jurisdictions only record.
        contextual: what is shown without a permit.
        picked: what a private pick leads to with one; None where the device chooses.
        pick_refused: why the private pick cannot be used.
    """

    decision_id: str
    decided_at: int
    handle: str | None
    named: bool
    malformed: bool
    app_id: str | None
    key_hash: str | None
    opposed: bool
    opposed_without_gpc: bool
    contextual: tuple[Shown, ...]
    picked: tuple[Shown, ...] | None = None
    pick_refused: RefusalReason | None = None


def shown(placements: tuple[Placement, ...]) -> tuple[Shown, ...]:
    """Placements as they are recorded."""
    return tuple(
        [
            (p.slot_id, p.position, p.reason.value, p.creative_id, p.propensity if p.creative_id else None)
            for p in placements
        ]
    )


def rows(ask: Ask, under: Under, verdict: Permit | Refusal) -> list[Row]:
    """What is recorded under a verdict: the creative only where the service chose it."""
    positions, reason = ask.contextual, None
    if isinstance(verdict, Refusal):
        mode, reason = DecisionMode.CONTEXTUAL, verdict.reason.value
    elif ask.picked is not None:
        mode, positions = DecisionMode.PRIVATE_PICK, ask.picked
    else:
        mode = DecisionMode.ON_DEVICE
        positions = tuple([(slot, position, outcome, None, None) for slot, position, outcome, _, _ in positions])
    digest, arm = under.policy_digest, under.arm
    if mode is DecisionMode.ON_DEVICE:
        digest, arm = under.device_digest, None
    told = (under.catalogue_version, under.model_version, digest)
    drawn = (None if arm is None else under.versions.experiment, arm, ask.decided_at)
    return [
        (ask.decision_id, slot, position, mode.value, reason, outcome, creative, propensity, *told, *drawn)
        for slot, position, outcome, creative, propensity in positions
    ]
