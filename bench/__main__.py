"""``python -m bench``: every measurement, one after the other; about two hours on two cores for all households."""

from __future__ import annotations

import subprocess
import sys

PARTS = (
    ["bench.training", "--json", "var/bench/training.json"],
    ["bench.secagg", "--json", "var/bench/secagg.json"],
    ["bench.ledger", "--json", "var/bench/ledger.json"],
    ["bench.cohort", "--json", "var/bench/cohort.json"],
    ["bench.transparency", "--out", "var/bench/transparency.json"],
    ["bench.peak"],
    ["bench.quality", "--seeds", "3"],
    ["bench.utility", "--seeds", "5"],
)


def main() -> int:
    """Run all parts; the number of parts that failed is the exit status."""
    failed = 0
    for part in PARTS:
        print(f"\n== {part[0]} ==", flush=True)
        failed += subprocess.run([sys.executable, "-m", *part], check=False).returncode != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
