"""The simulation: the very same ServerApp and ClientApp on a few warm worker processes, without Flower's runtime.

Every message crosses a pipe as the bytes of Flower's own protobuf form: nothing is shared, nothing is pickled, and
neither side can change what the other holds. Contexts cross the same way, so only ``context.state`` survives a message.

Kept as in Flower 1.41: error codes and their (leaky) reasons, ``src_node_id`` 1 for errors that the link itself makes,
one message at a time per node, a message that expires is never started and its reply never delivered, and the client
that was running goes on to its end. Different: processes are warm (module state survives), nodes of one worker wait
for each other, a dead worker is noticed at once (Flower needs 60 to 80 s), polling costs nothing. Uses internals of
Flower, which is why its version is pinned.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import re
import signal
import sys
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from flwr.app import Context, Error, Message, Metadata, RecordDict
from flwr.app.message import make_message
from flwr.app.user_config import UserConfig
from flwr.common.constant import SUPERLINK_NODE_ID, ErrorCode
from flwr.common.serde import context_from_proto, context_to_proto, message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Context as ProtoContext
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.constant import SYSTEM_MESSAGE_TYPE
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from common.errors import MalformedInput

if TYPE_CHECKING:
    from server.rounds.measuring import Measured
    from server.rounds.training import FinishedTraining, Observer
    from server.settings import Settings

ROOT: Final = Path(__file__).resolve().parent.parent
CLIENT_APP: Final = "client.app:app"
_TASK_ID: Final = 1


def _encode(message: Message) -> bytes:
    return bytes(message_to_proto(message).SerializeToString())


def _decode(data: bytes) -> Message:
    return message_from_proto(ProtoMessage.FromString(data))


def _serve(pipe: Connection, app_dir: str, reference: str) -> None:
    """Worker: context bytes and message bytes in, context bytes and reply bytes out, until an empty frame."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    sys.path.insert(0, app_dir)
    module, _, attribute = reference.partition(":")
    client_app = getattr(import_module(module), attribute)
    with suppress(EOFError, BrokenPipeError):  # the parent is gone: so are we
        pipe.send_bytes(b"ready")
        while frame := pipe.recv_bytes():
            context = context_from_proto(ProtoContext.FromString(frame))
            message = _decode(pipe.recv_bytes())
            TaskIdentity.run_id, TaskIdentity.node_id = context.run_id, context.node_id
            try:
                reply = client_app(message=message, context=context)
            except Exception as error:  # noqa: BLE001 - what Flower's own runner does, text and all
                reason = f"{type(error)}:<'{error}'>"
                reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)
            reply.metadata.__dict__["_message_id"] = uuid.uuid4().hex
            pipe.send_bytes(context_to_proto(context).SerializeToString())
            pipe.send_bytes(_encode(reply))
    gc.freeze()  # nothing to collect at the end: leaving takes 0.4 s instead of 2 s with torch loaded


@dataclass
class _Worker:
    """One process, its end of the pipe, what waits for it and the id of what it is doing."""

    process: multiprocessing.process.BaseProcess
    pipe: Connection
    waiting: deque[str] = field(default_factory=deque)
    busy: str | None = None
    ready: bool = False


class InProcessGrid(Grid):
    """Drives ``client_app`` (a reference such as ``client.app:app``) on the nodes described by ``node_configs``.

    Node i lives in worker i modulo ``workers``. Use it as a context manager: leaving it ends the workers.
    """

    def __init__(
        self,
        app_dir: Path,
        client_app: str,
        node_configs: Sequence[Mapping[str, str | int | float | bool]],
        *,
        run_config: UserConfig,
        environment: Mapping[str, str],
        run_id: int = 1,
        workers: int = 2,
    ) -> None:
        self._app_dir, self._reference = str(app_dir.resolve()), client_app
        self._environment = {"OMP_NUM_THREADS": "1", **environment}  # one core per worker
        self._run = Run.create_empty(run_id)
        self._identity = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)  # noqa: SLF001
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = _TASK_ID, run_id, SUPERLINK_NODE_ID
        self._workers = [self._start_worker() for _ in range(min(workers, len(node_configs)))]
        self._home: dict[int, int] = {}  # node -> worker
        self._contexts: dict[int, bytes] = {}
        for index, config in enumerate(node_configs):
            # As Flower's: spread over 64 bits, above the signed range half of the time. Here also repeatable.
            node_id = int.from_bytes(hashlib.sha256(f"{run_id}/{index}".encode()).digest()[:8])
            context = Context(run_id, node_id, dict(config), RecordDict(), dict(run_config))
            self._home[node_id] = index % len(self._workers)
            self._contexts[node_id] = context_to_proto(context).SerializeToString()
        self._sent: dict[str, tuple[bytes, Metadata]] = {}  # accepted, no reply pulled yet
        self._replies: dict[str, Message] = {}  # by the id of the message they answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self, grace: float = 2.0) -> None:
        """Let idle workers leave by themselves, end the others, forget the task identity."""
        for worker in self._workers:
            with suppress(OSError):
                if worker.busy is None:
                    worker.pipe.send_bytes(b"")
                else:
                    worker.process.terminate()
        for worker in self._workers:
            worker.process.join(grace)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()
        self._workers.clear()
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = self._identity  # noqa: SLF001

    def _start_worker(self) -> _Worker:
        processes = multiprocessing.get_context("spawn")  # a forked child would share torch's threads and our pipes
        ours, theirs = processes.Pipe()
        process = processes.Process(target=_serve, args=(theirs, self._app_dir, self._reference), daemon=True)
        with _patched_environment(self._environment):  # inherited: torch reads it before our first line runs
            process.start()
        theirs.close()  # so that its death reaches us as the end of the stream
        return _Worker(process, ours)

    def set_run(self, run: Run) -> None:
        """Set the run (the framework asks for it; its id must be the one the nodes were built with)."""
        if run.run_id != self._run.run_id:
            raise ValueError("the nodes of this grid belong to another run")
        self._run = run

    @property
    def run(self) -> Run:
        """A copy of the run's description."""
        return Run(**vars(self._run))

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Deprecated in the framework; the constructor of ``Message`` does the same."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """All nodes, always online, in the order of their configurations."""
        return list(self._home)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue a private copy of each message and return the ids that were given to them."""
        ids: list[str] = []
        self._sent = {key: sent for key, sent in self._sent.items() if not self._expired(sent[1])}
        for message in messages:
            meta = message.metadata
            if meta.ttl <= 0 or meta.reply_to_message_id:
                raise ValueError(f"not a message that can be sent: {meta}")
            meta.__dict__["_message_id"] = message_id = uuid.uuid4().hex
            ids.append(message_id)
            self._sent[message_id] = (_encode(message), message.metadata)
            if (home := self._home.get(meta.dst_node_id)) is None:
                self._refuse(message_id, ErrorCode.NODE_UNAVAILABLE, "Error: Node Unavailable")
            else:
                self._workers[home].waiting.append(message_id)
        self._pump(0.0)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that have arrived, each once; an error for every message that is unknown or has expired."""
        self._pump(0.0)
        pulled = []
        for message_id in message_ids:
            known = self._sent.get(message_id)
            if known is None or self._expired(known[1]):
                self._refuse(message_id, ErrorCode.MESSAGE_UNAVAILABLE, "Error: Message Unavailable")
            if reply := self._replies.pop(message_id, None):
                self._sent.pop(message_id, None)
                pulled.append(reply)
        return pulled

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, then collect until every message is answered or ``timeout`` seconds have passed."""
        end = None if timeout is None else time.monotonic() + timeout
        missing = set(self.push_messages(messages))
        replies: list[Message] = []
        while missing and (end is None or time.monotonic() < end):
            for reply in self.pull_messages(missing):
                missing.discard(reply.metadata.reply_to_message_id)
                replies.append(reply)
            if missing:
                self._pump(0.1 if end is None else max(0.0, min(0.1, end - time.monotonic())))
        return replies

    @staticmethod
    def _expired(meta: Metadata) -> bool:
        return time.time() > meta.created_at + meta.ttl

    def _refuse(self, message_id: str, code: int, reason: str) -> None:
        """Answer in the name of the link, shaped as the SuperLink's own errors."""
        meta = Metadata(
            run_id=self._run.run_id,
            message_id=uuid.uuid4().hex,
            src_node_id=SUPERLINK_NODE_ID,
            dst_node_id=SUPERLINK_NODE_ID,
            reply_to_message_id=message_id,
            group_id="",
            created_at=time.time(),
            ttl=0.0,
            message_type=SYSTEM_MESSAGE_TYPE,
        )
        meta.delivered_at = ""
        self._replies[message_id] = make_message(metadata=meta, error=Error(code, reason))

    def _pump(self, patience: float) -> None:
        """Give idle workers their next message, then take in whatever arrives within ``patience`` seconds.

        A worker gets a message only while it is reading, so neither side can block on a full pipe.
        """
        for index, worker in enumerate(list(self._workers)):
            while worker.ready and worker.busy is None and worker.waiting:
                message_id = worker.waiting.popleft()
                if message_id not in self._sent or self._expired(self._sent[message_id][1]):
                    continue  # never started
                data, meta = self._sent[message_id]
                worker.busy = message_id
                try:
                    worker.pipe.send_bytes(self._contexts[meta.dst_node_id])
                    worker.pipe.send_bytes(data)
                except OSError:
                    self._bury(index)
        for ready in wait([worker.pipe for worker in self._workers], patience):
            index = next(i for i, worker in enumerate(self._workers) if worker.pipe is ready)
            worker = self._workers[index]
            try:
                context = worker.pipe.recv_bytes()
                if not worker.ready:
                    worker.ready = True
                    continue
                reply = worker.pipe.recv_bytes()
            except (EOFError, OSError):
                self._bury(index)
                continue
            answered, worker.busy = worker.busy, None
            message = _decode(reply)
            self._contexts[message.metadata.src_node_id] = context
            if answered in self._sent:  # else it expired and the server has been told
                self._replies[answered] = message

    def _bury(self, index: int) -> None:
        """A worker died: its message fails, the rest of its queue goes to a fresh one."""
        old = self._workers[index]
        old.pipe.close()
        old.process.join()
        if not old.ready:
            raise RuntimeError(f"a worker could not load {self._reference} (exit code {old.process.exitcode})")
        if old.busy is not None and (known := self._sent.get(old.busy)) is not None:
            error = Error(ErrorCode.CLIENT_APP_CRASHED, "ClientApp stopped responding.")
            self._replies[old.busy] = Message(error, reply_to=_decode(known[0]))
        self._workers[index] = self._start_worker()
        self._workers[index].waiting = old.waiting


@contextmanager
def _patched_environment(values: Mapping[str, str]) -> Iterator[None]:
    """The environment with ``values`` in it, as it was afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def node_directories(nodes_dir: Path) -> list[Path]:
    """The node directories ``node-0``, ``node-1`` … in the order of their numbers."""
    found = [path for path in nodes_dir.iterdir() if re.fullmatch(r"node-\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("node-")))


def simulate(
    run_config: Mapping[str, str | int | float | bool],
    nodes_dir: Path,
    *,
    settings: Settings,
    observer: Observer | None = None,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
    grid_type: type[InProcessGrid] = InProcessGrid,
) -> FinishedTraining:
    """Run one training over the node directories in ``nodes_dir``; what ``flwr run`` does, in this process.

    Args:
        run_config: keys of ``[tool.flwr.app.config]``; a missing one has the same default as there.
        nodes_dir: holds ``node-0``, ``node-1`` …, each with any number of devices.
        settings: the server's.
        observer: sees every committed round; its figures of the last one are stored with the model.
        workers: client processes.
        environment: variables of the client processes (RETICENT_SIMULATION, RETICENT_POLICIES …).
        grid_type: for tests that listen in.

    Raises:
        MalformedInput: there are no node directories.
        ReticentError: whatever ended the training, by name.
    """
    from server.app import train
    from server.rounds.training import watch_nothing

    with _grid(run_config, nodes_dir, workers, environment, grid_type) as (grid, context):
        return train(grid, context, settings=settings, observer=observer or watch_nothing)


def simulate_measurement(
    run_config: Mapping[str, str | int | float | bool],
    nodes_dir: Path,
    *,
    settings: Settings,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
) -> Measured:
    """One paid release (run-config key ``task``) over the node directories in ``nodes_dir``; arguments as ``simulate``.

    Raises:
        MalformedInput: there are no node directories.
        ReticentError: whatever ended it, by name.
    """
    from server.app import measure

    with _grid(run_config, nodes_dir, workers, environment, InProcessGrid) as (grid, context):
        return measure(grid, context, settings=settings)


@contextmanager
def _grid(
    run_config: Mapping[str, str | int | float | bool],
    nodes_dir: Path,
    workers: int,
    environment: Mapping[str, str] | None,
    grid_type: type[InProcessGrid],
) -> Iterator[tuple[InProcessGrid, Context]]:
    config: UserConfig = dict(run_config)
    nodes = [{"data-path": str(path.resolve())} for path in node_directories(nodes_dir)]
    if not nodes:
        raise MalformedInput("there is no node-0, node-1 … in the directory of nodes; build a population first")
    with grid_type(ROOT, CLIENT_APP, nodes, run_config=config, environment=environment or {}, workers=workers) as grid:
        yield grid, Context(grid.run.run_id, SUPERLINK_NODE_ID, {}, RecordDict(), dict(config))
