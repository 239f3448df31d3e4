"""A throw-away Flower deployment on loopback: a SuperLink, SuperNodes, ``flwr run --stream``, nothing left behind.

Flower starts each SuperExec in a session of its own, so a process group does not hold the tree: every process inherits
a marker in its environment instead, and ``stop`` looks for the marker in /proc (Linux).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.ports import held_ports

ROOT = Path(__file__).resolve().parents[2]
MARKER = "RETICENT_LAB_MARKER"
QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
    "OMP_NUM_THREADS": "1",
}
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def _flower_home(pid: int) -> str:
    with contextlib.suppress(OSError):
        for one in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if one.startswith(b"FLWR_HOME="):
                return one.decode(errors="replace").partition("=")[2]
    return ""


@dataclass(frozen=True)
class Finished:
    """What a run left: ``status`` comes from ``flwr list``, never from the exit code, which is 0 for a failed run."""

    run_id: str
    status: str
    details: str
    log: str


class Lab:
    """A deployment, or with ``simulation_nodes`` the simulation engine, as a context manager.

    Args of the constructor:
        home: where everything it writes goes.
        server: environment of the SuperLink, hence of the ServerApp (and of simulated clients).
        nodes: environment and node directory of each SuperNode.
        simulation_nodes: nodes of the simulation engine instead.
    """

    def __init__(
        self,
        home: Path,
        *,
        server: Mapping[str, str],
        nodes: Sequence[tuple[Path, Mapping[str, str]]] = (),
        simulation_nodes: int = 0,
    ) -> None:
        self._home, self._server, self._nodes, self._simulated = home.resolve(), server, nodes, simulation_nodes
        self._bin = Path(sys.executable).parent  # not resolve(): that would leave the virtual environment
        self._marker = secrets.token_hex(8)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RETICENT_", "PYTHON"))}
        path = f"{self._bin}{os.pathsep}{os.environ['PATH']}"
        self._env = {**inherited, **QUIET, MARKER: self._marker, "PATH": path}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._link = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _spawn(self, name: str, *args: str, env: Mapping[str, str]) -> None:
        home = self._home / name
        cwd = home / "cwd"  # neutral: a folder with client/ or server/ in it would win over the bundle
        cwd.mkdir(parents=True)
        with (self._home / f"{name}.log").open("wb") as out:
            self._processes[name] = subprocess.Popen(
                [str(self._bin / args[0]), *args[1:]],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**self._env, "FLWR_HOME": str(home), **env},
            )

    def _start(self) -> None:
        with held_ports(1 + len(self._nodes)) as (self._link, *runtime):
            self._start_on(runtime)

    def _start_on(self, runtime: Sequence[int]) -> None:
        """The SuperLink on its port, and a SuperNode on each of these."""
        cli = self._home / "cli"
        cli.mkdir(parents=True)
        (cli / "config.toml").write_text(
            f'[superlink]\ndefault = "lab"\n[superlink.lab]\naddress = "127.0.0.1:{self._link}"\ninsecure = true\n'
        )
        mode = ["--simulation"] if self._simulated else ["--disable-runtime-dependency-installation"]
        link = ["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(self._link), *mode]
        self._spawn("superlink", *link, env=self._server)
        self._healthy(self._link)
        for index, port in enumerate(runtime):
            self._start_node(f"supernode{index}", index, port)
        for port in runtime:
            self._healthy(port)

    def _start_node(self, name: str, index: int, port: int) -> None:
        directory, env = self._nodes[index]
        address = ["--superlink", f"127.0.0.1:{self._link}", "--host", "127.0.0.1", "--port", str(port)]
        config = ["--node-config", f'data-path="{directory}"']
        self._spawn(name, "flower-supernode", "--insecure", *address, *config, env=env)

    def kill_node(self, index: int) -> list[int]:
        """SIGKILL to a SuperNode and to all it started; their ids."""
        node = self._processes.pop(f"supernode{index}")
        family = [pid for pid in self.survivors() if str(self._home / f"supernode{index}") in _flower_home(pid)]
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait(timeout=60)
        return family

    def revive_node(self, index: int) -> None:
        """A fresh SuperNode over the same node directory."""
        name = f"supernode{index}-again"
        with held_ports() as (port,):
            self._start_node(name, index, port)
            self._healthy(port)

    def _healthy(self, port: int, patience_s: float = 180.0) -> None:
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if any(one.poll() is not None for one in self._processes.values()):
                raise RuntimeError("a Flower process ended early: " + self.logs()[-3000:])
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1.0):
                return
            time.sleep(0.1)
        raise TimeoutError(f"port {port} is not healthy after {patience_s} s")

    def _flwr(self, *args: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self._bin / "flwr"), *args],
            cwd=self._home,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
            check=False,
            env={**self._env, "FLWR_HOME": str(self._home / "cli")},
        )

    def submit(self, config: str = "", *, timeout_s: float = 400.0, stream: bool = True) -> tuple[str, str]:
        """``flwr run``; its run id and what it printed."""
        extra = ["--run-config", config] if config else []
        if self._simulated:
            nodes = f"num-supernodes={self._simulated} client-resources-num-cpus=1 init-args-num-cpus=2"
            extra += ["--federation-config", nodes]
        following = ["--stream"] if stream else []
        done = self._flwr("run", str(ROOT), "lab", *following, *extra, timeout_s=timeout_s)
        text = ANSI.sub("", done.stdout + done.stderr)
        found = re.search(r"Successfully started run (\d+)", text)
        if found is None:
            raise RuntimeError(f"flwr run was refused: {text}")
        return found[1], text

    def run(self, config: str = "", *, timeout_s: float = 400.0) -> Finished:
        """Submit the app, follow it to its end, and ask what became of it."""
        run_id, text = self.submit(config, timeout_s=timeout_s)
        return self.finished(run_id, text)

    def finished(self, run_id: str, text: str = "", *, patience_s: float = 90.0) -> Finished:
        """Wait for the end of a run; the stream may end a moment before the status is written."""
        until = time.monotonic() + patience_s
        while True:
            listed = self._flwr("list", "lab", "--run-id", run_id, "--format", "json", timeout_s=60)
            entry = json.loads(listed.stdout)["runs"][0]
            if entry["status"].startswith("finished"):
                return Finished(run_id, entry["status"], entry["status-details"], text)
            if time.monotonic() > until:
                raise TimeoutError(f"run {run_id} is {entry['status']}: {self.logs()[-3000:]}")
            time.sleep(0.5)

    def logs(self) -> str:
        """All that the processes have printed."""
        return "".join(f"== {path.stem}\n{path.read_text(errors='replace')}" for path in self._home.glob("*.log"))

    def kill(self, needle: str) -> list[int]:
        """SIGKILL to those of our processes whose command line holds ``needle``; their ids."""
        killed = []
        for pid in self.survivors():
            with contextlib.suppress(OSError):
                if needle.encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)
        return killed

    def survivors(self) -> list[int]:
        """Ids of processes that carry our marker: ours, whatever session they moved to."""
        needle, pids = f"{MARKER}={self._marker}".encode(), []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                with contextlib.suppress(OSError):
                    if needle in (entry / "environ").read_bytes().split(b"\0"):
                        pids.append(int(entry.name))
        return pids

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.survivors():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self) -> None:
        """SIGTERM to all that carry the marker, 15 s of grace, then SIGKILL."""
        self._signal(signal.SIGTERM)
        until = time.monotonic() + 15.0
        while self.survivors() and time.monotonic() < until:
            for one in self._processes.values():
                one.poll()  # reaps
            time.sleep(0.1)
        self._signal(signal.SIGKILL)
        for one in self._processes.values():
            one.wait(timeout=60)
        self._processes.clear()
