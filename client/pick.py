"""Private pick on the device: one charged draw per slot group and epoch, kept and repeated. Sends nothing itself.

Order: consent, the list's form, the cap in force, charge (durable), draw, keep (durable), and only then is there an
answer to give.

* Killed between charge and draw: the charge stands, nothing was drawn that anybody saw; the next try draws under it.
* Killed between draw and keep: likewise; what was drawn is gone with the process.
* Killed after keep: every later try gives the kept answer.
* An answer that is gone although its charge was settled (a store put back from a copy) is not drawn again: somebody
  may have seen the first one.

A second list for the same slot group and epoch gets no second draw, whoever signed it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from client import pick_cap
from client.budget import Reservation
from client.device import Node
from client.store.keys import DeviceId
from client.store.picks import KeptPick
from common.errors import BudgetExhausted, ContractError, DigestMismatch, EgressRefused
from common.privacy.randomness import NoiseSource, SecureNoise, SimulationNoise
from common.privacy.top_m import draw
from common.taxonomy import Purpose, RefusalReason
from common.wire.pick import CandidateList, Pick
from policies import picks
from policies.consent import Permit
from policies.placement.decide import filtered
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Inputs
from policies.placement.protocol import ScoreFunction
from policies.placement.scoring import scored

Scores = Callable[[CandidateList], Sequence[float]]
"""One score per candidate in the list's order, -inf for those that must not be shown; called for a fresh draw only."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A pick that may be given, and the charge it is given under: ε once, 0 whenever it is repeated."""

    pick: Pick
    charge: Reservation


@dataclass(frozen=True, slots=True)
class Before:
    """How a device stands before it answers; nothing was drawn or charged to know it.

    Attributes:
        kept: the answer that it keeps for the slot group and epoch.
        charged: whether a draw of the slot group and epoch was paid for.
        epsilon: what an answer would be charged now.
        left: ε that is left in the period, before that, under the cap in force.
        draws_left: fresh draws that fit into it.
        cap: ε that may be spent in the period: the document's, or the privacy officers' where that is lower.
    """

    kept: KeptPick | None
    charged: bool
    epsilon: float
    left: float
    draws_left: int
    cap: float


def before(node: Node, device: DeviceId, listed: CandidateList) -> Before:
    """What ``answer`` would find; changes nothing.

    Raises:
        ConsentRefused: this device's own gate says no.
        DigestMismatch: the list is not for now, or names another mechanism than the document on this device.
        EgressRefused: its owner has stopped private picks.
        TrustError: no cap of the privacy officers was heard that may be relied on now.
        StoreError: a store or the ledger of picks cannot be read.
    """
    _permitted(node, device)
    _check(node, listed)
    charged, cap = _is_charged(node, device, listed), pick_cap.allowed(node)
    left = max(0.0, cap - node.pick_ledger.epsilon(device))
    return Before(
        kept=node.picks.find(device, listed.slot_group, listed.epoch),
        charged=charged,
        epsilon=0.0 if charged else listed.epsilon,
        left=left,
        draws_left=math.floor(left / listed.epsilon + 1e-9),
        cap=cap,
    )


def answer(
    node: Node, device: DeviceId, listed: CandidateList, *, scores: Scores, noise: NoiseSource | None = None
) -> Answered:
    """This device's answer for the list's slot group and epoch: the kept one, or a fresh draw that is paid for first.

    Args:
        node: hosts the device.
        device: whose answer.
        listed: the public list, verified.
        scores: of its candidates, from this device's own behaviour.
        noise: where a draw comes from; the operating system by default, the settings' seed in simulations.

    Raises:
        ConsentRefused: this device's own gate says no.
        DigestMismatch: the list is not for now, or names another mechanism than the document on this device.
        TrustError: a fresh draw, and no cap of the privacy officers that may be relied on now: fetch the lists again.
        BudgetExhausted: the budget of picks, or the privacy officers' lower cap, does not allow a draw.
        EgressRefused: an answer for another list, or one that is lost, was given before; or its owner has stopped
            private picks.
        StoreError: something is not durable, so nothing may be given.

    **Privacy:** spends ε of the list once per slot group and epoch, for everything the scores depend on; unit user,
    replace-one, local. Repeating the kept answer spends nothing.
    """
    _permitted(node, device)
    _check(node, listed)
    charge = _charged(node, device, listed)
    where = (device, listed.slot_group, listed.epoch)
    given = charge.repeated and _given(node, charge)
    kept = node.picks.find(*where)
    if kept is None:
        if given:
            raise EgressRefused(RefusalReason.PICK_REDRAWN)
        index = draw(listed.drawn_by, scores(listed), noise or _noise(node, device, listed))
        kept = node.picks.keep(*where, KeptPick(listed.digest, index))
    if kept is None:  # stopped while it was drawn
        raise EgressRefused(RefusalReason.PICK_STOPPED)
    if kept.list_hash != listed.digest:
        raise EgressRefused(RefusalReason.PICK_REDRAWN)
    return Answered(_pick(listed, kept), replace(charge, epsilon=0.0) if charge.repeated else charge)


def own_scores(
    listed: CandidateList, policy: PlacementPolicy, *, predict: ScoreFunction, inputs: Inputs
) -> tuple[float, ...]:
    """Scores as the list says, -inf for what g's filters take out: a capped ad stays in the domain.

    Args:
        listed: the list.
        policy: the placement policy.
        predict: personal Y of creatives.
        inputs: g's inputs on this device.
    """
    open_to, _ = filtered(policy, listed.candidates, inputs, listed.digest)
    rule = policy.score.model_copy(update={"kind": listed.ordered_by})
    order = scored(open_to, predict(open_to), rule, inputs) if open_to else []
    found = {one.creative.creative_id: one.score for one in order}
    return tuple(found.get(creative.creative_id, -math.inf) for creative in listed.candidates)


def _permitted(node: Node, device: DeviceId) -> None:
    """Consent is live, and the owner has not stopped private picks."""
    permitted = node.gate.permits(device, Purpose.PLACE_PERSONALISED)
    if not isinstance(permitted, Permit):
        raise permitted.error()
    if node.picks.is_stopped(device):
        raise EgressRefused(RefusalReason.PICK_STOPPED)


def _check(node: Node, listed: CandidateList) -> None:
    """The list is what this device's own document says a list is, and for now by this device's own clock."""
    rules = picks.rules_of(node.policies.policies.privacy_budget)
    names = {group.name for group in rules.slot_groups}
    if listed.slot_group not in names or listed.drawn_by != picks.mechanism(rules, len(listed.candidates)):
        raise DigestMismatch("the list of candidates names another mechanism than this device's document")
    if listed.epoch != picks.epoch_of(rules, node.settings.now()):
        raise DigestMismatch("the list of candidates is for another time")


def _is_charged(node: Node, device: DeviceId, listed: CandidateList) -> bool:
    """Whether a draw for the slot group and epoch was paid for."""
    return device in node.pick_ledger.charged(picks.cause_of(listed.slot_group, listed.epoch))


def _charged(node: Node, device: DeviceId, listed: CandidateList) -> Reservation:
    """The charge of the slot group and epoch; a first one stays below the officers' cap, and what is paid is paid."""
    cause, planned = picks.cause_of(listed.slot_group, listed.epoch), [picks.planned(listed.drawn_by)]
    cap = math.inf if _is_charged(node, device, listed) else pick_cap.allowed(node)
    try:
        found = node.pick_ledger.reserve([device], planned, cause=cause, epsilon_max=cap)[device]
    except ContractError:  # charged for a list of another length: a second list for this slot group and epoch
        raise EgressRefused(RefusalReason.PICK_REDRAWN) from None
    if isinstance(found, BudgetExhausted):
        raise found
    return found


def _given(node: Node, charge: Reservation) -> bool:
    """Whether the answer under this charge has left the device."""
    entries = node.pick_ledger.entries(charge.device)
    return any(entry.charge == charge.charge and entry.state == "settled" for entry in entries)


def _noise(node: Node, device: DeviceId, listed: CandidateList) -> NoiseSource:
    seed, what = node.settings.noise_seed, (node.directory.name, device, listed.slot_group, listed.epoch)
    return SecureNoise() if seed is None else SimulationNoise(seed, "pick", *what)


def _pick(listed: CandidateList, kept: KeptPick) -> Pick:
    return Pick(
        slot_group=listed.slot_group,
        epoch=listed.epoch,
        index=kept.index,
        epsilon=listed.epsilon,
        list_hash=kept.list_hash,
    )
