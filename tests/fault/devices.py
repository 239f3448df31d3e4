"""One real process per device, some of which are killed while they work. Speaks as the simulation's workers do.

A killed device stays dead: what it is sent is answered by the link, as a SuperLink would answer in its place.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Self

from flwr.app import Context, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.common.serde import context_to_proto
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from cli.simulation import ROOT, _decode, _encode, _patched_environment, _serve
from common.taxonomy import Stage

APP = "tests.fault.secagg_app:app"
AFTER_ANSWERING = -1.0


@dataclass
class Plan:
    """Which node is killed in which stage, and how long after it was asked (0 s: before; -1: once it answered)."""

    victims: Mapping[int, tuple[Stage, float]] = field(default_factory=dict)

    @staticmethod
    def draw(nodes: Sequence[int], kills: int, seed: int, stages: Sequence[Stage] = tuple(Stage)) -> Plan:
        """``kills`` different nodes, each with a random stage and moment."""
        chance = random.Random(seed)
        moments = (0.0, AFTER_ANSWERING, chance.uniform(0.001, 0.02), chance.uniform(0.02, 0.3))
        return Plan({node: (chance.choice(stages), chance.choice(moments)) for node in chance.sample(nodes, kills)})


class DeviceProcesses(Grid):
    """A grid of one process per node directory, forked from one that has everything imported."""

    run = None  # type: ignore[assignment]
    set_run = create_message = send_and_receive = None  # type: ignore[assignment]

    def __init__(self, directories: Sequence[Path], environment: Mapping[str, str], plan: Plan | None = None) -> None:
        self.plan, self.killed = plan or Plan(), set[int]()
        self._environment, self._replies = dict(environment), dict[str, Message]()
        self._processes: dict[int, BaseProcess] = {}
        self._pipes: dict[int, Connection] = {}
        self._asked: dict[int, Message] = {}
        self._timers: list[threading.Timer] = []
        self._contexts = {
            100 + i: Context(1, 100 + i, {"data-path": str(directory)}, RecordDict(), {})
            for i, directory in enumerate(directories)
        }
        self._before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)

    def __enter__(self) -> Self:
        processes = multiprocessing.get_context("forkserver")
        processes.set_forkserver_preload(["tests.fault.secagg_app"])
        with _patched_environment(self._environment):  # the process that is forked from reads it when it starts
            for node in self._contexts:
                self._pipes[node], theirs = processes.Pipe()
                self._processes[node] = processes.Process(target=_begin, args=(theirs, self._environment), daemon=True)
                self._processes[node].start()
                theirs.close()
        for pipe in self._pipes.values():
            assert pipe.recv_bytes() == b"ready"
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = self._before
        for timer in self._timers:  # a quick round may be over before the last kill is due
            timer.join()
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.join()

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def context(self, run_config: Mapping[str, object]) -> Context:
        """The server's context."""
        return Context(1, 1, {}, RecordDict(), dict(run_config))  # type: ignore[arg-type]

    def alive(self) -> int:
        """Processes that run."""
        return sum(process.is_alive() for process in self._processes.values())

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            node, stage = message.metadata.dst_node_id, message.metadata.message_type.removeprefix("train.")
            message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
            ids.append(message.metadata.message_id)
            self._asked[node] = message
            at, when = self.plan.victims.get(node, (None, 0.0))
            if at is not None and at.value == stage and when == 0.0:
                self._kill(node)
            with suppress(OSError):  # it is dead: the end of its pipe says so
                self._pipes[node].send_bytes(context_to_proto(self._contexts[node]).SerializeToString())
                self._pipes[node].send_bytes(_encode(message))
            if at is not None and at.value == stage and when > 0:
                self._timers.append(threading.Timer(when, self._kill, [node]))
                self._timers[-1].start()
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        waiting = {self._pipes[node]: node for node in self._asked}
        for pipe in wait(list(waiting), 0.05) if waiting else []:
            node = waiting[pipe]  # type: ignore[index]
            asked = self._asked.pop(node)
            try:
                pipe.recv_bytes()  # type: ignore[union-attr] - the context, of which nothing is kept
                reply = _decode(pipe.recv_bytes())  # type: ignore[union-attr]
            except (EOFError, OSError):
                reply = Message(Error(ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding."), reply_to=asked)
            else:
                at, when = self.plan.victims.get(node, (None, 0.0))
                if at is not None and asked.metadata.message_type == f"train.{at.value}" and when == AFTER_ANSWERING:
                    self._kill(node)
            self._replies[asked.metadata.message_id] = reply
        return [self._replies.pop(one) for one in list(message_ids) if one in self._replies]

    def _kill(self, node: int) -> None:
        pid = self._processes[node].pid
        if node not in self.killed and pid is not None:
            self.killed.add(node)
            os.kill(pid, signal.SIGKILL)


DeviceProcesses.__abstractmethods__ = frozenset()  # the rest of Flower's interface is not used by our strategy


def _begin(pipe: Connection, environment: Mapping[str, str]) -> None:
    os.environ.update(environment)
    _serve(pipe, str(ROOT), APP)
