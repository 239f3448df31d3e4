"""``reticent device pick``: a private pick, looked at before it is paid for. Owns words, the question, exit codes.

Fetching lists, catalogue, policy and model tells nobody anything: everybody fetches the same. Charging, drawing,
keeping and sending are ``client.picking``'s; nothing of that happens before the owner has agreed.
"""

from __future__ import annotations

from typing import Annotated

import typer

from client import console
from client.device import Node
from client.options import Device, Home, Keys, Service, choose, opened
from client.pick import Before, before
from client.picking import PickedDecision, Picker
from client.rights_cli import agent_of
from client.store.keys import DeviceId
from common.errors import InputError, MalformedInput
from common.wire.messages import SlotRequest
from common.wire.pick import CandidateList
from policies import picks

Slots = Annotated[
    list[str] | None, typer.Argument(help="What is to be filled; all of one slot group.", show_default=False)
]
Facts = Annotated[list[str] | None, typer.Option("--context", help="NAME=VALUE of the page, may be repeated.")]


def pick(
    slots: Slots = None,
    *,
    context: Facts = None,
    look: Annotated[bool, typer.Option("--look", help="Show, and do nothing else.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before a draw is charged.")] = False,
    hand_over: Annotated[
        bool, typer.Option("--hand-over", help="Print the body that the app's backend posts, instead of sending it.")
    ] = False,
    stop: Annotated[bool, typer.Option("--stop", help="No more picks: delete kept ones, tell the service.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Allow picks again.")] = False,
    service: Service = None,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Ask for ads with a private pick: one place of a public list, drawn here by randomised response.

    SLOTS name what is to be filled, as the app names it; all of one slot group.

    First the list is shown, what would be charged, what is remembered for this epoch and how many draws are left. Then
    you are asked. Only then a draw is charged, made, kept and sent; the same epoch gives the same answer for nothing.

    --stop ends picks alone, from the next decision on: nothing is drawn, kept answers are deleted, the service uses
    none that it was given. What they have cost stays spent. Ads chosen on this device go on.
    """
    with opened(home, keys, service=service, prove=True) as node:
        chosen = choose(node, device)
        if stop or resume:
            if slots or (stop and resume):
                raise InputError("--stop and --resume stand alone")
            _switch(node, chosen, stop=stop)
            return
        picker = Picker(agent_of(node, chosen))
        listed = _list_for(node, picker, slots or [])
        standing = before(node, chosen, listed)
        _say(node, listed, standing)
        if look:
            return
        if not yes and not typer.confirm(_question(standing)):
            console.say("nothing was charged, nothing was drawn, nothing was sent")
            raise typer.Exit(1)
        equipment = picker.equipment()
        wanted, facts = tuple(SlotRequest(slot_id=slot) for slot in slots or []), _facts(context or [])
        if hand_over:
            console.plain(picker.hand_over(listed, equipment, wanted, context=facts).decode())
            return
        _say_decided(listed, picker.decide(listed, equipment, wanted, context=facts))


def _switch(node: Node, device: DeviceId, *, stop: bool) -> None:
    """Stop or resume; a stop holds here whether the service answers or not, and may be said again until it does."""
    if not stop:
        node.picks.resume(device)
        console.say("private picks are allowed again; what was spent stays spent")
        return
    node.picks.stop(device)
    console.say("stopped on this device: nothing is drawn, kept answers are deleted; what they cost stays spent")
    Picker(agent_of(node, device)).stop()
    console.say("the service uses no pick of this device any more")


def _list_for(node: Node, picker: Picker, slots: list[str]) -> CandidateList:
    """The list of the slots' group.

    Raises:
        InputError: the document's picks are for other slots, or these are of several groups.
        PolicyError: the document knows no private picks.
    """
    rules = picks.rules_of(node.policies.policies.privacy_budget)
    groups = {picks.group_of(rules, slot) for slot in slots}
    known = ", ".join(f"{group.name} ({' '.join(group.slots)})" for group in rules.slot_groups)
    if None in groups:
        raise InputError(f"picks are for slots of these groups: {known}")
    if len(groups) > 1:
        raise InputError(f"one pick is for slots of one group: {known}")
    (group,) = groups
    return picker.fetch()[group or ""]


def _question(standing: Before) -> str:
    if standing.charged:
        return "Use the answer of this epoch again, for nothing?"
    return f"Charge ε = {standing.epsilon:g}, draw, and send the answer?"


def _say(node: Node, listed: CandidateList, standing: Before) -> None:
    """The list, what an answer costs, what is remembered."""
    console.candidates(listed, None if standing.kept is None else standing.kept.index)
    rules = picks.rules_of(node.policies.policies.privacy_budget)
    line = picks.line_of_picks(rules)
    console.say(
        f"mechanism: top-{listed.chosen} randomised response over {len(listed.candidates)} candidates; one draw costs "
        f"ε = {listed.epsilon:g} at δ = {line.delta:g}; unit: one {line.unit.value}; relation: {line.relation.value}; "
        f"trust: {line.trust.value}; composition: draws of a period add up"
    )
    if standing.kept is not None and standing.kept.list_hash != listed.digest:
        console.say("remembered: an answer to another list of this epoch; a second one is never drawn")
    elif standing.kept is not None:
        console.say(f"remembered for this epoch: place {standing.kept.index}; it is repeated, never drawn anew")
    elif standing.charged:
        console.say("charged for this epoch, and no answer is kept")
    else:
        console.say("remembered for this epoch: nothing")
    console.say(f"would be charged now: ε = {standing.epsilon:g}")
    console.say(
        f"left in this period of {rules.period_days} days: ε = {standing.left:g} of {standing.cap:g}, that is "
        f"{standing.draws_left} draws, one per slot group and {rules.epoch_days} days"
    )
    if standing.cap < line.epsilon_cap:
        console.say(f"privacy officers allow ε = {standing.cap:g} where the document would allow {line.epsilon_cap:g}")


def _say_decided(listed: CandidateList, decision: PickedDecision) -> None:
    console.say(f"decision {decision.decision_id}: {decision.mode.value}")
    titles = {creative.creative_id: creative.title for creative in listed.candidates}
    for slot in decision.slots:
        shown = str((slot.creative or {}).get("creative_id", "")) or "nothing"
        title = titles.get(shown, {}).get("en", "")
        why = "" if slot.reason is None else f"; {slot.reason.explanation}"
        console.say(f"  {slot.slot_id}: {shown}{f' ({title})' if title else ''}, {slot.mode.value}{why}")


def _facts(texts: list[str]) -> dict[str, str]:
    pairs = dict(text.partition("=")[::2] for text in texts)
    if not all(name and value for name, value in pairs.items()):
        raise MalformedInput("a fact of the page is written NAME=VALUE")
    return pairs
