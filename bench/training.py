"""Time and memory of one virtual device's local training, by family, profile and number of records.

    python -m bench.training [--json PATH] [--rows 1000] [--numbers 40]

Each row is measured in a process of its own, so that memory one configuration freed does not hide what the next takes.
"Peak extra" is what training adds to the resident memory of a process that holds the trainer, the weights and the
examples and has trained one record before. On CUDA the accelerator's own peak is given too.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.model.examples import Examples
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.privacy.parameters import RecordDpParameters
from common.taxonomy import FeatureBlock, ModelFamily, Profile
from common.wire.messages import ModelSpec

if TYPE_CHECKING:
    from client.training.local import LocalTrainer
    from common.model.arrays import Vector

RECORDS = (200, 430, 7_800)  # a light, a median and the heaviest household
FIELDS = 12
SECONDS_PER_ROW = 2.0
MIB = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """One row to measure."""

    family: ModelFamily
    profile: Profile
    records: int
    rows: int
    numbers: int


@dataclass(frozen=True)
class Row:
    """One measured row."""

    family: str
    profile: str
    records: int
    weights: int
    ms_median: float
    ms_fastest: float
    peak_extra_mib: float
    peak_cuda_mib: float | None
    device: str
    noise: str


def make_spec(rows: int, numbers: int) -> FeatureSpec:
    """Half the columns personal, as in a real specification."""
    blocks = (FeatureBlock.CONTEXT, FeatureBlock.PERSONAL)
    return FeatureSpec(
        name="bench",
        version=1,
        categorical=tuple(
            CategoricalField(name=f"c{i}", block=blocks[i % 2], buckets=max(rows // FIELDS, 2)) for i in range(FIELDS)
        ),
        numeric=tuple(NumericField(name=f"x{i}", block=blocks[i % 2]) for i in range(numbers)),
    )


def make_examples(spec: FeatureSpec, count: int) -> Examples:
    """Random examples: their content changes neither time nor memory."""
    import numpy as np

    rng = np.random.default_rng(0)
    ids = spec.offsets + rng.integers(0, spec.categorical[0].buckets, (count, FIELDS))
    numbers = rng.normal(size=(count, len(spec.numeric))).clip(-3, 3).astype(np.float32)
    labels = (rng.random(count) < 0.1).astype(np.float32)
    return Examples(ids, numbers, labels, np.zeros(count), spec.digest)


def make_trainer(case: Case, spec: FeatureSpec) -> tuple[LocalTrainer, Vector]:
    """The trainer of one round and the weights it starts from."""
    from client.training.local import LocalTrainer
    from common.model.arrays import flatten
    from common.model.network import initial_arrays
    from common.privacy.randomness import SecureNoise

    model = ModelSpec(family=case.family, spec_digest=spec.digest, base_rate=0.1)
    parameters = RecordDpParameters(
        clipping_norm=1.0,
        noise_multiplier=4.0,
        sampling_rate=1.0,
        local_steps=1,
        expected_batch_size=300.0,
        learning_rate=0.1,
    )
    trainer = LocalTrainer(
        model=model, spec=spec, parameters=parameters, profile=case.profile, rng=SecureNoise(), simulation=True
    )
    return trainer, flatten(initial_arrays(model, spec))


def measure(case: Case) -> Row:
    """Measure one configuration in this (fresh) process."""
    import torch

    torch.set_num_threads(1)
    spec = make_spec(case.rows, case.numbers)
    trainer, start = make_trainer(case, spec)
    examples = make_examples(spec, case.records)
    trainer.train(start, make_examples(spec, 1))
    before = reset_peak_bytes()
    trainer.train(start, examples)
    peak = peak_bytes() - before
    times: list[float] = []
    while not times or (sum(times) < SECONDS_PER_ROW and len(times) < 200):
        began = time.perf_counter()
        trainer.train(start, examples)
        times.append(time.perf_counter() - began)
    on_cuda = trainer.device.type == "cuda"
    return Row(
        family=case.family.value,
        profile=case.profile.value,
        records=case.records,
        weights=start.size,
        ms_median=round(statistics.median(times) * 1e3, 2),
        ms_fastest=round(min(times) * 1e3, 2),
        peak_extra_mib=round(max(peak, 0) / MIB, 1),
        peak_cuda_mib=round(torch.cuda.max_memory_allocated() / MIB, 1) if on_cuda else None,
        device=torch.cuda.get_device_name() if on_cuda else "CPU, 1 thread",
        noise=trainer.rng.label,
    )


def reset_peak_bytes() -> int:
    """Forget the peak of resident memory where the system can (Linux); the bytes held now, or the peak so far."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return peak_bytes()


def peak_bytes() -> int:
    """Peak of resident memory since the last reset."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="ascii").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def cases(rows: int, numbers: int) -> list[Case]:
    """All rows of the table."""
    return [
        Case(family, profile, records, rows, numbers)
        for family in ModelFamily
        for profile in (Profile.RECORD_LOCAL, Profile.NON_PRIVATE)  # the others train the same way
        for records in RECORDS
    ]


def run(rows: int, numbers: int) -> list[Row]:
    """Measure and print row by row."""
    print(
        f"{'family':<16} {'profile':<13} {'records':>7} {'weights':>8} {'ms median':>10} {'fastest':>8} {'peak MiB':>9}"
    )
    measured: list[Row] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        for row in pool.map(measure, cases(rows, numbers)):
            measured.append(row)
            print(
                f"{row.family:<16} {row.profile:<13} {row.records:>7,} {row.weights:>8,} {row.ms_median:>10.2f} "
                f"{row.ms_fastest:>8.2f} {row.peak_extra_mib:>9.1f}",
                flush=True,
            )
    print(f"device: {measured[0].device}; noise: {measured[0].noise}; one step a round, {FIELDS} fields")
    return measured


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Time and memory of one virtual device's local training.")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--rows", type=int, default=1000, help="rows of the shared table")
    parser.add_argument("--numbers", type=int, default=40, help="numeric features")
    options = parser.parse_args(arguments)
    # One device trains on one core; inherited by the measured processes before torch reads it.
    os.environ["OMP_NUM_THREADS"] = "1"
    measured = run(options.rows, options.numbers)
    if options.json:
        machine = {"python": platform.python_version(), "system": platform.system(), "cores": os.cpu_count()}
        document = {"machine": machine, "training": [asdict(row) for row in measured]}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
