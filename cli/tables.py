"""Your own table: ``train-csv`` and ``predict-csv``. Owns the folder of a trained model and how it is used again.

A table is split into simulated devices (by its user column, or by rows) and trained federated, like everything else.
The folder holds the signed model, what its features are made by, and the simulated devices' encrypted stores, from
which a prediction takes the history of users it knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cli.evaluation import Holdouts, gather
from cli.owners import consent_for_all
from cli.training import Plan, Trained, Watch, copy_nodes, train
from client.device import Node
from client.features.extract import featurise
from client.features.history import History
from client.population.build import Progress, Request, build_population
from client.population.description import DataDescription
from client.population.tabular import exposures
from client.scoring import score
from client.settings import Settings as DeviceSettings
from client.store.keys import DeviceId
from common.crypto import keyfile
from common.crypto.signing import PublicKey, key_ring
from common.errors import MalformedInput, OneClassData
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.model.manifest import open_manifest
from common.model.network import load_network
from common.model.situation import Situation
from common.taxonomy import ModelFamily, Profile
from server.registry.service import Registry
from server.settings import Settings as ServerSettings
from server.storage import open_database

BATCH_ROWS = 5_000
FORMAT = "reticent-model-folder-1"


@dataclass(frozen=True, slots=True)
class Order:
    """What to train from a table."""

    table: Path
    description: DataDescription
    folder: Path
    profile: Profile = Profile.RECORD_LOCAL
    compare: bool = True
    rounds: int = 20
    family: ModelFamily = ModelFamily.LOGISTIC
    devices: int | None = None
    seed: int = 0


def train_table(order: Order, *, progress: Progress, watch: Callable[[str], Watch]) -> list[Trained]:
    """Train, keep the model in the folder, and measure it; a non-private reference first where one is asked for.

    Raises:
        InputError: the table is not what its description says, is empty, or has one class only.
    """
    spec = order.description.feature_spec()
    work = order.folder.with_name(order.folder.name + ".working")
    shutil.rmtree(work, ignore_errors=True)
    try:
        request = Request(order.description, devices=order.devices, seed=order.seed, path=order.table)
        population = build_population(request, work / "cache", progress)
        holdouts = _holdouts(population.node_directories, population.unseen_directory, spec)
        settings = ServerSettings.simulated(work / "server")
        key = keyfile.load_or_create(settings.signing_key)
        profiles = [Profile.NON_PRIVATE] if order.compare and order.profile is not Profile.NON_PRIVATE else []
        results = []
        for profile in [*profiles, order.profile]:
            nodes = copy_nodes(population.node_directories, work / profile.value)
            consent_for_all(sorted(nodes.glob("node-*")), key)
            plan = Plan(
                profile.value.replace("_", "-"),
                profile,
                order.description.base_rate,
                rounds=order.rounds,
                family=order.family,
                seed=order.seed,
            )
            results.append(train(plan, nodes, spec=spec, holdouts=holdouts, settings=settings, watch=watch(plan.name)))
        copy_nodes([population.unseen_directory], work / order.profile.value)
        _keep(order, settings, results[-1], key=key.public, nodes=work / order.profile.value)
        return results
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _holdouts(nodes: list[Path], unseen: Path, spec: FeatureSpec) -> Holdouts:
    """Held-out rows; without a hold-out in time, the training rows themselves (and the report says so)."""
    train_rows = gather(nodes, spec, "train")
    if train_rows.positives in (0, len(train_rows)):
        raise OneClassData("every training label is the same: nothing can be learnt; check the label column")
    held = gather(nodes, spec, "holdout")
    return Holdouts(held if 0 < held.positives < len(held) else train_rows, gather([unseen], spec, "holdout"))


def _keep(order: Order, settings: ServerSettings, trained: Trained, *, key: PublicKey, nodes: Path) -> None:
    """Write the folder, replacing an older one only when everything is there."""
    database = open_database(settings.database_url)
    try:
        stored = Registry(database.sessions, key_ring(key)).stored(trained.finished.manifest.version)
    finally:
        database.close()
    fresh = order.folder.with_name(order.folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    (fresh / "FORMAT").write_text(FORMAT)
    (fresh / "description.json").write_text(order.description.model_dump_json(indent=1))
    (fresh / "feature_spec.json").write_text(order.description.feature_spec().model_dump_json(indent=1))
    (fresh / "model.jws").write_text(stored.manifest_jws)
    (fresh / "model.safetensors").write_bytes(arrays.to_bytes(trained.finished.model))
    (fresh / "signer.pub").write_text(key.x)
    shutil.copytree(nodes, fresh / "devices")
    shutil.rmtree(order.folder, ignore_errors=True)
    fresh.rename(order.folder)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Probability of a positive label for one data row (1 is the first)."""

    row: int
    probability: float


def predict_table(table: Path, folder: Path) -> Iterator[Prediction]:
    """Probabilities of all rows of a table, in order; no label column is needed.

    Raises:
        TamperedModel: the folder's model does not verify.
        UnknownColumn, TruncatedFile, MalformedInput: the table is not what the model's description says.
    """
    if not (folder / "FORMAT").is_file() or (folder / "FORMAT").read_text() != FORMAT:
        raise MalformedInput(f"{folder.name} is not a model folder: train one with 'reticent train-csv'")
    description = DataDescription.model_validate_json((folder / "description.json").read_bytes())
    spec = description.feature_spec()
    signer = PublicKey((folder / "signer.pub").read_text())
    manifest, weights = open_manifest(
        (folder / "model.jws").read_text(), (folder / "model.safetensors").read_bytes(), key_ring(signer), spec=spec
    )
    network = load_network(weights, manifest.model, spec)
    with ExitStack() as stack:
        memory = _Memory(folder / "devices", stack)
        done = 0
        for batch in _batches(table, description):
            probabilities = np.empty(len(batch))
            by_user: dict[str, list[int]] = {}
            for i, (user, _) in enumerate(batch):
                by_user.setdefault(user, []).append(i)
            for user, rows in by_user.items():
                examples = featurise(spec, memory.of(user), [batch[i][1] for i in rows])
                probabilities[rows] = score(network, examples, spec)
            for probability in probabilities:
                done += 1
                yield Prediction(done, float(probability))


def _batches(table: Path, description: DataDescription) -> Iterator[list[tuple[str, Situation]]]:
    batch: list[tuple[str, Situation]] = []
    for user, event in exposures(table, description, labelled=False):
        batch.append((user, Situation(event.time, event.item, event.attributes, event.context, event.numbers)))
        if len(batch) == BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


class _Memory:
    """Histories of users whose simulated devices are in the folder."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        settings = DeviceSettings(simulation=True)
        nodes = [stack.enter_context(Node.open(path, settings, prove=False)) for path in sorted(directory.iterdir())]
        self._home = {device: node for node in nodes for device in node.vault.devices()}
        self._kept: dict[str, History] = {}

    def of(self, user: str) -> History:
        """History of a user; empty for a stranger."""
        if user not in self._kept:
            node = self._home.get(DeviceId(user))
            self._kept[user] = History.of(node.vault.read(DeviceId(user)) if node else [])
        return self._kept[user]
