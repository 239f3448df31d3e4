"""Tiny node directories: a few consented devices with a few events each, and a server that they trust."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from cli.owners import certify_all
from client.behavior.events import BehaviourEvent, Comment, Impression, Purchase, Search, View
from client.device import Node, NodeConfig
from client.settings import Settings as DeviceSettings
from client.store.keys import DeviceId
from common.crypto import keyfile
from common.crypto.signing import SigningKey
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.taxonomy import AgeBand, ConsentState, FeatureBlock, Purpose
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt
from policies import loader
from server.settings import Settings as ServerSettings

DAY_S = 86_400.0
NOTICE = "e" * 64
SPEC = FeatureSpec(
    name="tiny",
    version=1,
    categorical=(
        CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=16),
        CategoricalField(name="page", block=FeatureBlock.CONTEXT, buckets=8),
    ),
    numeric=(NumericField(name="price", block=FeatureBlock.CONTEXT, transform="log1p"),),
)
Events = Callable[[str, int], Iterable[BehaviourEvent]]


def some_events(device: str, number: int) -> list[BehaviourEvent]:
    """A dozen impressions with outcomes, and what goes with them."""
    start = time.time() - 20 * DAY_S
    events: list[BehaviourEvent] = [
        Search(start, "shop", f"query of {device}"),
        Comment(start + 1, "shop", "item-1", f"text of {device}"),
    ]
    for i in range(12):
        moment, item = start + 100 + i * 60, f"item-{(i + number) % 5}"
        context, numbers = {"page": f"p{i % 3}"}, {"price": float(i)}
        events.append(Impression(moment, "shop", item, {}, context, numbers, f"e{i}", int((i + number) % 3 == 0)))
        events.append(View(moment + 1, "shop", item, {}, 2.0))
    return [*events, Purchase(start + 5000, "shop", "item-2")]


@dataclass(frozen=True)
class World:
    """Node directories under ``nodes`` and the server's settings.

    Attributes:
        environment: of device processes and of the server alike.
    """

    home: Path
    nodes: Path
    server: ServerSettings
    key: SigningKey
    environment: Mapping[str, str]

    def directory(self, index: int) -> Path:
        return self.nodes / f"node-{index}"

    def settings(self) -> DeviceSettings:
        return DeviceSettings.from_env(self.environment)

    def node(self, index: int) -> Node:
        return Node.open(self.directory(index), self.settings())

    def decide(self, index: int, device: str, state: ConsentState, *purposes: Purpose) -> None:
        """A receipt of the service for a decision made just now."""
        with self.node(index) as node:
            decide(node, self.key, DeviceId(device), state, purposes or tuple(Purpose), age=0)


def decide(
    node: Node, key: SigningKey, device: DeviceId, state: ConsentState, purposes: Iterable[Purpose], *, age: int
) -> None:
    now = int(time.time()) - age
    for purpose in purposes:
        receipt = ConsentReceipt(
            receipt_id=f"{device}-{purpose.value}-{state.value}-{now}",
            handle=f"handle-of-{device}-xxxxxxxx",
            purpose=purpose,
            state=state,
            age_band=AgeBand.ADULT,
            notice_digest=NOTICE,
            event_time=now,
            valid_until=now + int(30 * DAY_S),
            locale="en",
            jurisdiction="FR",
            controller="tests",
        )
        node.gate.store_receipt(device, seal(receipt, key))


BUDGET = {"profile": "record_local", "rounds_max": 20}
LINES = {"epsilon_declared": 10.0, "epsilon_cap": 20.0}
ROOM = {"epsilon_declared": 1e6, "epsilon_cap": 1e7}
TRAINING = {"clipping_norm": 1.0, "noise_multiplier": 4.0, "sampling_rate": 1.0, "local_steps": 1, "learning_rate": 0.5}
USER_TRAINING = {"local_steps": 1, "expected_batch_size": 64, "learning_rate": 0.5}
COHORT = {"devices_min": 4, "devices_max": 64, "dropout_fraction_max": 0.3, "corrupt_fraction_max": 0.0}
RELEASE = {"clipping_norm": 1.0, "noise_multiplier": 8.0, "levels": 1024, "releases_max": 40}
"""A user-level release of tests: enough noise for a line of its own, few levels, so that 16 bits are enough."""
RELEASES = {
    "training_update": RELEASE,
    "calibration": RELEASE | {"releases_max": 2},
    "evaluation": RELEASE | {"releases_max": 2, "bins": 8},
}


def write_policies(directory: Path, training: Mapping[str, float], **budget: object) -> Path:
    """The house's documents with another privacy budget and a generous cadence.

    ``epsilon_declared`` and ``epsilon_cap`` are those of the profile's own lines, the others have room for anything;
    ``releases`` and ``cohort`` replace whole entries.
    """
    directory.mkdir(parents=True)
    lines = LINES | {name: budget.pop(name) for name in list(budget) if name in LINES}
    for source in loader.DOCUMENTS.glob("*.yaml"):
        document = yaml.safe_load(source.read_text())
        if source.stem == "privacy_budget":
            document |= BUDGET | {"releases": RELEASES, "cohort": COHORT, "user_training": USER_TRAINING} | budget
            document["training"] |= TRAINING | dict(training)
            own = {"record_local": {"record"}, "user_distributed": {"user"}}.get(
                document["profile"], {"record", "user"}
            )
            document["lines"] = [
                line | (lines if line["unit"] in own else ROOM) | {"quotas": {}} for line in document["lines"]
            ]
        if source.stem == "egress":
            for rule in document["messages"]:
                if rule.get("per_day_max") is not None:
                    rule["per_day_max"] = 1000
        (directory / source.name).write_text(yaml.safe_dump(json.loads(json.dumps(document))))  # JSON: no aliases
    return directory


def make_world(
    home: Path,
    *,
    nodes: int = 2,
    devices: int = 3,
    events: Events = some_events,
    environment: Mapping[str, str] | None = None,
    training: Mapping[str, float] | None = None,
    window: tuple[float | None, float | None] = (None, None),
    **budget: object,
) -> World:
    """A world of ``nodes`` × ``devices`` consented devices, named ``n<i>-d<j>``."""
    home.mkdir(parents=True, exist_ok=True)
    policies = write_policies(home / "policies", training or {}, **budget)
    spec = home / "spec.json"
    spec.write_text(SPEC.model_dump_json())
    state = home / "server"
    env = {
        "RETICENT_STATE_DIR": str(state),
        "RETICENT_FEATURE_SPEC": str(spec),
        "RETICENT_POLICIES": str(policies),
        "RETICENT_ROUND_CONSENT": "devices",  # nobody enrols here: the devices' own gates decide
        **(environment or {}),
    }
    server = ServerSettings.from_env(env)
    key = keyfile.load_or_create(server.signing_key)
    authority = keyfile.load_or_create(server.authority_key)
    world = World(home, home / "nodes", server, key, env)
    for i in range(nodes):
        with Node.create(world.directory(i), world.settings(), NodeConfig(spec=SPEC, training_window=window)) as node:
            node.pin([key.public], [NOTICE], [authority.public])
            for j in range(devices):
                device = DeviceId(f"n{i}-d{j}")
                report = node.recorder.record_all(device, events(device, i * devices + j))
                assert not report.rejected, report
                decide(node, key, device, ConsentState.GIVEN, Purpose, age=60)
    certify_all([world.directory(i) for i in range(nodes)], authority)
    return world
