"""Peak memory of a command and everything it starts: by default the demonstration.

    python -m bench.peak [--json PATH] [-- reticent demo --devices 500]

Proportional set size (shared pages counted once) of the whole process tree, from /proc, ten times a second.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

CACHE = Path("var/bench/cache")
DEFAULT = ["reticent", "demo", "--out", "var/bench/demo", "--cache", str(CACHE)]


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(status.parent.name))
    found, queue = [], [root]
    while queue:
        pid = queue.pop()
        found.append(pid)
        queue += children.get(pid, [])
    return found


def proportional_mib(pid: int) -> float:
    """Proportional set size of one process; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def main() -> None:
    """Run the command and print its peak."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--json", type=Path, default=Path("var/bench/peak.json"))
    parser.add_argument("command", nargs="*", default=DEFAULT)
    arguments = parser.parse_args()
    command = [shutil.which(arguments.command[0], path=Path(sys.executable).parent) or arguments.command[0]]
    if arguments.command == DEFAULT:
        shutil.rmtree(CACHE, ignore_errors=True)  # building the population is part of the peak
    began = time.monotonic()
    process = subprocess.Popen([*command, *arguments.command[1:]])
    peak, largest = 0.0, 0.0
    while process.poll() is None:
        sizes = [proportional_mib(pid) for pid in tree(process.pid)]
        peak, largest = max(peak, sum(sizes)), max(largest, *sizes)
        time.sleep(0.1)
    row = {
        "command": " ".join(arguments.command),
        "seconds": round(time.monotonic() - began, 1),
        "peak_mib_all_processes": round(peak),
        "peak_mib_largest_process": round(largest),
        "exit_status": process.returncode,
    }
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(row, indent=1))
    for name, value in row.items():
        print(f"{name:<26} {value}")
    sys.exit(process.returncode)


if __name__ == "__main__":
    main()
