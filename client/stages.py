"""A node's part in one secure aggregation. Owns the order of steps in each of its five stages, device by device.

Every stage comes with the same signed invitation and asks every device's consent again: whoever has withdrawn is
dropped, and its neighbours recover the sum without it. A stage's new state is durable before its message is handed to
the door. In MASK all devices are charged, in one durable transaction, before any behaviour is read; a session whose
charge stands already is never answered again. Roster and confirmations are verified once for all devices of the node.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from client.budget import Reservation
from client.device import Node
from client.egress import Door
from client.eligibility import fresh_charges, over_budget, permitted
from client.guard import sealed
from client.releases.plan import Plan
from client.releases.vectors import Vectors, Work, prepare
from client.standing import RoundGate
from client.store.keys import DeviceId
from client.training.contribution import masked_share
from common.errors import EgressRefused, MalformedInput, ReticentError, RoundError, StoreError, TrustError
from common.privacy.clipping import clip_update
from common.privacy.distributed import NoisedShare, noise_share
from common.secagg.device import Advertised, Confirmed, Masked, Shared, begin, confirm, reveal, share
from common.secagg.roster import VerifiedRoster, verify_confirmations, verify_roster
from common.secagg.terms import SessionTerms
from common.taxonomy import RefusalReason, Stage
from common.wire.base import Message
from common.wire.codec import decode
from common.wire.secagg import SecAggConfirmations, SecAggDelivery, SecAggRoster, SecAggSurvivors
from policies.door import Letter, Transport

Letters = dict[DeviceId, Letter[Reservation]]
Rosters = MutableMapping[tuple[bytes, bytes, str], VerifiedRoster]
"""Rosters that this process has verified already: on a real node, those of one message."""
R = TypeVar("R")
S = TypeVar("S")
_STAGES: Final = tuple(Stage)
_ROSTERS_KEPT: Final = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Session(Generic[R]):
    """One session as one node sees it, for the length of one message.

    Attributes:
        jws: the signed invitation that was accepted.
        plan: what it asks for, by this device's own policy.
        gate: asked at every stage; with the service's word where a round begins and where an update leaves.
    """

    node: Node
    jws: str
    plan: Plan
    gate: RoundGate
    door: Door[DeviceId, Reservation]
    transport: Transport[R]
    rosters: Rosters

    def advertise(self, bodies: Sequence[bytes]) -> R:
        """Stage advertise: fresh keys of every permitted device that holds a certificate.

        Raises:
            Replayed: this session was seen before.
            EgressRefused: no device may or can take part.
        """
        if bodies:
            raise MalformedInput("nothing but the invitation is expected at this stage")
        self.node.sessions.begin(self._id, self.jws, self.plan.invitation.expires_at)
        terms, states, letters = self._terms, dict[DeviceId, bytes](), Letters()
        faults: dict[DeviceId, Exception] = {}
        for device in self._able(self._permitted(Stage.ADVERTISE, self.node.vault.devices())):
            try:
                identity = self.node.credentials.identity(device)
                if identity is None:
                    raise StoreError("this device has no certificate for secure aggregation")
                state, advert = begin(terms, *identity, os.urandom)
                states[device], letters[device] = state.dump(), Letter(advert)
            except ReticentError as error:
                faults[device] = error
        self._leave_out(Stage.ADVERTISE, faults)
        return self._send(letters, self.node.sessions.put(self._id, states))

    def share(self, bodies: Sequence[bytes]) -> R:
        """Stage share: every device's secrets, split among its neighbours and encrypted for each.

        Raises:
            RoundError, TrustError, MalformedInput: the roster is not one that a device may join.
            EgressRefused: no device may or can take part.
        """
        body = _only(bodies)
        roster = self._verified(body)
        self.node.sessions.fix_roster(self._id, body)

        def step(state: bytes) -> tuple[bytes, Message]:
            after, message = share(Advertised.load(state), roster, os.urandom)
            return after.dump(), message

        self._forget_undrawn(set(roster.identities))
        return self._each(Stage.SHARE, step)

    def mask(self, bodies: Sequence[bytes], work: Work) -> R:
        """Stage mask: charge, compute, clip, noise, mask, in this order.

        A device whose vector cannot be computed is left out of the sum and keeps its charge: it sends nothing, so the
        others' noise, which is sized for the fewest survivors, does not shrink.

        Raises:
            EgressRefused: no device may or can release anything.
        """
        deliveries = [decode(body, SecAggDelivery) for body in bodies]
        roster = self._roster()
        states = self._due(Stage.MASK, Shared.load)
        by_index = {delivery.index: delivery for delivery in deliveries}
        asked = {device: by_index[state.index] for device, state in states.items() if state.index in by_index}
        charges = self._charge(sorted(asked))
        after: dict[DeviceId, bytes] = {}
        letters = Letters()
        faults: dict[DeviceId, Exception] = {}
        found = prepare(work, list(charges)) if charges else iter(())
        with sealed():
            for device, vectors in zip(charges, found, strict=True):
                if isinstance(vectors, Exception):
                    faults[device] = vectors
                    continue
                try:
                    noised = self._noised(vectors, roster, work)
                    state, masked = masked_share(states[device], roster, asked[device], noised)
                except ReticentError as error:
                    faults[device] = error
                    continue
                after[device] = state.dump()
                letters[device] = Letter(self.plan.header(state.index), charges[device], masked)
        self._leave_out(Stage.MASK, faults)
        self.gate.renew()  # the door asks again, the service too: much may have happened while this was computed
        return self._send(letters, self.node.sessions.advance(self._id, Stage.MASK, after))

    def confirm(self, bodies: Sequence[bytes]) -> R:
        """Stage confirm: sign who survived, once.

        Raises:
            RoundError, MalformedInput: the survivors are not a set that a device may confirm.
            EgressRefused: no device may take part any more.
        """
        survivors, roster = decode(_only(bodies), SecAggSurvivors), self._roster()

        def step(state: bytes) -> tuple[bytes, Message]:
            after, message = confirm(Masked.load(state), roster, survivors)
            return after.dump(), message

        return self._each(Stage.CONFIRM, step)

    def reveal(self, bodies: Sequence[bytes]) -> R:
        """Stage reveal: the shares that take the masks off the sum; the session's secrets are gone afterwards.

        Raises:
            RoundError, MalformedInput: no quorum confirmed what these devices did.
            EgressRefused: no device may take part any more.
        """
        confirmations, roster = decode(_only(bodies), SecAggConfirmations), self._roster()
        states = self._due(Stage.REVEAL, Confirmed.load)
        proofs = {
            digest: verify_confirmations(self._terms, roster, digest, confirmations)
            for digest in {state.digest for state in states.values()}
        }

        def step(state: bytes) -> tuple[bytes, Message]:
            confirmed = Confirmed.load(state)
            _, message = reveal(confirmed, roster, proofs[confirmed.digest])
            return b"", message

        return self._each(Stage.REVEAL, step)

    # ── what the stages share ────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _id(self) -> str:
        return self.plan.invitation.session

    @property
    def _terms(self) -> SessionTerms:
        return self.plan.terms(self.node.authorities, self.node.settings.now())

    def _verified(self, body: bytes) -> VerifiedRoster:
        """The roster in a message, verified once per process under the same terms and authorities."""
        terms = self._terms
        trusted = " ".join(authority.kid for authority in terms.authorities)
        key = (terms.digest, hashlib.sha256(body).digest(), trusted)
        if key not in self.rosters:
            while len(self.rosters) >= _ROSTERS_KEPT:
                del self.rosters[next(iter(self.rosters))]
            self.rosters[key] = verify_roster(terms, decode(body, SecAggRoster))
        return self.rosters[key]

    def _roster(self) -> VerifiedRoster:
        return self._verified(self.node.sessions.roster(self._id))

    def _permitted(self, stage: Stage, devices: Collection[DeviceId]) -> list[DeviceId]:
        """Devices that may take part in this stage now; the others' owners are told why not."""
        kind = self.plan.kind(stage)
        return permitted(self.gate, self.door, devices, kind=kind, needs=self.plan.needs)

    def _able(self, devices: Sequence[DeviceId]) -> list[DeviceId]:
        """Devices that could pay for what they would promise, and have not answered the same before."""
        over = over_budget(self.node.ledger, self.plan.planned, devices)
        before = self.node.ledger.charged(self.plan.cause).intersection(devices)
        reasons = dict.fromkeys(over, RefusalReason.BUDGET_EXHAUSTED) | dict.fromkeys(before, RefusalReason.TOO_OFTEN)
        self._drop(Stage.ADVERTISE, reasons)
        return [device for device in devices if device not in reasons]

    def _due(self, stage: Stage, load: Callable[[bytes], S]) -> dict[DeviceId, S]:
        """States of the devices whose turn this stage is; those that may not go on are dropped from the session."""
        found = self.node.sessions.load(self._id, _STAGES[_STAGES.index(stage) - 1])
        permitted = self._permitted(stage, found)
        self.node.sessions.drop(self._id, found.keys() - set(permitted))
        return {device: load(found[device]) for device in permitted}

    def _forget_undrawn(self, drawn: Collection[bytes]) -> None:
        """The server need not take every device that offers itself: the others are done with this session."""
        found = self.node.sessions.load(self._id, Stage.ADVERTISE)
        idle = [device for device, state in found.items() if Advertised.load(state).identity not in drawn]
        self.node.sessions.drop(self._id, idle)

    def _each(self, stage: Stage, step: Callable[[bytes], tuple[bytes, Message]]) -> R:
        """Take one step with every device whose turn it is."""
        states, letters = dict[DeviceId, bytes](), Letters()
        faults: dict[DeviceId, Exception] = {}
        for device, state in self._due(stage, bytes).items():
            try:
                states[device], message = step(state)
                letters[device] = Letter(message)
            except ReticentError as error:
                faults[device] = error
        self._leave_out(stage, faults)
        if not letters:  # what all of them refuse is the server's doing, and may be named to it
            for fault in faults.values():
                if isinstance(fault, RoundError):
                    raise fault
        return self._send(letters, self.node.sessions.advance(self._id, stage, states))

    def _charge(self, devices: Sequence[DeviceId]) -> dict[DeviceId, Reservation]:
        """Spend first: one durable transaction for all devices. A charge that stands already is never used again."""
        if not devices:
            return {}
        answers = self.node.ledger.reserve(devices, self.plan.planned, cause=self.plan.cause)
        charges, refused = fresh_charges(answers)
        self._drop(Stage.MASK, refused)
        return charges

    def _noised(self, vectors: Vectors, roster: VerifiedRoster, work: Work) -> NoisedShare:
        """Clip every segment of a device's vector to its bound and add the device's share of the noise."""
        segments = [
            (clip_update(vector, segment.parameters.clipping_norm), segment.parameters)
            for vector, segment in zip(vectors, self.plan.segments, strict=True)
        ]
        return noise_share(segments, self.plan.policy.cohort, roster.size, work.noise)

    def _leave_out(self, stage: Stage, faults: Mapping[DeviceId, Exception]) -> None:
        """Go on without some devices: their owners are told, in one word, and nobody else."""
        for error in faults.values():
            _log.warning("a device was left out of a round: %s", type(error).__name__)
        unverified, other = RefusalReason.UNVERIFIED, RefusalReason.UNAVAILABLE
        reasons = {one: unverified if isinstance(error, TrustError) else other for one, error in faults.items()}
        self._drop(stage, reasons)

    def _drop(self, stage: Stage, reasons: Mapping[DeviceId, RefusalReason]) -> None:
        self.door.keep_back(self.plan.kind(stage), reasons, self.plan.purpose)
        self.node.sessions.drop(self._id, reasons)

    def _send(self, letters: Mapping[DeviceId, Letter[Reservation]], kept: Collection[DeviceId]) -> R:
        """Hand over the messages of the devices whose new state is durable."""
        going = {device: letter for device, letter in letters.items() if device in kept}
        if not going:
            raise EgressRefused(RefusalReason.UNAVAILABLE)
        return self.door.release_letters(going, self.plan.purpose, self.transport)


def _only(bodies: Sequence[bytes]) -> bytes:
    """The one body that a message of this stage holds.

    Raises:
        MalformedInput: none, or several.
    """
    if len(bodies) != 1:
        raise MalformedInput("exactly one message is expected at this stage")
    return bodies[0]
