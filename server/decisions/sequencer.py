"""The process that commits the decisions of all workers of an installation on SQLite. Owns its socket and its turns.

    python -m server.decisions.sequencer

Workers start it when they need it (``line``); it goes when the last of them has gone. Each turn commits, in one
transaction, what all workers have sent meanwhile. SQLite has one writer at a time: here it need not be fought for, and
what was read of people and versions stays read until somebody else changes something.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from common.errors import ReticentError
from policies.consent import decide
from policies.loader import load
from policies.schema import PurposesPolicy
from server.decisions.committing import BATCH_MAX, Committer, Entry
from server.decisions.frames import CODE, FrameError, Hello, Inbox, answered, read_asked, read_greeting
from server.decisions.judging import Judge
from server.decisions.line import reachable
from server.settings import Settings
from server.storage import open_database

ALONE_S: Final = 30.0
"""How long it waits for a first worker."""
_ANSWER_S: Final = 5.0
_READ_BYTES: Final = 1 << 18
_LOG = logging.getLogger(__name__)


class Worker:
    """A connected worker."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.inbox, self.greeted = connection, Inbox(), False


class Sequencer:
    """Takes what workers send, commits it, and tells them.

    Args of the constructor:
        listening: the socket that workers connect to.
        committer: commits.
        hello: what a worker must say to be committed for.
    """

    def __init__(self, listening: socket.socket, committer: Committer, hello: Hello) -> None:
        self._listening, self._committer, self._hello = listening, committer, hello
        self._selector = selectors.DefaultSelector()
        self._selector.register(listening, selectors.EVENT_READ)
        self._workers = 0

    def run(self) -> None:
        """Until the last worker has gone, or none came."""
        try:
            self._serve()
        finally:  # whoever has connected meanwhile and was not heard
            for key in list(self._selector.get_map().values()):
                if isinstance(key.data, Worker):
                    self._leave(key.data)
            self._selector.close()

    def _serve(self) -> None:
        end = time.monotonic() + ALONE_S
        served = False
        while self._workers or (not served and time.monotonic() < end):
            waiting: list[tuple[Worker, list[Entry]]] = []
            for key, _ in self._selector.select(None if self._workers else 1.0):
                if key.fileobj is self._listening:
                    self._accept()
                else:
                    waiting += [(key.data, entries) for entries in self._received(key.data)]
            served = served or self._workers > 0
            self._turn(waiting)

    def _accept(self) -> None:
        connection, _ = self._listening.accept()
        connection.settimeout(_ANSWER_S)
        self._selector.register(connection, selectors.EVENT_READ, Worker(connection))

    def _received(self, worker: Worker) -> list[list[Entry]]:
        """The batches that a worker has sent; whoever hangs up, sends anything else, or has other rules, is left."""
        try:
            data = worker.connection.recv(_READ_BYTES)
            found = [self._read(worker, frame) for frame in worker.inbox.frames(data)]
        except OSError:
            data, found = b"", []
        except FrameError as error:
            _LOG.warning("a worker is left: %s", error)
            data, found = b"", []
        if not data:
            self._leave(worker)
        return [batch for batch in found if batch]

    def _read(self, worker: Worker, frame: bytes) -> list[Entry]:
        """A frame's entries; a worker's first frame has none."""
        if worker.greeted:
            return read_asked(frame)
        if read_greeting(frame) != self._hello:
            raise FrameError("it decides by other rules")
        worker.greeted = True
        self._workers += 1
        return []

    def _turn(self, waiting: list[tuple[Worker, list[Entry]]]) -> None:
        """Commit batches, together as far as they go into one, and tell their workers."""
        while waiting:
            turn = [waiting.pop(0)]
            size = len(turn[0][1])
            while waiting and size + len(waiting[0][1]) <= BATCH_MAX:
                turn.append(waiting.pop(0))
                size += len(turn[-1][1])
            self._committer.commit([one for _, entries in turn for one in entries])
            for worker, entries in turn:
                try:
                    worker.connection.sendall(answered(entries))
                except OSError:
                    self._leave(worker)

    def _leave(self, worker: Worker) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(worker.connection)
            self._workers -= worker.greeted
        worker.connection.close()


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket | None]:
    """The installation's socket; None while another process has it."""
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield None
            return
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX) as opened:
            before = os.umask(0o177)  # nobody but this user may say what was decided
            try:
                with reachable(path) as address:
                    opened.bind(address)
            finally:
                os.umask(before)
            opened.listen(64)
            try:
                yield opened
            finally:
                path.unlink(missing_ok=True)
    finally:
        os.close(lock)


def greeting_of(settings: Settings, rules: str) -> Hello:
    """What workers of this installation say."""
    return Hello(CODE, settings.database_url, rules)


def judge_of(purposes: PurposesPolicy) -> Judge:
    """The gate of the purposes document, by the clock."""
    return Judge(lambda _handle, state, purpose: decide(state, purpose, time.time(), purposes), purposes.heeds_gpc)


def main() -> int:
    """Serve the workers of the installation that the environment names."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # it goes after its workers, who still have to answer
    settings = Settings.from_env()
    try:
        with listening(settings.sequencer_socket) as opened:
            if opened is None:
                return 0
            loaded = load(settings.policies, prove=False)  # by the workers, before they start
            database = open_database(settings.database_url)
            try:
                committer = Committer(database, judge_of(loaded.policies.purposes), time.time)
                Sequencer(opened, committer, greeting_of(settings, loaded.digests["purposes"])).run()
            finally:
                database.close()
    except (ReticentError, OSError) as error:
        _LOG.error("decisions have no sequencer: %s", type(error).__name__)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
