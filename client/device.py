"""The composition root of a device's program. Builds vault, ledger, gate and recorder of one node and hands them down.

A node is a directory. It hosts one device (a person's installation) or many virtual ones (simulation, edge clients):

    node.json     what its features are made by, and the public training window
    vault.db      encrypted behaviour             keys/       one key per device, apart from the data
    ledger.db     privacy spend                   keys.json   pinned keys of the service, notices in force
    receipts.db   consent receipts                journal.db  what left (``client.journal``)
    credentials.json  keys by which its devices sign what they ask of the service, and what they say to each other
    sessions.db  encrypted secrets of running secure aggregations
    placements.db  encrypted: why these ads, decisions to be replayed, what followed, topics switched off
    picks.db      encrypted private picks, the officers' cap on them
    picks-ledger.db  what they cost, in a ledger of its own
    requests.json  what its owner asked of the service, with the signed acknowledgements
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from client.behavior.recorder import Recorder
from client.budget import ANCHOR, Ledger
from client.consent import Gate
from client.credentials import Credentials
from client.pins import PinFile, replace_private, write_pins
from client.requests import Requests
from client.settings import Settings
from client.store import retention
from client.store.choices import ChoiceStore
from client.store.decisions import Decisions
from client.store.keys import DeviceId, KeyStore
from client.store.outcomes import Outcomes
from client.store.pick_caps import PickCaps
from client.store.picks import PickStore
from client.store.placed_file import PlacedFile
from client.store.placements import Placements
from client.store.sessions import Sessions
from client.store.vault import Vault
from common.crypto.signing import PublicKey
from common.errors import MalformedInput, SpecMismatch
from common.model.feature_spec import FeatureSpec
from common.wire.codec import describe
from policies import loader
from policies.budget import DAY_S
from policies.loader import LoadedPolicies
from policies.picks import pick_budget
from policies.placement.lint import refuse_special_features

OWNER: Final = DeviceId("owner")
"""Name of the only device of a person's own installation."""


class NodeConfig(BaseModel):
    """``node.json``: public facts about a node; nothing here comes from behaviour.

    Attributes:
        spec: what features are made by; None on a node that only records so far.
        data_set: what its devices' behaviour comes from.
        training_window: from and until when events may be trained on, seconds since the epoch; ``None`` is no limit.
        behaviour_now: where retention counts from on devices that replay a recorded data set, whose times lie in the
            past; None, on every real device, is the real clock.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    format: Literal["reticent-node-1"] = "reticent-node-1"
    spec: FeatureSpec | None = None
    data_set: str = Field(default="own behaviour", max_length=200)
    training_window: tuple[float | None, float | None] = (None, None)
    behaviour_now: float | None = None


class Node:
    """One opened node. Use as a context manager."""

    def __init__(self, directory: Path, config: NodeConfig, settings: Settings, policies: LoadedPolicies) -> None:
        """Use ``Node.open`` or ``Node.create``."""
        self.directory = directory
        self.config = config
        self.settings = settings
        self.policies = policies
        self._closing = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            documents = policies.policies
            self._pins = PinFile(directory / "keys.json")
            self.credentials = Credentials(directory / "credentials.json")
            self.requests = Requests(directory / "requests.json")
            keys = self.device_keys = KeyStore(settings.keys_directory or directory / "keys")
            self.sessions = Sessions(directory / "sessions.db", keys, settings.now)
            placed = PlacedFile(directory / "placements.db", keys)
            self.placements, self.decisions = Placements(placed), Decisions(placed)
            self.outcomes, self.choices = Outcomes(placed), ChoiceStore(placed)
            self.vault = opened.enter_context(contextlib.closing(Vault.open(directory / "vault.db", keys)))
            self.ledger = opened.enter_context(contextlib.closing(_ledger(directory, settings, policies)))
            self.picks = PickStore(directory / "picks.db", keys)
            self.pick_caps = PickCaps(directory / "picks.db")
            self.pick_ledger = opened.enter_context(contextlib.closing(_pick_ledger(directory, settings, policies)))
            self.gate = opened.enter_context(
                contextlib.closing(
                    Gate.open(directory / "receipts.db", documents.purposes, pins=self._pins.current, now=settings.now)
                )
            )
            self.recorder = Recorder(self.vault, documents.retention, settings.now, retention_now=config.behaviour_now)
            self._closing = opened.pop_all()

    @classmethod
    def open(cls, directory: Path, settings: Settings | None = None, *, prove: bool = True) -> Self:
        """Open a node; an absent directory becomes an empty one. What may not be held any more is deleted now.

        Args:
            directory: the node's own.
            settings: how to run it; the defaults when absent.
            prove: prove the policy documents' figures too; may be left out where nothing can be released.

        Raises:
            PolicyError: the policy documents are invalid, or a feature is named for a special category.
            VaultCorrupt: a file of the node is damaged.
            MalformedInput: ``node.json`` is.
        """
        settings = settings or Settings()
        policies = loader.load(settings.policies_directory, prove=prove)
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        node = cls(directory, _read_config(directory / "node.json"), settings, policies)
        node.sessions.sweep()
        node.credentials.sweep(settings.now())
        if node.config.behaviour_now is None:
            retention.sweep(node.vault, policies.policies.retention, settings.now())
            retention.sweep_outcomes(node.outcomes, node.vault.devices(), policies.policies.retention, settings.now())
        return node

    @classmethod
    def create(cls, directory: Path, settings: Settings, config: NodeConfig) -> Self:
        """Make a node with this configuration, or give an existing one a new configuration, and open it."""
        configure_node(directory, config)
        return cls.open(directory, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all files."""
        self._closing.close()

    @property
    def spec(self) -> FeatureSpec:
        """What this node's features are made by.

        Raises:
            SpecMismatch: this node only records; it has no specification yet.
        """
        if self.config.spec is None:
            raise SpecMismatch("this node has no feature specification yet, so it can neither learn nor score")
        return self.config.spec

    @property
    def training_window(self) -> tuple[float, float]:
        """From and until when events may be trained on: a public constant, never chosen from the data."""
        start, end = self.config.training_window
        return -math.inf if start is None else start, math.inf if end is None else end

    @property
    def server_keys(self) -> Mapping[str, PublicKey]:
        """Pinned public keys of the service, by id."""
        return self._pins.current().keys

    @property
    def notices(self) -> frozenset[str]:
        """Digests of the notices in force that this node knows, one per language."""
        return self._pins.current().notices

    @property
    def authorities(self) -> tuple[PublicKey, ...]:
        """Pinned keys that certify devices to each other in a secure aggregation."""
        return tuple(self._pins.current().authorities)

    def pin(
        self,
        keys: Iterable[PublicKey] | None = None,
        notices: Iterable[str] | None = None,
        authorities: Iterable[PublicKey] | None = None,
    ) -> None:
        """Trust these keys, notices and authorities from now on; what is left out stays as it is."""
        held = self._pins.current()
        write_pins(
            self._pins.path,
            held.keys.values() if keys is None else keys,
            held.notices if notices is None else notices,
            held.authorities if authorities is None else authorities,
        )

    def erase(self, device: DeviceId) -> None:
        """Erase a device: key, then rows, then receipts.

        What it spent in the running period stays as a tombstone, and for as long its identity key: enrolling again with
        that brings no more budget than before.

        Raises:
            StoreError: there is no such device.
        """
        self.vault.erase(device)
        self.sessions.forget(device)
        self.placements.forget(device)
        self.gate.forget(device)
        self.credentials.retire(device, self._period_end())
        self.ledger.forget(device)
        self.picks.forget(device)
        self.pick_ledger.forget(device)

    def _period_end(self) -> float:
        """When the running budget period ends, seconds since the epoch."""
        return (self.ledger.period + 1) * self.policies.policies.privacy_budget.budget_period_days * DAY_S


def configure_node(directory: Path, config: NodeConfig) -> None:
    """Write the configuration of a new or existing node."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace_private(directory / "node.json", config.model_dump_json(indent=1).encode())


def anchor_path(directory: Path, settings: Settings, name: str = ANCHOR) -> Path:
    """Where the anchor of a node's ledger is: with its keys, under a name of its own where nodes share a directory."""
    if settings.keys_directory is None:
        return directory / "keys" / name
    return settings.keys_directory / f"{hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:16]}-{name}"


def pick_ledger_paths(directory: Path, settings: Settings) -> tuple[Path, Path]:
    """The ledger of private picks and its anchor."""
    return directory / "picks-ledger.db", anchor_path(directory, settings, f"picks-{ANCHOR}")


def _ledger(directory: Path, settings: Settings, policies: LoadedPolicies) -> Ledger:
    return Ledger.open(
        directory / "ledger.db",
        policies.policies.privacy_budget,
        anchor=anchor_path(directory, settings),
        now=settings.now,
        simulation=settings.simulation,
        randomness=settings.randomness,
    )


def _pick_ledger(directory: Path, settings: Settings, policies: LoadedPolicies) -> Ledger:
    """The ledger of private picks; where the document declares none, it has no line for one and refuses them all."""
    policy, (path, anchor) = policies.policies.privacy_budget, pick_ledger_paths(directory, settings)
    return Ledger.open(
        path,
        policy if policy.placement is None else pick_budget(policy),
        anchor=anchor,
        now=settings.now,
        simulation=settings.simulation,
        randomness=settings.randomness,
    )


def _read_config(path: Path) -> NodeConfig:
    try:
        config = NodeConfig.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return NodeConfig()
    except ValidationError as error:
        raise MalformedInput(f"{path.name}: {describe(error)}") from None
    if config.spec is not None:
        refuse_special_features(config.spec)
    return config
