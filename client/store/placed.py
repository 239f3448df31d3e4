"""What is kept of placements on this device. Owns the forms of the records; their stores seal them."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from common.taxonomy import FollowUp


class Position(NamedTuple):
    """One position that a decision filled."""

    decision_id: str
    slot_id: str
    position: int = 0

    @property
    def text(self) -> str:
        """The same as one word: the exposure's id in the vault."""
        return f"{self.decision_id}/{self.slot_id}/{self.position}"


class SignalEffect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How much one group of signals moved a score, in log-odds: without it the score would have been lower by so much.

    Attributes:
        family: kind of behaviour (``bought``, ``viewed``, …).
        attribute: what it had in common with the ad (``item``, ``category``, …; ``activity`` for all of it).
        effect: difference of log-odds; above 0 it spoke for the ad.
    """

    family: str
    attribute: str
    effect: float


class FamilyEffect(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One family's share of a score's log-odds. All shares and the base add up to the score.

    Attributes:
        family: kind of behaviour; ``page`` for what needs no consent, ``presence`` for having a history at all.
        effect: log-odds.
    """

    family: str
    effect: float


class PlacedAd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ad that this device chose, with its main parameters (DSA Art. 26(1)).

    Fields with a default came later: what was kept before them reads on.

    Attributes:
        time: seconds since the epoch.
        score: predicted probability of a response; ``contextual`` is what it would be from the page alone.
        propensity: probability with which the placement policy would show it again.
        signals: groups of own behaviour, the strongest first.
        decision_id, position: with ``slot_id``, which position of which decision.
        campaign, item, attributes, numbers, tags: of the creative.
        context: facts about the page that it was scored with.
        mode: how it was chosen; see ``common.taxonomy.DecisionMode``.
        epsilon: privacy loss of choosing it; 0 where nothing was sent.
        base: the score's log-odds when everything is absent; ``families`` are the shares on top of it.
        method: how ``families`` were computed: ``additive`` (exact), ``shapley`` (exact averages over all orders).
    """

    time: float
    slot_id: str
    creative_id: str
    title: dict[str, str]
    category: str
    advertiser: str
    payer: str
    model_version: int
    policy_digest: str
    score: float
    contextual: float
    propensity: float
    signals: tuple[SignalEffect, ...]
    decision_id: str = ""
    position: int = 0
    campaign: str = ""
    item: str = ""
    attributes: dict[str, str] = {}
    numbers: dict[str, float] = {}
    tags: tuple[str, ...] = ()
    context: dict[str, str] = {}
    mode: str = "on_device"
    epsilon: float = 0.0
    base: float = 0.0
    families: tuple[FamilyEffect, ...] = ()
    method: str = ""

    @property
    def place(self) -> Position:
        """Which position of which decision."""
        return Position(self.decision_id, self.slot_id, self.position)


class Outcome(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What followed one placement on this device: seen, followed, closed, or a conversion attributed to it.

    Attributes:
        time: seconds since the epoch, by the device's clock.
        mode: how the ad was chosen; a service counts the modes that it chose in itself.
        value_micros: of a conversion, in millionths of the account's currency, where the app says it.
        after: what a conversion was attributed to: a click, or a view.
    """

    time: float
    kind: FollowUp
    decision_id: str
    slot_id: str
    position: int
    creative_id: str
    item: str
    campaign: str
    advertiser: str
    category: str
    mode: str = "on_device"
    value_micros: int = 0
    after: FollowUp | None = None

    @property
    def place(self) -> Position:
        """What it followed."""
        return Position(self.decision_id, self.slot_id, self.position)


class KeptDecision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decision of g, replayable.

    Attributes:
        record: a ``policies.placement.record.DecisionRecord`` as compressed JSON.
        catalogue: SHA-256 of the signed catalogue's text, under which ``Decisions`` keeps it.
        policy: digest of the policy document's text, likewise.
        model_version: of the model that gave the scores.
        experiment, arm: in which experiment's arm it was made, if in any.
    """

    record: bytes
    catalogue: str
    policy: str
    model_version: int
    experiment: str = ""
    arm: str = ""


class Choices(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the owner has set about ads on this device.

    Attributes:
        refused_tags: topics that are switched off.
        group: which group the owner declared to belong to, for reports on fairness; empty: none declared.
    """

    refused_tags: tuple[str, ...] = ()
    group: str = ""


NO_CHOICES: Final = Choices()
