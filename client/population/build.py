"""Builds a population: node directories full of virtual devices with encrypted stores. Cached and streamed.

Layout: ``node-0 … node-N`` host the devices that may train; ``unseen`` hosts devices never trained on;
``population.json`` says how it was made, and a second call with the same words finds it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from client.behavior.events import BehaviourEvent
from client.device import Node, NodeConfig
from client.population.completejourney import Source
from client.population.description import DataDescription
from client.population.tabular import exposures
from client.settings import Settings
from client.store.keys import DeviceId
from common.errors import EmptyDevice, MalformedInput

RECIPE_VERSION = 1
FLUSH_EVENTS = 50_000
UNSEEN = "unseen"
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Item:
    """Public facts of one item, for a catalogue."""

    item: str
    attributes: Mapping[str, str]
    numbers: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Request:
    """What population is wanted: equal requests share one cache entry.

    Attributes:
        description: what the data means.
        nodes: how many node directories share the training devices.
        devices: at most so many devices, drawn by the seed; None takes all.
        path: the table, for descriptions whose source is a table.
    """

    description: DataDescription
    nodes: int = 2
    devices: int | None = None
    seed: int = 0
    path: Path | None = None

    @property
    def table(self) -> Path:
        """The table.

        Raises:
            MalformedInput: the description is of a table, and none was named.
        """
        if self.path is None:
            raise MalformedInput(f"the description '{self.description.name}' needs a table: name a CSV or Parquet file")
        return self.path

    @property
    def digest(self) -> str:
        """Names the cache entry; a changed file is a changed request."""
        stat = self.path.stat() if self.path and self.path.is_file() else None
        words = [
            RECIPE_VERSION,
            self.description.model_dump_json(),
            self.nodes,
            self.devices,
            self.seed,
            [str(self.path), stat.st_size, stat.st_mtime_ns] if stat else None,
        ]
        return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Population:
    """A built population on disk."""

    directory: Path
    training_devices: int
    unseen_devices: int
    events: int
    holdout_start: float
    items: tuple[Item, ...]

    @property
    def node_directories(self) -> list[Path]:
        """Nodes whose devices may train."""
        return sorted(self.directory.glob("node-*"), key=lambda path: int(path.name.removeprefix("node-")))

    @property
    def unseen_directory(self) -> Path:
        """The node of devices never trained on."""
        return self.directory / UNSEEN


def build_population(request: Request, cache: Path, progress: Progress | None = None) -> Population:
    """Build, or find in the cache. An interrupted build leaves nothing that could be taken for a whole one.

    Raises:
        UnknownColumn, InvalidLabel, TruncatedFile, MalformedInput: the data is not what its description says.
        EmptyDevice: the data holds no rows.
    """
    final = cache / f"{request.description.name}-{request.digest}"
    if (final / "population.json").is_file():
        return _read(final)
    temporary = final.with_name(final.name + ".building")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        population = _fill(request, temporary, progress or (lambda *_: None))
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _write(population)
    temporary.rename(final)
    return _read(final)


def _fill(request: Request, directory: Path, progress: Progress) -> Population:
    if request.description.source == "completejourney":
        source = Source(seed=request.seed)
        users = _draw(source.users, request)
        holdout, end = source.holdout_start, source.end
        stream = _prepared_stream(source, users, progress)
        items: tuple[Item, ...] = tuple(
            Item(str(p), source.facts.get(int(p), {}), {"rank": float(i)}) for i, p in enumerate(source.catalogue)
        )
    else:
        users, holdout, end, items = _survey(request)
        stream = _table_stream(request, set(users), progress)
    unseen = unseen_users(users, share=request.description.unseen_share, seed=request.seed)
    training = [user for user in users if user not in unseen]
    home = {user: f"node-{i % request.nodes}" for i, user in enumerate(training)} | dict.fromkeys(unseen, UNSEEN)
    count = _store(request, directory, stream, home, holdout=holdout, end=end)
    return Population(directory, len(training), len(unseen), count, holdout, items)


def _draw(users: list[str], request: Request) -> list[str]:
    if request.devices is None or request.devices >= len(users):
        return users
    chosen = np.random.default_rng([request.seed, 1]).choice(len(users), request.devices, replace=False)
    return [users[i] for i in sorted(chosen)]


def unseen_users(users: Sequence[str], *, share: float, seed: int) -> set[str]:
    """The unseen share, drawn from the user's own id, so that it does not depend on who else is there."""
    digest = (hashlib.blake2b(f"{seed}/{user}".encode(), digest_size=8).digest() for user in users)
    return {user for user, d in zip(users, digest, strict=True) if int.from_bytes(d, "big") < share * 2**64}


Stream = Iterator[tuple[str, list[BehaviourEvent]]]


def _prepared_stream(source: Source, users: list[str], progress: Progress) -> Stream:
    for done, household in enumerate(source.households(users), start=1):
        yield household.user, household.events
        progress("devices", done, len(users))


def _survey(request: Request) -> tuple[list[str], float, float, tuple[Item, ...]]:
    """First pass over a table: users, hold-out boundary, end of time, and items for a catalogue (8 bytes a row)."""
    users: dict[str, int] = {}
    items: dict[str, Item] = {}
    times = array("d")
    for user, event in exposures(request.table, request.description):
        users[user] = users.get(user, 0) + 1
        times.append(event.time)
        if len(items) < 10_000:
            items.setdefault(event.item, Item(event.item, event.attributes, event.numbers))
    if not users:
        raise EmptyDevice("the data holds no rows: nothing to build devices from")
    share = request.description.holdout_share
    holdout = float(np.quantile(np.array(times), 1 - share)) if share else float("inf")
    return _draw(sorted(users), request), holdout, max(times) + 1.0, tuple(items.values())


def _table_stream(request: Request, users: set[str], progress: Progress) -> Stream:
    pending: dict[str, list[BehaviourEvent]] = {}
    size = rows = 0
    for user, event in exposures(request.table, request.description):
        rows += 1
        if user not in users:
            continue
        pending.setdefault(user, []).append(event)
        size += 1
        if size >= FLUSH_EVENTS:
            yield from pending.items()
            pending, size = {}, 0
            progress("rows", rows, 0)
    yield from pending.items()
    progress("rows", rows, rows)


def _store(
    request: Request,
    directory: Path,
    stream: Stream,
    home: dict[str, str],
    *,
    holdout: float,
    end: float,
) -> int:
    config = NodeConfig(
        spec=request.description.feature_spec(),
        data_set=request.description.name,
        training_window=(None, None if holdout == float("inf") else holdout),
        behaviour_now=end,
    )
    stored = 0
    with ExitStack() as stack:
        nodes: dict[str, Node] = {}
        for name in dict.fromkeys([*(f"node-{i}" for i in range(request.nodes)), UNSEEN]):
            node = stack.enter_context(Node.create(directory / name, Settings(simulation=True), config))
            stack.enter_context(node.vault.transaction())  # one commit per node instead of one per device
            nodes[name] = node
        for user, events in stream:
            stored += nodes[home[user]].vault.append(DeviceId(user), events).stored
    return stored


def _write(population: Population) -> None:
    row = asdict(population) | {"directory": population.directory.name}
    (population.directory / "population.json").write_text(json.dumps(row))


def _read(directory: Path) -> Population:
    row = json.loads((directory / "population.json").read_text())
    return Population(**(row | {"directory": directory, "items": tuple(Item(**item) for item in row["items"])}))
