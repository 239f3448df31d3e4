"""Many virtual devices at once: how much faster than one after the other, and than pfl, in one run.

    python -m bench.cohort [--json PATH] [--no-pfl]

Everything runs on one thread and is counted in CPU seconds. Contestants take turns; a ratio is the median over turns
of the ratios inside a turn, so that other work on the machine slows both sides of it; its quartiles over turns stand
beside it. Who goes first changes from turn to turn. A turn of Opacus is 64 devices, one of the cohort 256.

* record level: DP-SGD with 50 records a device, in two views, ``LocalTrainer.train`` (Opacus) against ``.updates``;
* user level: 50 samples a device on an MLP of 4,186 weights, a plain torch loop and pfl 0.6 against ``.deltas``; with
  "5 steps" each takes the next 10 samples, with "1 step" all 50; every update is clipped and the sum
  noised, which is also counted. Samples are made before the clock starts, for all; pfl holds them as tensors, ours are
  checked and joined while it runs. pfl evaluates after round 0 only, which is not counted;
* one DP step on a table of 2^17 rows x 16, 256 records, against plain SGD, with the memory that each adds.

pfl needs ``dp-accounting < 0.6``, so it gets an environment of its own, made on first use.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from bench.training import peak_bytes, reset_peak_bytes
from cli.shows import console, show_table
from client.training.cohort import Cohort
from client.training.datasets import to_records
from client.training.local import MEMORY_BYTES_MAX, LocalTrainer
from client.training.plain_sgd import PlainSgd
from common.model.arrays import Vector, flatten
from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import build_network, initial_arrays, read_vector, write_vector
from common.privacy.clipping import clip_update
from common.privacy.parameters import RecordDpParameters
from common.privacy.randomness import SecureNoise
from common.privacy.updates import ModelDelta
from common.taxonomy import FeatureBlock, ModelFamily, Profile
from common.wire.messages import ModelSpec

OPACUS_DEVICES = 64  # a turn of Opacus
USERS = 1000  # a round of user level
SAMPLES = 50
STEPS = 5
NUMBERS, HIDDEN = 32, 122  # 4,186 weights with the empty tables
PFL = "pfl[pytorch]==0.6.0"
MIB = 1024 * 1024
MARK = "seconds per user:"  # what bench/pfl_worker.py prints


Contestant = Callable[[], float]  # one turn: CPU seconds a device


@dataclass(frozen=True)
class Line:
    """One comparison.

    Attributes:
        per_s, cohort_per_s: devices per CPU second.
        ratio: how many times faster the cohort is, the median over turns.
        ratio_low, ratio_high: its quartiles over turns.
        turns: how many.
        asked: the ratio that was promised; None where it is only for information.
    """

    what: str
    contestant: str
    per_s: float
    cohort_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    turns: int
    asked: float | None


def main(arguments: list[str] | None = None) -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, default=Path("var/bench/cohort.json"))
    parser.add_argument("--no-pfl", action="store_true", help="leave pfl out, and say so")
    parser.add_argument("--pfl-env", type=Path, default=Path("var/bench/pfl-env"))
    parser.add_argument("--turns", type=int, default=15, help="turns of every contestant")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    lines = [
        line for rows in (1 << 10, 1 << 12) for steps in (1, 2) for line in record_level(rows, steps, options.turns)
    ]
    pfl = pfl_python(options)
    lines += [line for steps in (STEPS, 1) for line in user_level(steps, options.turns, pfl)]
    large = {kind: in_a_fresh_process(kind) for kind in ("plain", "cohort")}
    slowdown = large["cohort"]["ms"] / large["plain"]["ms"]
    show(lines, large, slowdown)
    options.json.parent.mkdir(parents=True, exist_ok=True)
    seconds = time.monotonic() - began
    lines_found = [asdict(line) for line in lines]
    document = {"lines": lines_found, "large_table": large, "slowdown": slowdown, "seconds": round(seconds)}
    options.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    console.print(f"JSON: {options.json}; {seconds:.0f} s")


def show(lines: list[Line], large: dict[str, dict[str, float]], slowdown: float) -> None:
    """Print the tables."""
    rows = [
        (
            line.what,
            line.contestant,
            f"{line.per_s:,.0f}",
            f"{line.cohort_per_s:,.0f}",
            f"{line.ratio:.1f}",
            f"{line.ratio_low:.1f} to {line.ratio_high:.1f}",
            f"≥ {line.asked:g}" if line.asked else "",
        )
        for line in lines
    ]
    header = ("what", "against", "its", "ours", "ratio", "quartiles", "asked")
    show_table("Virtual devices per CPU second, one thread", header, rows)
    console.print(
        f"{SAMPLES} records a device, {USERS} devices a round of user level; noise: {SecureNoise.label}", style="dim"
    )
    found = [(kind, f"{figures['ms']:.1f}", f"{figures['extra_mib']:.0f}") for kind, figures in large.items()]
    show_table("One step, 2^17 rows x 16, 256 records", ("engine", "CPU ms", "MiB extra"), found)
    console.print(f"The DP step takes {slowdown:.2f} times the plain one (asked: at most 2.5, and 100 MB extra).")


# ── worlds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def make_spec(fields: int, buckets: int, numbers: int) -> FeatureSpec:
    """Half the columns personal, as in a real specification."""
    blocks = (FeatureBlock.CONTEXT, FeatureBlock.PERSONAL)
    return FeatureSpec(
        name="bench",
        version=1,
        categorical=tuple(CategoricalField(name=f"c{i}", block=blocks[i % 2], buckets=buckets) for i in range(fields)),
        numeric=tuple(NumericField(name=f"x{i}", block=blocks[i % 2]) for i in range(numbers)),
    )


def make_examples(spec: FeatureSpec, count: int, seed: int) -> Examples:
    """Random examples: their content changes no time."""
    rng = np.random.default_rng(seed)
    ids = np.zeros((count, len(spec.categorical)), np.int64)
    for i, field in enumerate(spec.categorical):
        ids[:, i] = spec.offsets[i] + rng.integers(0, field.buckets, count)
    numbers = rng.normal(size=(count, len(spec.numeric))).clip(-3, 3).astype(np.float32)
    return Examples(ids, numbers, (rng.random(count) < 0.3).astype(np.float32), np.zeros(count), spec.digest)


def make_parameters(steps: int, rate: float, batch: float) -> RecordDpParameters:
    """Public constants of a round."""
    return RecordDpParameters(
        clipping_norm=1.0,
        noise_multiplier=4.0,
        sampling_rate=rate,
        local_steps=steps,
        expected_batch_size=batch,
        learning_rate=0.1,
    )


def make_trainer(spec: FeatureSpec, model: ModelSpec, parameters: RecordDpParameters, profile: Profile) -> LocalTrainer:
    """The trainer of one round, on the CPU."""
    return LocalTrainer(
        model=model,
        spec=spec,
        parameters=parameters,
        profile=profile,
        rng=SecureNoise(),
        device=torch.device("cpu"),
        simulation=True,
    )


# ── contestants ──────────────────────────────────────────────────────────────────────────────────────────────────────


def timed(devices: int, run: Callable[[], object]) -> Contestant:
    """A contestant in this process."""

    def turn() -> float:
        began = time.process_time()
        run()
        return (time.process_time() - began) / devices

    return turn


def compare(what: str, ours: Contestant, others: dict[str, tuple[Contestant, float | None]], turns: int) -> list[Line]:
    """Let all take turns, one before to warm up. ``others``: contestant and the ratio promised, by name."""
    contestants = {"": ours, **{name: other for name, (other, _) in others.items()}}
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        in_order = list(contestants.items())
        for name, contestant in in_order if turn % 2 else reversed(in_order):
            seconds = contestant()
            if turn:
                taken[name].append(seconds)
    own = taken.pop("")
    return [line_of((what, name), seconds, own, others[name][1]) for name, seconds in taken.items()]


def line_of(names: tuple[str, str], theirs: list[float], own: list[float], asked: float | None) -> Line:
    """One comparison, from seconds a device of each turn."""
    ratios = [other / mine for other, mine in zip(theirs, own, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    per_s, cohort_per_s = (1 / statistics.median(seconds) for seconds in (theirs, own))
    return Line(*names, per_s, cohort_per_s, ratio, low, high, len(ratios), asked)


def record_level(rows: int, steps: int, turns: int) -> list[Line]:
    """DP-SGD, by Opacus and as a cohort."""
    spec = make_spec(12, rows // 12, 40)
    model = ModelSpec(family=ModelFamily.WIDE_DEEP, spec_digest=spec.digest, base_rate=0.1)
    trainer = make_trainer(spec, model, make_parameters(steps, 1 / steps, SAMPLES / steps), Profile.RECORD_LOCAL)
    start = flatten(initial_arrays(model, spec))
    devices = [make_examples(spec, SAMPLES, seed) for seed in range(256)]
    alone = devices[:OPACUS_DEVICES]
    opacus = timed(len(alone), lambda: [trainer.train(start, one) for one in alone])
    ours = timed(len(devices), lambda: _all(trainer.updates(start, devices)))
    what = f"record level, 2^{rows.bit_length() - 1} rows, {steps} step{'s' * (steps > 1)}"
    return compare(what, ours, {"Opacus": (opacus, 10)}, turns)


def user_level(steps: int, turns: int, pfl: Path | None) -> list[Line]:
    """Plain local SGD, each update clipped and the sum noised: torch's own loop, pfl, and as a cohort."""
    spec, batch = make_spec(0, 2, NUMBERS), SAMPLES // steps
    model = ModelSpec(
        family=ModelFamily.WIDE_DEEP, spec_digest=spec.digest, base_rate=0.1, contextual_weight=0.0, hidden_width=HIDDEN
    )
    start = flatten(initial_arrays(model, spec))
    devices = [make_examples(spec, SAMPLES, seed) for seed in range(USERS)]
    trainer = make_trainer(spec, model, make_parameters(steps, 1 / steps, batch), Profile.USER_DISTRIBUTED)
    network = build_network(model, spec)
    with contextlib.ExitStack() as stack:
        others: dict[str, tuple[Contestant, float | None]] = {
            "torch": (timed(64, lambda: _noised(torch_loop(network, start, devices[:64], batch))), 20),
        }
        if pfl is not None:
            others["pfl 0.6.0"] = (stack.enter_context(pfl_contestant(pfl, batch)), 40)
        others["itself, no clip"] = (timed(len(devices), lambda: _all(trainer.deltas(start, devices))), None)
        ours = timed(len(devices), lambda: _noised(trainer.deltas(start, devices)))
        return compare(f"user level, {steps} step{'s' * (steps > 1)} of {batch}", ours, others, turns)


def torch_loop(network: nn.Module, start: Vector, devices: Iterable[Examples], batch: int) -> Iterable[ModelDelta]:
    """One device after the other, as anybody would write it."""
    for one in devices:
        write_vector(network, start)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        ids, numbers, labels = (torch.from_numpy(array) for array in (one.categorical, one.numeric, one.labels))
        for part in torch.arange(len(one)).split(batch):
            optimizer.zero_grad()
            binary_cross_entropy_with_logits(network(ids[part], numbers[part]), labels[part]).backward()
            optimizer.step()
        yield ModelDelta(read_vector(network) - start)


def _noised(deltas: Iterable[ModelDelta | Exception]) -> Vector:
    """Every update clipped on its own, the sum noised."""
    total: Vector | None = None
    for delta in deltas:
        if isinstance(delta, Exception):
            raise delta
        clipped = clip_update(delta, 1.0).vector
        total = clipped if total is None else np.add(total, clipped, out=total)
    if total is None:
        raise ValueError("no device")
    return np.asarray(total + SecureNoise().gaussian(total.size), np.float64)


def _all(results: Iterable[object]) -> None:
    for result in results:
        if isinstance(result, Exception):
            raise result


def pfl_python(options: argparse.Namespace) -> Path | None:
    """The interpreter of pfl's environment, made if it is not there; None, with a printed reason, without it."""
    if options.no_pfl:
        console.print("pfl: left out, --no-pfl was given")
        return None
    python: Path = options.pfl_env / "bin" / "python"
    try:
        if not python.exists():
            console.print(f"pfl: installing into {options.pfl_env} (once; some minutes)")
            venv.create(options.pfl_env, with_pip=True)
        if subprocess.run([python, "-c", "import pfl, torch"], check=False, capture_output=True).returncode:
            wanted = [PFL, f"torch=={torch.__version__.split('+')[0]}"]
            subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        console.print(f"pfl: left out, {error}")
        return None
    return python


@contextlib.contextmanager
def pfl_contestant(python: Path, batch: int) -> Iterator[Contestant]:
    """The simulator of pfl in a process that trains one round a turn."""
    sizes = {"users": USERS, "samples": SAMPLES, "batch": batch, "numbers": NUMBERS, "hidden": HIDDEN}
    worker_path = Path(__file__).with_name("pfl_worker.py")
    command = [str(python), str(worker_path), *(f"--{name}={size}" for name, size in sizes.items())]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as worker:
        if worker.stdin is None or worker.stdout is None:
            raise RuntimeError("no pipes to the worker")
        stdin, stdout = worker.stdin, worker.stdout

        def answer() -> float:
            for line in stdout:
                if line.startswith(MARK):
                    return float(line.removeprefix(MARK))
            raise RuntimeError("the worker of pfl ended early")

        def turn() -> float:
            stdin.write("\n")
            stdin.flush()
            return answer()

        answer()  # round 0, with pfl's evaluation
        try:
            yield turn
        finally:
            stdin.close()


# ── the large table ──────────────────────────────────────────────────────────────────────────────────────────────────


def in_a_fresh_process(kind: str) -> dict[str, float]:
    """What one engine frees must not hide what the other takes."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(large_table, kind).result()


def large_table(kind: str, steps: int = 8, turns: int = 7) -> dict[str, float]:
    """CPU milliseconds a step and MiB that a training adds, in this (fresh) process; sizes of the design's table."""
    torch.set_num_threads(1)
    spec = make_spec(20, (1 << 17) // 20, 10)
    model = ModelSpec(
        family=ModelFamily.WIDE_DEEP,
        spec_digest=spec.digest,
        base_rate=0.1,
        contextual_weight=0.0,
        hidden_width=64,
        embedding_dim=16,
    )
    start = flatten(initial_arrays(model, spec))
    cpu = torch.device("cpu")
    records = to_records(make_examples(spec, 256, 0), spec, contextual_weight=0.0, device=cpu)
    network = build_network(model, spec)
    parameters = make_parameters(steps, 1.0, 256)
    cohort = Cohort(
        network, parameters, SecureNoise(), spec=spec, views=1, private=True, memory_bytes_max=MEMORY_BYTES_MAX
    )
    plain = PlainSgd(network, parameters)

    def train() -> Vector:
        if kind == "cohort":
            return next(cohort.learn(start, records, [256])).vector
        write_vector(network, start)
        for _ in range(steps):
            plain.step(records)
        return read_vector(network) - start

    before = reset_peak_bytes()
    train()
    extra = peak_bytes() - before
    turn = timed(steps, train)
    return {"ms": statistics.median(turn() for _ in range(turns)) * 1e3, "extra_mib": extra / MIB}


if __name__ == "__main__":
    main(sys.argv[1:])
