"""``reticent device why | replay | tags | group``: what the owner can ask and set about ads on this device.

All of it is read and kept here. Nothing of it is ever sent.
"""

from __future__ import annotations

from typing import Annotated

import typer

from client import console
from client.choosing import known, switch
from client.explanation import LOCALES, Locale, lines
from client.options import Device, Home, Keys, choose, opened
from client.placing import again
from client.store.placed import PlacedAd
from common.errors import InputError

Language = Annotated[str, typer.Option("--lang", help="en or zh-CN.")]
tags_app = typer.Typer(no_args_is_help=False, help="Switch topics of ads off and on, on this device alone.")


def why(
    ad: Annotated[str | None, typer.Argument(help="Id of a decision, or its beginning.", show_default="all")] = None,
    *,
    lang: Language = "en",
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Why these ads: who paid, how they were chosen, what spoke for them and by how much."""
    with opened(home, keys) as node:
        locale = _locale(lang)
        placed = node.placements.read(choose(node, device))
        found = [one for one in placed if ad is None or (one.decision_id or "-").startswith(ad)]
        if ad is None:
            console.placed(placed)
            return
        if not found:
            raise InputError("this device keeps no ad of that decision")
        for one in found:
            for line in lines(one, locale):
                console.say(line)
            console.say("")


def replay(
    decision: Annotated[str, typer.Argument(help="Id of a decision, or its beginning; see `why`.")],
    *,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Decide once more from what was kept, with catalogue and policy verified again, and compare."""
    with opened(home, keys) as node:
        chosen = choose(node, device)
        whole = _whole(node.placements.read(chosen), decision)
        made = again(node, chosen, whole)
        console.replayed(whole, made)


@tags_app.callback(invoke_without_command=True)
def tags(context: typer.Context, *, device: Device = None, home: Home = None, keys: Keys = None) -> None:
    """What is switched off."""
    if context.invoked_subcommand is None:
        with opened(home, keys) as node:
            _say_tags(node.choices.read(choose(node, device)).refused_tags)


@tags_app.command("off")
def off(
    name: Annotated[str, typer.Argument(help="A topic, or a category, as an ad's explanation names it.")],
    *,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """See no more ads about a topic; what you did about it is not used for choosing or learning any more either."""
    _switch(name, device, home, keys, off=True)


@tags_app.command("on")
def on(
    name: Annotated[str, typer.Argument(help="A topic that is off.")],
    *,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Allow a topic again."""
    _switch(name, device, home, keys, off=False)


def group(
    name: Annotated[str | None, typer.Argument(help="Which group you belong to; empty takes it back.")] = None,
    *,
    device: Device = None,
    home: Home = None,
    keys: Keys = None,
) -> None:
    """Declare a group, if you wish, for reports on whether groups are treated alike; it is counted with noise only."""
    with opened(home, keys) as node:
        chosen = choose(node, device)
        held = node.choices.read(chosen) if name is None else node.choices.declare(known(node, chosen), name)
        console.say(f"declared: {held.group}" if held.group else "no group is declared")
        counts = node.policies.policies.privacy_budget.releases.placement_counts
        if counts is not None and held.group not in {"", *counts.groups}:
            console.say(f"nobody counts this group; those that are counted: {', '.join(counts.groups) or 'none'}")


def _switch(name: str, device: str | None, home: Home, keys: Keys, *, off: bool) -> None:
    with opened(home, keys) as node:
        chosen = choose(node, device)
        _say_tags(switch(node, chosen, name, off=off))


def _say_tags(refused: tuple[str, ...]) -> None:
    console.say("switched off: " + ", ".join(refused) if refused else "no topic is switched off")


def _whole(placed: list[PlacedAd], beginning: str) -> str:
    found = {one.decision_id for one in placed if one.decision_id.startswith(beginning)}
    if len(found) > 1:
        raise InputError("several decisions begin like that")
    return found.pop() if found else beginning


def _locale(name: str) -> Locale:
    found = next((locale for locale in LOCALES if locale == name), None)
    if found is None:
        raise InputError(f"the explanation speaks {' and '.join(LOCALES)}")
    return found
