"""Placing ads on the device. Owns the way from a permit to what is shown and what is kept of it; sends nothing.

Y comes from this device's own history, A = g(Y) from the policy in force. The decision, its reasons and the inputs that
replay it are sealed on this device before the app gets the answer. The same permit again gives the same answer.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from client.device import Node
from client.experiments import Arm, drawn
from client.features.extract import featurise
from client.features.history import History
from client.features.usable import usable
from client.placement import Chosen, Installed, Own, admitted, choose
from client.store.decisions import Replayable
from client.store.keys import DeviceId
from client.store.placed import KeptDecision, Outcome, PlacedAd, Position
from common.errors import ConsentRefused, DigestMismatch
from common.model.examples import Examples
from common.model.situation import Situation
from common.taxonomy import FollowUp, Purpose, RefusalReason
from common.wire.documents import open_document
from common.wire.experiments import ExperimentDocument
from common.wire.messages import Catalogue, Creative
from policies.loader import read_placement
from policies.placement.assemble import Offers
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Evidence, Shown
from policies.placement.protocol import Decision, Placement, ScoreFunction
from policies.placement.record import DecisionRecord, replay

if TYPE_CHECKING:
    from torch import nn

RESERVED_S: Final = 300.0
"""So long a chosen ad counts towards caps as if it had been seen: its view may be on its way."""
RECORD_BYTES_MAX: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Equipment:
    """Verified documents in memory: what a node needs to place by itself. The same for all its devices.

    Attributes:
        catalogue_jws, policy_text: as they were signed, to be kept with decisions.
        offers: the catalogue's campaigns and bids.
        experiment: the one that is running, if any; a permit says whether it applies.
    """

    catalogue: Catalogue
    network: nn.Module
    model_version: int
    policy: PlacementPolicy
    policy_digest: str
    policy_text: str
    catalogue_jws: str
    offers: Offers
    experiment: ExperimentDocument | None = None


@dataclass(frozen=True, slots=True)
class Visit:
    """One moment on one page.

    Attributes:
        context: facts about the page, the same that the app told the service.
        now: seconds since the epoch.
        moment: the moment to score at; only behaviour strictly before it counts.
    """

    context: Mapping[str, str]
    now: float
    moment: float


def fill(node: Node, device: DeviceId, permit_jws: str, equipment: Equipment, visit: Visit) -> tuple[Placement, ...]:
    """Fill a permit's slots, and keep the decision.

    Raises:
        ConsentRefused: our gate or the permit says no.
        TrustError, UnknownSigner, DigestMismatch: the permit does not verify, or is for something else.
    """
    here = _installed(node, device, equipment)
    gate = node.gate.permits(device, Purpose.PLACE_PERSONALISED)
    permit = admitted(permit_jws, here, gate_permit=gate, now=visit.now)
    before = node.decisions.find(device, permit.decision_id)
    if before is not None:  # a retry
        return opened_record(before).placements
    arm = drawn(equipment.experiment, permit.experiment, node.device_keys.load(device))
    if arm is not None:
        here = replace(here, policy=arm.policy, policy_digest=arm.digest)
    choices = node.choices.read(device)
    outcomes = node.outcomes.read(device)
    own = Own(
        shown=shown_so_far(outcomes, node.placements.read(device), visit.now),
        refused_tags=choices.refused_tags,
        context=dict(visit.context),
        evidence=evidence_of(outcomes),
    )
    history = History.of(usable(node.vault.read(device), choices.refused_tags))
    chosen = choose(permit, here, score=_personal(node, equipment, history, visit), now=visit.now, own=own)
    _keep(node, device, chosen, equipment, history=history, visit=visit, arm=arm)
    return chosen.decision.placements


def shown_so_far(outcomes: Sequence[Outcome], placed: Sequence[PlacedAd], now: float) -> tuple[Shown, ...]:
    """What counts towards frequency caps: every view, and what was chosen a moment ago and may be on a page by now."""
    views = [one for one in outcomes if one.kind is FollowUp.IMPRESSION]
    seen = {one.place for one in views}
    waiting = [ad for ad in placed if now - ad.time < RESERVED_S and ad.place not in seen]
    return tuple(map(_view, views)) + tuple(map(_waiting, waiting))


def evidence_of(outcomes: Sequence[Outcome]) -> dict[str, Evidence]:
    """What this device saw of each creative: its views, and on how many of them something followed."""
    views: dict[str, set[Position]] = {}
    followed: set[Position] = set()
    for one in outcomes:
        if one.kind is FollowUp.IMPRESSION:
            views.setdefault(one.creative_id, set()).add(one.place)
        elif one.kind is not FollowUp.CLOSE:
            followed.add(one.place)
    return {name: Evidence(len(places), len(places & followed)) for name, places in views.items()}


def again(node: Node, device: DeviceId, decision_id: str) -> Decision:
    """Replay a kept decision from what was kept with it, each part verified as if it had just arrived.

    Raises:
        DigestMismatch: there is no such decision (any more), or it replays to another answer.
        TrustError, UnknownSigner, PolicyError: the catalogue or policy kept with it is not what was signed.
    """
    kept = node.decisions.find(device, decision_id)
    if kept is None:
        raise DigestMismatch("this device keeps no decision of that id")
    jws, text = node.decisions.document(kept.catalogue) or "", node.decisions.document(kept.policy) or ""
    if digest_of(jws) != kept.catalogue:
        raise DigestMismatch("the catalogue that was kept is not the one of the decision")
    catalogue = open_document(jws, Catalogue, node.server_keys)
    policy, digest = read_placement(text.encode())
    if digest != kept.policy:
        raise DigestMismatch("the policy document that was kept is not the one of the decision")
    return replay(
        opened_record(kept),
        policy,
        catalogue.creatives,
        policy_digest=digest,
        catalogue_version=catalogue.version,
    )


def digest_of(text: str) -> str:
    """SHA-256 of a document's text, hex."""
    return hashlib.sha256(text.encode()).hexdigest()


def opened_record(kept: KeptDecision) -> DecisionRecord:
    """The record inside a kept decision."""
    return DecisionRecord.model_validate_json(zlib.decompressobj().decompress(kept.record, RECORD_BYTES_MAX))


def _installed(node: Node, device: DeviceId, equipment: Equipment) -> Installed:
    handle = node.gate.handle(device)
    if handle is None:
        raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
    return Installed(
        handle=handle,
        keys=node.server_keys,
        catalogue=equipment.catalogue,
        policy=equipment.policy,
        policy_digest=equipment.policy_digest,
        model_version=equipment.model_version,
        offers=equipment.offers,
    )


def _situations(creatives: Sequence[Creative], visit: Visit) -> list[Situation]:
    return [Situation(visit.moment, c.item_id, c.attributes, visit.context, c.numbers) for c in creatives]


def _examples(node: Node, creatives: Sequence[Creative], history: History, visit: Visit) -> Examples:
    """What Y is computed from: nothing personal for a creative that is meant for some people and has no crowd yet."""
    examples = featurise(node.spec, history, _situations(creatives, visit))
    alone = np.array([not creative.personal for creative in creatives], dtype=np.bool_)[:, np.newaxis]
    if not alone.any():
        return examples
    ids, numbers = node.spec.contextual(examples.categorical, examples.numeric)
    return replace(
        examples,
        categorical=np.where(alone, ids, examples.categorical),
        numeric=np.where(alone, numbers, examples.numeric),
    )


def _personal(node: Node, equipment: Equipment, history: History, visit: Visit) -> ScoreFunction:
    from client.scoring import score

    def scores(creatives: Sequence[Creative]) -> Sequence[float]:
        examples = _examples(node, creatives, history, visit)
        return [float(y) for y in score(equipment.network, examples, node.spec)]

    return scores


def _keep(
    node: Node,
    device: DeviceId,
    chosen: Chosen,
    equipment: Equipment,
    *,
    history: History,
    visit: Visit,
    arm: Arm | None,
) -> None:
    """Seal the decision and its reasons on this device, in one transaction."""
    from client.why import placed_ads

    known = {creative.creative_id: creative for creative in equipment.catalogue.creatives}
    filled = [(one, known[one.creative_id]) for one in chosen.decision.placements if one.creative_id in known]
    examples = _examples(node, [creative for _, creative in filled], history, visit)
    ads = placed_ads(equipment.network, examples, node.spec, filled, chosen=chosen, visit=visit)
    documents = {digest_of(equipment.catalogue_jws): equipment.catalogue_jws}
    kept = KeptDecision(
        record=zlib.compress(chosen.record.model_dump_json().encode()),
        catalogue=next(iter(documents)),
        policy=equipment.policy_digest if arm is None else arm.digest,
        model_version=equipment.model_version,
        experiment="" if arm is None else arm.experiment,
        arm="" if arm is None else arm.name,
    )
    documents[kept.policy] = equipment.policy_text if arm is None else arm.text
    node.placements.write(device, ads, Replayable(chosen.permit.decision_id, kept, documents))


def _view(outcome: Outcome) -> Shown:
    return Shown(outcome.creative_id, outcome.campaign, outcome.advertiser, outcome.category, outcome.time)


def _waiting(placed: PlacedAd) -> Shown:
    campaign = placed.campaign or placed.advertiser
    return Shown(placed.creative_id, campaign, placed.advertiser, placed.category, placed.time)
