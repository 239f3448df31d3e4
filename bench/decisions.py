"""What a decision costs: ``POST /v1/decisions`` against a bare FastAPI endpoint that only validates the same body.

    python -m bench.decisions [--rounds 5] [--seconds 2] [--out FILE]

All servers run at once, each on core 0; the load comes from core 1 (``wrk``, 64 connections, one body per person and
page), in alternating rounds, so that what else the machine does falls on all of them. The sequencer, which commits for
all workers, shares core 1 with the load. The service does all of its work: key, limits, consent of the person re-read
in the committing transaction, g over 200 creatives of 10 campaigns with frequency caps, pacing coins (half of the
campaigns are paced) and the arm of a running experiment, tokens, and a commit with full sync before the answer.

* ``refused``: people who said no: contextual answers with tokens. This is the row that the bar is about.
* ``given``: people who said yes: a signed permit (Ed25519) for the device instead of tokens.
* ``nobody``: requests without a handle.

Figures: requests per second and CPU of the workers per request (utime + stime), as ratios to the bare endpoint in the
same round (median over rounds); the sequencer's CPU per request beside it, and the ratio with it; latency at half of
the own maximum with Poisson arrivals (``bench/poisson.c``, compiled here), measured from the scheduled arrival; and the
same with two workers on both cores.
The control, one ORM session per request, is measured for what it is worth. Exit status 1 below the bar.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from server.api.connection import CLASS as CONNECTION

CONNECTIONS: Final = 64
BAR_X: Final = 1.5
BAR_P99_X: Final = 5.0
PAGES: Final = 50
KINDS: Final = ("refused", "nobody", "given")
_TICK_S: Final = 1 / os.sysconf("SC_CLK_TCK")
_LUA: Final = """
local lines, formatted, n = {}, {}, 0
for line in io.lines("%s") do lines[#lines + 1] = line end
init = function()
  local headers = {["Authorization"] = "Bearer %s", ["Content-Type"] = "application/json"}
  for i, body in ipairs(lines) do formatted[i] = wrk.format("POST", "/v1/decisions", headers, body) end
end
request = function() n = n %% #formatted + 1; return formatted[n] end
done = function(summary, latency)
  io.write(string.format('\\nRESULT {"requests":%%d,"us":%%d,"bad":%%d}\\n',
    summary.requests, summary.duration, summary.errors.status + summary.errors.read + summary.errors.timeout))
end
"""


@dataclass(frozen=True)
class Server:
    """One running server."""

    name: str
    port: int
    pid: int

    def cpu_s(self) -> tuple[float, float]:
        """CPU seconds of the server with its workers, and of the sequencer, so far."""
        everybody, sequencing = _tree(self.pid), set(self.sequencers())
        own = sum(_ticks(pid) for pid in everybody if pid not in sequencing)
        return own * _TICK_S, sum(_ticks(pid) for pid in sequencing) * _TICK_S

    def sequencers(self) -> list[int]:
        """Those of its processes that commit."""
        return [pid for pid in _tree(self.pid) if b"server.decisions.sequencer" in _command(pid)]


@dataclass(frozen=True)
class Round:
    """One burst of load."""

    per_s: float
    cpu_us: float
    commit_us: float
    bad: int


@dataclass(frozen=True)
class Latency:
    """Open-loop latency at a rate, in milliseconds."""

    rate: float
    p50: float
    p99: float
    p999: float


class Load:
    """Bodies on disk and what sends them."""

    def __init__(self, folder: Path, world: Mapping[str, Any], seconds: float) -> None:
        self._folder, self._key, self._seconds = folder, world["key"], seconds
        for kind in KINDS:
            people = world.get(kind, [None])
            bodies = [_body(people[number % len(people)], number) for number in range(1_000)]
            (folder / f"{kind}.txt").write_text("\n".join(bodies) + "\n", encoding="utf-8")
            (folder / f"{kind}.lua").write_text(_LUA % (folder / f"{kind}.txt", self._key), encoding="utf-8")
        self._poisson = folder / "poisson"
        source = Path(__file__).with_name("poisson.c")
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is not None:
            subprocess.run([compiler, "-O2", "-o", str(self._poisson), str(source), "-lm"], check=True)

    def warm(self, server: Server, kind: str, times: int = 1) -> None:
        """Every page once, so that what is made once is made; on connections of their own, for every worker."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        for line in (self._folder / f"{kind}.txt").read_text(encoding="utf-8").splitlines()[:PAGES] * times:
            url = f"http://127.0.0.1:{server.port}/v1/decisions"
            urllib.request.urlopen(urllib.request.Request(url, line.encode(), headers), timeout=60).close()

    def burst(self, server: Server, kind: str, *, core: str = "1") -> Round:
        """As much as it takes, closed loop."""
        command = ["taskset", "-c", core, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{self._seconds:g}s", "-s"]
        before = server.cpu_s()
        told = subprocess.run(
            [*command, str(self._folder / f"{kind}.lua"), f"http://127.0.0.1:{server.port}"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        after = server.cpu_s()
        found = json.loads(told.rpartition("RESULT ")[2])
        requests = max(1, found["requests"])
        own, commit = ((b - a) / requests * 1e6 for a, b in zip(before, after, strict=True))
        return Round(requests / (found["us"] / 1e6), own, commit, found["bad"])

    def half(self, server: Server, kind: str, rate: float, seed: int) -> Latency | None:
        """Open loop at a rate; None without a C compiler."""
        if not self._poisson.exists():
            return None
        seconds = max(self._seconds, 2.0)
        where = ["127.0.0.1", str(server.port), f"{rate:.0f}", f"{seconds:g}", "256"]
        what = [self._key, str(self._folder / f"{kind}.txt"), str(seed)]
        command = ["taskset", "-c", "1", str(self._poisson), *where, *what]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = json.loads(told)
        if found["errors"] or found["dropped"]:
            raise RuntimeError(f"{server.name}: {told}")
        return Latency(rate, found["p50_us"] / 1e3, found["p99_us"] / 1e3, found["p999_us"] / 1e3)


@contextlib.contextmanager
def serving(app: str, state: Path, *, workers: int = 1, core: str = "0") -> Iterator[Server]:
    """A server of ``bench.decisions_apps``, warm."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RETICENT_")} | {
        "RETICENT_STATE_DIR": str(state),
        "RETICENT_RATE_LIMITS": "app_backend=1000000000/60",
        "OMP_NUM_THREADS": "1",
    }
    module = "bench.decisions_bare" if app == "bare" else "bench.decisions_apps"
    http = "auto" if app == "bare" else CONNECTION  # as ``reticent server serve`` has it
    command = ["taskset", "-c", core, sys.executable, "-m", "uvicorn", f"{module}:{app}", "--factory", "--http", http]
    options = ["--port", str(port), "--no-access-log", "--log-level", "warning", "--timeout-keep-alive", "75"]
    process = subprocess.Popen(
        [*command, *options, *(["--workers", str(workers)] if workers > 1 else [])],
        env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        _wait(port, process)
        server = Server(f"{app}{workers if workers > 1 else ''}", port, process.pid)
        if app == "real":
            _apart(server, {1} if workers == 1 else {0, 1}, workers)
        yield server
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)


def measure(load: Load, state: Path, *, rounds: int, naive: bool = True) -> dict[str, Any]:
    """Every figure."""
    found: dict[str, Any] = {}
    with serving("bare", state) as bare, serving("real", state) as real:
        for kind in KINDS:
            load.warm(real, kind, 2)
            load.burst(real, kind)
            pairs = [(load.burst(bare, kind), load.burst(real, kind)) for _ in range(rounds)]
            found[kind] = _ratios(pairs)
        found["half_load"] = _half_loads(load, bare, real, found, rounds)
    if naive:
        with serving("naive", state) as control, serving("bare", state) as bare:
            load.burst(control, "refused")
            pairs = [(load.burst(bare, "refused"), load.burst(control, "refused")) for _ in range(2)]
            found["naive"] = _ratios(pairs)
    with serving("bare", state, workers=2, core="0,1") as bare, serving("real", state, workers=2, core="0,1") as real:
        load.warm(real, "refused", 6)
        load.burst(real, "refused", core="0,1")
        pairs = [
            (load.burst(bare, "refused", core="0,1"), load.burst(real, "refused", core="0,1")) for _ in range(rounds)
        ]
        found["two_workers"] = _ratios(pairs)
    return found


def _half_loads(load: Load, bare: Server, real: Server, found: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    """Latency of both at half of their own maximum, alternating; the best window of each counts."""
    rates = {"bare": found["refused"]["bare"]["per_s"] / 2, "real": found["refused"]["real"]["per_s"] / 2}
    windows: dict[str, list[Latency]] = {"bare": [], "real": []}
    for number in range(rounds):
        for server in (bare, real):
            window = load.half(server, "refused", rates[server.name], number)
            if window is None:
                return {}
            windows[server.name].append(window)
    best = {name: min(some, key=lambda w: w.p99) for name, some in windows.items()}
    middle = {name: statistics.median(w.p99 for w in some) for name, some in windows.items()}
    return {
        **{name: asdict(window) for name, window in best.items()},
        "p99_x": best["real"].p99 / best["bare"].p99,
        "p99_x_of_medians": middle["real"] / middle["bare"],
    }


def _ratios(pairs: Sequence[tuple[Round, Round]]) -> dict[str, Any]:
    """Medians over rounds; ratios of each round by itself first. Above 1 is better than bare."""
    if any(one.bad for pair in pairs for one in pair):
        raise RuntimeError("requests failed")

    def middle(figures: Iterator[float]) -> float:
        return statistics.median(figures)

    sides = {
        name: {
            "per_s": middle(pair[index].per_s for pair in pairs),
            "cpu_us": middle(pair[index].cpu_us for pair in pairs),
            "commit_us": middle(pair[index].commit_us for pair in pairs),
        }
        for index, name in enumerate(("bare", "real"))
    }
    return {
        **sides,
        "x_per_s": middle(real.per_s / bare.per_s for bare, real in pairs),
        "x_cpu": middle(bare.cpu_us / real.cpu_us for bare, real in pairs),
        "x_cpu_with_commits": middle(bare.cpu_us / (real.cpu_us + real.commit_us) for bare, real in pairs),
        "rounds": len(pairs),
    }


def table(found: Mapping[str, Any]) -> str:
    """What people read."""
    heads = ("bare req/s", "req/s", "x", "bare us", "CPU us", "x", "sequencer", "x of both")
    lines = [f"{'':12}" + "".join(f"{head:>11}" for head in heads)]
    for name in (*KINDS, "naive", "two_workers"):
        if name in found:
            one = found[name]
            lines.append(
                f"{name:12}{one['bare']['per_s']:11.0f}{one['real']['per_s']:11.0f}{one['x_per_s']:11.2f}"
                f"{one['bare']['cpu_us']:11.0f}{one['real']['cpu_us']:11.0f}{one['x_cpu']:11.2f}"
                f"{one['real']['commit_us']:11.0f}{one['x_cpu_with_commits']:11.2f}"
            )
    if found.get("half_load"):
        half = found["half_load"]
        lines += [
            "half load, {}: {rate:.0f}/s, p50 {p50:.2f}, p99 {p99:.2f} ms".format(name, **half[name])
            for name in ("bare", "real")
        ]
        lines.append(f"p99 is {half['p99_x']:.1f}x bare's (best windows), {half['p99_x_of_medians']:.1f}x (medians)")
    return "\n".join(lines)


def _body(handle: str | None, number: int) -> str:
    body: dict[str, Any] = {
        "slots": [{"slot_id": "home-top", "count": 1}],
        "context": {
            "page": f"page-{number % PAGES}",
            "section": "recipes",
            "device": "phone",
            "app_version": "7.31.0",
            "depth": 3,
        },
        "locale": "en",
        "signals": {"gpc": False},
    }
    return json.dumps(body if handle is None else {"handle": handle, **body})


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/openapi.json", timeout=30).close()
            return
        time.sleep(0.2)
    raise RuntimeError("the server did not start")


def _ticks(pid: int) -> int:
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0


def _apart(server: Server, cores: set[int], workers: int) -> None:
    """Wait until every worker has found the sequencer, and put it where the load is."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = server.sequencers()
        for pid in found:
            os.sched_setaffinity(pid, cores)
        if len(found) == 1 and _sockets(found[0]) > workers:  # the one it listens on, and one for each worker
            return
        time.sleep(0.2)
    raise RuntimeError("there is no sequencer that all workers have found")


def _sockets(pid: int) -> int:
    """How many sockets a process has open."""
    with contextlib.suppress(OSError):
        links = [str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir()]
        return sum(link.startswith("socket:") for link in links)
    return 0


def _tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(one for child in _children(pid) for one in _tree(child))]


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()]
    return []


def main() -> int:
    """Measure, print, write; 1 below the bar."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench/results/decisions.json"))
    parser.add_argument("--no-naive", action="store_true")
    args = parser.parse_args()
    if shutil.which("wrk") is None or shutil.which("taskset") is None:
        print("decisions: needs wrk and taskset (Debian: apt install wrk util-linux)")
        return 1
    with tempfile.TemporaryDirectory() as name:
        state = Path(name) / "state"
        made = subprocess.run(
            [sys.executable, "-m", "bench.decisions_world", str(state)], capture_output=True, text=True, check=True
        ).stdout
        load = Load(Path(name), json.loads(made), args.seconds)
        found = measure(load, state, rounds=args.rounds, naive=not args.no_naive)
    print(table(found))
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    one, half = found["refused"], found["half_load"]
    held = one["x_cpu"] >= BAR_X and one["x_per_s"] >= BAR_X and (not half or half["p99_x"] <= BAR_P99_X)
    print(f"bar ({BAR_X}x, p99 {BAR_P99_X}x): {'held' if held else 'NOT held'}")
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
