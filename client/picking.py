"""Private pick with the service: fetch the public lists, answer, and let the answer out by the door.

For apps that cannot rank on the device. The app's backend, or the device itself, asks for placements with the answer;
the service chooses from what the answer says, and never learns the scores behind it. See ``client.pick``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from client.agent import Agent, Locale
from client.features.extract import featurise
from client.features.history import History
from client.features.usable import usable
from client.pick import Answered, answer, own_scores
from client.pick_cap import hear
from client.placing import Equipment, evidence_of, shown_so_far
from common.errors import ConsentRefused
from common.model.situation import Situation
from common.taxonomy import DecisionMode, RefusalReason
from common.wire.documents import open_document
from common.wire.messages import Creative, DocumentRequest, SlotRequest
from common.wire.pick import CandidateList, PickStop, PrivatePick
from policies import picks
from policies.door import Sealed
from policies.placement.assemble import inputs


class PickedSlot(BaseModel):
    """What the service chose for one position."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    slot_id: str
    position: int
    mode: DecisionMode
    reason: RefusalReason | None = None
    explanation: str = ""
    creative: dict[str, Any] | None = None
    tokens: dict[str, str] | None = None


class PickedDecision(BaseModel):
    """The service's answer to a private pick; ``contextual`` wherever the pick could not be used."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    decision_id: str
    mode: DecisionMode
    slots: tuple[PickedSlot, ...]


class HandOver:
    """Gives a message to the app on this device, whose own backend sends it on as the body of a decision request."""

    def send(self, parcels: Sequence[Sealed]) -> bytes:
        """The message as JSON, once the door has let it through."""
        ((_, body, _),) = parcels
        return body[1:]


class Picker:
    """One device's private picks."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    def fetch(self) -> dict[str, CandidateList]:
        """The lists of every slot group of this device's own document, verified; always all of them, after the cap.

        The privacy officers' cap is kept here: for an hour at most, what is drawn stays below it.

        Raises:
            PolicyError: the document on this device knows no private picks.
            TrustError, UnknownSigner: a list or the cap does not verify.
            EgressRefused, ServiceUnreachable, MalformedInput: a list could not be fetched.
        """
        rules = picks.rules_of(self._agent.node.policies.policies.privacy_budget)
        jws = self._text(DocumentRequest(document="pick_cap"))
        self._agent.trusting(lambda keys: hear(self._agent.node, jws, keys))
        return {group.name: self._fetched(group.name) for group in rules.slot_groups}

    def equipment(self) -> Equipment:
        """What an answer is computed with, fetched and verified; errors as ``Agent.fetch``."""
        return self._agent.fetch()

    def answer(self, listed: CandidateList, equipment: Equipment) -> Answered:
        """This device's answer: of its history alone, not of a page; errors as ``client.pick.answer``."""
        node, device = self._agent.node, self._agent.device
        return answer(node, device, listed, scores=lambda one: self._scores(one, equipment))

    def decide(
        self,
        listed: CandidateList,
        equipment: Equipment,
        slots: Sequence[SlotRequest],
        *,
        context: Mapping[str, str] | None = None,
        locale: Locale = "en",
    ) -> PickedDecision:
        """Ask the service for placements with this device's answer.

        Args:
            listed: the list of the slots' group.
            equipment: as ``Agent.fetch`` gives it.
            slots: what is to be filled; all of the list's slot group.
            context: facts about the page.
            locale: language of the answer.

        Raises:
            ConsentRefused, DigestMismatch, TrustError, BudgetExhausted, EgressRefused, StoreError: there is no answer
                to give; ask for contextual placements instead.
            ServiceUnreachable, MalformedInput: the service did not answer, or not as it should.
        """
        message, given = self._message(listed, equipment, slots, context=context, locale=locale)
        return self._agent.ask(message, PickedDecision, charge=given.charge)

    def hand_over(
        self,
        listed: CandidateList,
        equipment: Equipment,
        slots: Sequence[SlotRequest],
        *,
        context: Mapping[str, str] | None = None,
        locale: Locale = "en",
    ) -> bytes:
        """The same as a body that the app's backend posts to ``/v1/decisions``; arguments and errors as ``decide``."""
        message, given = self._message(listed, equipment, slots, context=context, locale=locale)
        return self._agent.release(message, HandOver(), charge=given.charge)

    def stop(self) -> None:
        """End private picks: here before anything is sent, at the service when this returns; kept answers are deleted.

        What was handed over to an app before is used no more either. Nothing is refunded. ``resume`` ends it here; the
        service uses none of this device's picks until the running epoch is over.

        Raises:
            StoreError: it is not in force.
            EgressRefused, ServiceUnreachable, MalformedInput: in force here, and the service may not have heard of it.
        """
        node, device, handle = self._agent.node, self._agent.device, self._agent.handle
        node.picks.stop(device)
        if handle is not None:  # else nobody knows this device
            self._agent.send(PickStop(handle=handle))

    def resume(self) -> None:
        """Answer again when asked: at first in the next epoch, where an answer of this one was given.

        Raises:
            StoreError: it could not be written.
        """
        self._agent.node.picks.resume(self._agent.device)

    def _message(
        self,
        listed: CandidateList,
        equipment: Equipment,
        slots: Sequence[SlotRequest],
        *,
        context: Mapping[str, str] | None,
        locale: Locale,
    ) -> tuple[PrivatePick, Answered]:
        handle = self._agent.handle
        if handle is None:
            raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
        given = self.answer(listed, equipment)
        message = PrivatePick(
            handle=handle, slots=tuple(slots), context=dict(context or {}), locale=locale, pick=given.pick
        )
        return message, given

    def _fetched(self, slot_group: str) -> CandidateList:
        jws = self._text(DocumentRequest(document="candidates", slot_group=slot_group))
        return self._agent.trusting(lambda keys: open_document(jws, CandidateList, keys))

    def _text(self, request: DocumentRequest) -> str:
        return self._agent.send(request).decode("ascii", "replace")

    def _scores(self, listed: CandidateList, equipment: Equipment) -> Sequence[float]:
        """Of the candidates, with this device's caps and switched-off topics applied."""
        from client.scoring import score

        node, device = self._agent.node, self._agent.device
        now, choices, outcomes = node.settings.now(), node.choices.read(device), node.outcomes.read(device)
        history = History.of(usable(node.vault.read(device), choices.refused_tags))

        def predict(creatives: Sequence[Creative]) -> Sequence[float]:
            situations = [Situation(now, c.item_id, c.attributes, {}, c.numbers) for c in creatives]
            return [float(y) for y in score(equipment.network, featurise(node.spec, history, situations), node.spec)]

        told = inputs(
            listed.candidates,
            now=now,
            shown=shown_so_far(outcomes, node.placements.read(device), now),
            evidence=evidence_of(outcomes),
            refused_tags=choices.refused_tags,
        )
        return own_scores(listed, equipment.policy, predict=predict, inputs=told)
