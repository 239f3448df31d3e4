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
    ["bench.measurement"],
    ["bench.pacing"],
    ["bench.decisions"],
    ["bench.decisions_kill"],
    ["bench.decisions_kill", "--app", "behind"],
    ["bench.peak"],
    ["bench.private_pick", "--json", "var/bench/private_pick.json"],
    ["bench.quality", "--seeds", "3"],
    ["bench.utility", "--seeds", "5"],
    ["bench.placement_value", "--seeds", "5"],
    ["bench.off_policy", "--logs", "500"],
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
