"""g on the device. Owns the two-key rule: a placement needs the service's permit and the device's own gate.

Scores never leave this module's caller; nothing here sends anything. What the service sees is the same whatever the
device has learnt. See ``policies.placement`` for g itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from common.crypto.signing import PublicKey
from common.errors import ConsentRefused, DigestMismatch
from common.taxonomy import Purpose, RefusalReason
from common.wire.documents import open_document
from common.wire.messages import Catalogue, PlacementPermit
from policies.consent import CLOCK_TOLERANCE_S, Permit, Refusal
from policies.placement.assemble import Offers, inputs
from policies.placement.inputs import Evidence, Inputs, Shown
from policies.placement.protocol import Decision, Placement, ScoreFunction
from policies.placement.record import DecisionRecord, recorded
from policies.placement.surfaces import rules_of
from policies.schema import PlacementPolicy


@dataclass(frozen=True, slots=True)
class Installed:
    """What this device holds, each verified when it arrived.

    Attributes:
        handle: its own subject handle.
        keys: pinned keys of the service.
        catalogue: the signed catalogue.
        policy: the placement policy.
        policy_digest: SHA-256 of the policy's document.
        model_version: version of the model that computes the scores.
        offers: the catalogue's campaigns and bids, if they were gathered before.
    """

    handle: str
    keys: Mapping[str, PublicKey]
    catalogue: Catalogue
    policy: PlacementPolicy
    policy_digest: str
    model_version: int
    offers: Offers | None = None


@dataclass(frozen=True, slots=True)
class Own:
    """What g is told that only this device knows. None of it is ever sent.

    Attributes:
        shown: earlier views, for frequency caps.
        refused_tags: topics that the owner has switched off.
        context: facts about the page, as the app told the service.
        evidence: what this device itself saw of creatives.
    """

    shown: tuple[Shown, ...] = ()
    refused_tags: tuple[str, ...] = ()
    context: Mapping[str, str] = field(default_factory=dict)
    evidence: Mapping[str, Evidence] = field(default_factory=dict)


NOTHING_OWN = Own()


@dataclass(frozen=True, slots=True)
class Chosen:
    """A decision made here, with the permit it was made under and the record that replays it."""

    permit: PlacementPermit
    decision: Decision
    record: DecisionRecord


def place(
    permit_jws: str,
    here: Installed,
    *,
    score: ScoreFunction,
    gate_permit: Permit | Refusal,
    now: float,
    own: Own = NOTHING_OWN,
) -> tuple[Placement, ...]:
    """Fill the permit's slots by A = g(Y), Y computed here.

    Args:
        permit_jws: the service's placement permit.
        here: what the device holds.
        score: gives eligible creatives their personal scores; called only after every check.
        gate_permit: the answer of the device's own gate for ``place.personalised``.
        now: seconds since the epoch.
        own: what only this device knows.

    Raises:
        ConsentRefused: the gate or the permit does not allow it; carries the reason.
        TrustError, UnknownSigner: the permit does not verify.
        DigestMismatch: the permit is for another catalogue, policy or model: fetch them and ask again.

    Privacy:
        Protects everything: no message is made here. Spends nothing.
    """
    permit = admitted(permit_jws, here, gate_permit=gate_permit, now=now)
    return choose(permit, here, score=score, now=now, own=own).decision.placements


def admitted(permit_jws: str, here: Installed, *, gate_permit: Permit | Refusal, now: float) -> PlacementPermit:
    """The permit, once both keys are seen to turn. Arguments and errors as for ``place``."""
    _check_gate(gate_permit, now)  # (1) our own key first: without it nothing is even looked at
    permit = open_document(permit_jws, PlacementPermit, here.keys)  # (2)
    if permit.handle != here.handle:  # (3)
        raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
    if not permit.issued_at - CLOCK_TOLERANCE_S <= now < permit.expires_at:  # (4)
        raise ConsentRefused(RefusalReason.EXPIRED)
    held = (here.catalogue.version, here.policy_digest, here.model_version)
    if held != (permit.catalogue_version, permit.policy_digest, permit.model_version):  # (5)
        raise DigestMismatch("the permit is for another catalogue, policy or model than this device holds")
    return permit


def choose(permit: PlacementPermit, here: Installed, *, score: ScoreFunction, now: float, own: Own) -> Chosen:
    """Decide under an admitted permit, and keep what replays it."""
    decision, record = recorded(
        here.policy,
        here.catalogue.creatives,
        score,
        permit.slots,
        salt=permit.decision_id,
        inputs=inputs_of(permit, here, own, now),
        policy_digest=here.policy_digest,
        catalogue_version=here.catalogue.version,
    )
    return Chosen(permit, decision, record)


def inputs_of(permit: PlacementPermit, here: Installed, own: Own, now: float) -> Inputs:
    """G's inputs: what the permit says is the same for everybody, the rest is this device's own."""
    return inputs(
        here.catalogue.creatives if here.offers is None else here.offers,
        now=now,
        shown=own.shown,
        pacing=permit.pacing,
        floors=rules_of(here.catalogue.surfaces, permit.slots, here.policy).floors,
        least_bids=permit.least_bids,
        blocked_categories=permit.blocked_categories,
        blocked_advertisers=permit.blocked_advertisers,
        context=own.context,
        evidence=own.evidence,
        stopped=permit.stopped,
        personal=False,  # without a crowd it is scored by the page alone (client.placing), and its reach is counted so
        refused_tags=own.refused_tags,
    )


def _check_gate(answer: object, now: float) -> None:
    """Anything but a live permit of our own gate for this very purpose is a refusal."""
    if isinstance(answer, Refusal):
        raise answer.error()
    if not isinstance(answer, Permit) or answer.purpose is not Purpose.PLACE_PERSONALISED:
        raise ConsentRefused(RefusalReason.NO_CONSENT)
    if not now < answer.valid_until:
        raise ConsentRefused(RefusalReason.EXPIRED)
