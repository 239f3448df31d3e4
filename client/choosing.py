"""What an owner sets about ads. Owns that a choice holds from the next decision and the next training on."""

from __future__ import annotations

from client.device import Node
from client.store.keys import DeviceId


def switch(node: Node, device: DeviceId, name: str, *, off: bool) -> tuple[str, ...]:
    """Switch a topic; what was computed from events with it is computed anew. What is off from now on.

    Raises:
        InputError: no tag, too long a one, or too many.
        DeviceErased, StoreError: nothing was changed.
    """
    choices = node.choices.switch(known(node, device), name, off=off)
    node.vault.drop_derived(device)
    return choices.refused_tags


def known(node: Node, device: DeviceId) -> DeviceId:
    """The device, with a key to seal by: one that never recorded anything has none yet."""
    node.vault.append(device, [])
    return device
