"""Featurised examples of a device, kept encrypted beside its events so that a round need not featurise again."""

from __future__ import annotations

import json
from typing import Literal

from safetensors import SafetensorError
from safetensors.numpy import load, save

from client.device import Node
from client.features.extract import examples_from
from client.features.usable import usable
from client.store.keys import DeviceId
from common.errors import EmptyDevice, VaultCorrupt
from common.model.examples import Examples
from common.model.feature_spec import FeatureSpec

Part = Literal["train", "holdout"]


def load_examples(node: Node, device: DeviceId, part: Part = "train") -> Examples:
    """Examples of one device, featurised at first use.

    Args:
        node: the node that hosts the device; its training window is a public constant, never chosen from the data.
        device: whose examples.
        part: those inside the training window, or those after it.

    Raises:
        VaultCorrupt, WrongKey, DeviceErased: as the vault says.
    """
    payload = node.vault.get_derived(device, _name(node, part))
    if payload is not None:
        return decode(payload, node.spec)
    refused = node.choices.read(device).refused_tags  # switching a topic drops what was cached
    examples = examples_from(node.spec, usable(node.vault.read(device), refused))
    start, end = node.training_window
    parts: dict[Part, Examples] = {
        "train": examples.select((examples.times >= start) & (examples.times < end)),
        "holdout": examples.select(examples.times >= end),
    }
    for name, chosen in parts.items():  # both at once: reading and decrypting the events is most of the work
        node.vault.put_derived(device, _name(node, name), encode(chosen))
    return parts[part]


def _name(node: Node, part: Part) -> str:
    return f"examples:{part}:{node.spec.digest}"


def require_examples(examples: Examples) -> Examples:
    """For a person who trains alone: an empty device is an error there. In a round it is not (it contributes noise)."""
    if not len(examples):
        raise EmptyDevice("this device holds no impression inside the training window; record or import some first")
    return examples


def encode(examples: Examples) -> bytes:
    """Safetensors bytes with the specification's digest in the header."""
    arrays = {
        "categorical": examples.categorical.astype("int32"),
        "numeric": examples.numeric,
        "labels": examples.labels,
        "times": examples.times,
    }
    return save(arrays, metadata={"spec": examples.spec_digest})


def decode(payload: bytes, spec: FeatureSpec) -> Examples:
    """The examples again.

    Raises:
        VaultCorrupt: the bytes are not what ``encode`` wrote for this specification.
    """
    try:
        arrays = load(payload)
        size = int.from_bytes(payload[:8], "little")
        digest = json.loads(payload[8 : 8 + size])["__metadata__"]["spec"]
        found = Examples(
            arrays["categorical"].astype("int64"), arrays["numeric"], arrays["labels"], arrays["times"], digest
        )
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise VaultCorrupt("cached examples do not decode; delete the cache and featurise again") from error
    found.check(spec)
    return found
