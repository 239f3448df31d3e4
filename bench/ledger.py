"""Size and speed of both privacy ledgers at a million devices, each with several releases.

    python -m bench.ledger [--json PATH] [--quick] [--devices N] [--rounds N] [--postgres]

Devices take part at random in half of the rounds. Each participation charges three releases on two lines (an update,
a clip bit, and a record-level release). Every charge is on the disk when it is counted. "append" is the time of a
reservation and its settlement divided by the devices charged, "append_one_by_one" that of a reservation for a single
device (two writes that wait for the disk), "query" ε of one random device from an opened ledger, "cpu" the processor's
share of either, and "first query" the slowest before devices of equal spend were asked about (it computes, the others
look up). Wall clocks on a busy machine say how busy it is; processor times do not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from client.budget import Ledger, PlannedRelease, Reservation
from client.store.keys import DeviceId
from common.privacy.parameters import UserDpParameters
from common.taxonomy import Profile, ReleaseKind
from policies import loader
from policies.schema import PrivacyBudgetPolicy
from server import migrations
from server.ledger.check import verify
from server.ledger.service import ServerLedger
from server.storage import Database, open_database

MIB = 1024 * 1024
COHORT = 50_000
QUERIES = 2_000
SINGLE = 300


@dataclass(frozen=True)
class Row:
    """One ledger, measured."""

    ledger: str
    devices: int
    reservations: int
    releases: int
    mib: float
    bytes_per_reservation: float
    append_us: float
    append_cpu_us: float
    append_one_by_one_ms: float
    query_us_median: float
    query_us_p99: float
    query_cpu_us: float
    first_query_ms: float
    verify_s: float


def document() -> PrivacyBudgetPolicy:
    """The house's budget with room for every round, so that what is measured is charging and not refusing."""
    shipped = loader.load(prove=False).policies.privacy_budget
    lines = tuple(line.model_copy(update={"epsilon_cap": 1e6, "quotas": {}}) for line in shipped.lines)
    update = shipped.releases.training_update.model_copy(update={"releases_max": 1_000_000})
    releases = shipped.releases.model_copy(update={"training_update": update, "clip_quantile": update})
    changes = {"lines": lines, "profile": Profile.LAYERED, "rounds_max": 1_000_000, "releases": releases}
    return shipped.model_copy(update=changes)


def planned(policy: PrivacyBudgetPolicy) -> list[PlannedRelease]:
    """What one participation costs."""
    update = UserDpParameters(clipping_norm=1.0, noise_multiplier=3.0, levels=1000)
    return [
        PlannedRelease(ReleaseKind.TRAINING_UPDATE, update.release(400)),
        PlannedRelease(ReleaseKind.CLIP_QUANTILE, update.model_copy(update={"noise_multiplier": 30.0}).release(1)),
        PlannedRelease(ReleaseKind.TRAINING_UPDATE, policy.training.release(Profile.LAYERED)),
    ]


def cohorts(devices: int, rounds: int) -> Iterator[tuple[str, list[int]]]:
    """Cause and members of each session: half of all devices in a round, in cohorts."""
    rng = np.random.default_rng(0)
    for number in range(rounds):
        present = np.flatnonzero(rng.random(devices) < 0.5)
        for part in range(0, len(present), COHORT):
            yield f"round-{number}/{part // COHORT}", present[part : part + COHORT].tolist()


def timed(call: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def queries(ask: Callable[[int], object], devices: int) -> tuple[list[float], float, float]:
    """Seconds of queries about random devices, processor seconds of one, and the slowest among the first ones."""
    rng = random.Random(1)  # noqa: S311 - which devices are asked about
    cold = [timed(lambda: ask(rng.randrange(devices))) for _ in range(50)]
    cpu = time.process_time()
    warm = [timed(lambda: ask(rng.randrange(devices))) for _ in range(QUERIES)]
    return sorted(warm), (time.process_time() - cpu) / QUERIES, max(cold)


def bench_device(devices: int, rounds: int, folder: Path) -> Row:
    """A node's ledger."""
    policy = document()
    path, order = folder / "ledger.db", planned(policy)
    names = [DeviceId(f"device-{number:08}") for number in range(devices)]
    charged, spent_s, cpu_s = 0, 0.0, 0.0
    with contextlib.closing(Ledger.open(path, policy, now=time.time)) as book:
        for cause, members in cohorts(devices, rounds):
            who = [names[number] for number in members]
            began, cpu = time.perf_counter(), time.process_time()
            answers = book.reserve(who, order, cause=cause)
            book.settle([answer for answer in answers.values() if isinstance(answer, Reservation)])
            spent_s, cpu_s = spent_s + time.perf_counter() - began, cpu_s + time.process_time() - cpu
            charged += len(who)
        singles = [
            timed(lambda n=number: book.reserve([names[n]], order, cause=f"alone/{n}")) for number in range(SINGLE)
        ]
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        size = path.stat().st_size
    with contextlib.closing(Ledger.open(path, policy, now=time.time)) as book:
        times, query_cpu, first = queries(lambda n: book.epsilon(names[n]), devices)
        check = timed(lambda: _sound(book.verify().problems))
    return _row(
        "device", devices, charged, len(order), size, (spent_s, cpu_s), singles, times, (query_cpu, first), check
    )


def bench_server(devices: int, rounds: int, database: Database, size_of: Callable[[], int], name: str) -> Row:
    """The server's ledger."""
    policy = document()
    order = planned(policy)
    migrations.migrate(database)
    ledger = ServerLedger(database, policy)
    identities = [number.to_bytes(32, "big") for number in range(devices)]
    charged, spent_s, cpu_s = 0, 0.0, 0.0
    for cause, members in cohorts(devices, rounds):
        who = [identities[number] for number in members]
        began, cpu = time.perf_counter(), time.process_time()
        ledger.reserve("run", cause, order, who)
        ledger.settle(cause, who)
        spent_s, cpu_s = spent_s + time.perf_counter() - began, cpu_s + time.process_time() - cpu
        charged += len(who)
    singles = [
        timed(lambda n=number: ledger.reserve("run", f"alone/{n}", order, [identities[n]])) for number in range(SINGLE)
    ]
    size = size_of()
    ledger = ServerLedger(database, policy)
    times, query_cpu, first = queries(lambda n: ledger.epsilon(identities[n]), devices)
    check = timed(lambda: _sound(verify(ledger).problems))
    return _row(
        f"server, {name}",
        devices,
        charged,
        len(order),
        size,
        (spent_s, cpu_s),
        singles,
        times,
        (query_cpu, first),
        check,
    )


def _sound(problems: Sequence[str]) -> None:
    if problems:
        raise RuntimeError(problems[0])


def _row(  # noqa: PLR0917 - the columns, in their order
    name: str,
    devices: int,
    charged: int,
    releases: int,
    size: int,
    append_s: tuple[float, float],
    singles: list[float],
    times: list[float],
    query_s: tuple[float, float],
    check: float,
) -> Row:
    return Row(
        ledger=name,
        devices=devices,
        reservations=charged,
        releases=charged * releases,
        mib=round(size / MIB, 1),
        bytes_per_reservation=round(size / charged, 1),
        append_us=round(append_s[0] / charged * 1e6, 2),
        append_cpu_us=round(append_s[1] / charged * 1e6, 2),
        append_one_by_one_ms=round(statistics.median(singles) * 1e3, 3),
        query_us_median=round(statistics.median(times) * 1e6, 1),
        query_us_p99=round(times[int(len(times) * 0.99)] * 1e6, 1),
        query_cpu_us=round(query_s[0] * 1e6, 1),
        first_query_ms=round(query_s[1] * 1e3, 2),
        verify_s=round(check, 1),
    )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="reticent-bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _sqlite(devices: int, rounds: int, folder: Path) -> Row:
    path = folder / "server.db"
    with contextlib.closing(open_database(f"sqlite:///{path}")) as database:

        def size() -> int:
            with database.engine.connect() as connection:
                connection.exec_driver_sql("ROLLBACK")
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
                connection.exec_driver_sql("BEGIN")
            return path.stat().st_size

        return bench_server(devices, rounds, database, size, "SQLite")


def _postgres(devices: int, rounds: int) -> Row:
    """On a throw-away cluster (its disk is not synchronised, so times are a lower bound)."""
    from tests.service import postgres

    with postgres.cluster() as folder, contextlib.closing(open_database(postgres.url(folder, "postgres"))) as database:

        def size() -> int:
            with database.engine.connect() as connection:
                value = connection.exec_driver_sql("SELECT pg_database_size('postgres')").scalar_one()
            return int(value)

        return bench_server(devices, rounds, database, size, "PostgreSQL")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--quick", action="store_true", help="20,000 devices")
    parser.add_argument("--devices", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=8, help="each device takes part in half of them")
    parser.add_argument("--postgres", action="store_true", help="the server's ledger on PostgreSQL too, if it is here")
    options = parser.parse_args()
    devices = 20_000 if options.quick else options.devices
    rows = []
    with _folder() as folder:
        rows.append(bench_device(devices, options.rounds, folder))
        rows.append(_sqlite(devices, options.rounds, folder))
    if options.postgres:
        rows.append(_postgres(devices, options.rounds))
    for name in Row.__dataclass_fields__:
        print(f"{name:<24}" + "".join(f"{getattr(row, name)!s:>22}" for row in rows))
    if options.json:
        machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
        options.json.parent.mkdir(parents=True, exist_ok=True)
        figures = {"machine": machine, "ledger": [asdict(row) for row in rows]}
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
