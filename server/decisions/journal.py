"""Decisions on their way into the database, out of one process. Owns batches and who waits for them.

Decisions that arrive while a batch is being committed make up the next one: no timer, no delay added. One thread
commits (``committing``).
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from server.decisions.committing import BATCH_MAX, Committer, Entry

Owned = tuple[Entry, asyncio.AbstractEventLoop | None]
"""An entry, and the event loop in which its owner is told; None where the owner has a thread of its own."""


class Journal:
    """Commits the decisions of one process in a thread of its own."""

    def __init__(self, committer: Committer) -> None:
        """Use ``committer``, from here alone."""
        self._committer = committer
        self._lock, self._busy = threading.Lock(), False
        self._open: deque[Owned] = deque()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="decisions")

    def submit(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
        """Put an entry into the open batch; who waits is told in this event loop once what became of it is known."""
        if self._add(entry, loop):
            loop.call_soon(self._begin)  # after whatever else is ready, which then shares the batch

    def record(self, entry: Entry, timeout_s: float | None = None) -> bool:
        """The same for a caller with a thread of its own: whether it is known in time; else the entry is abandoned."""
        done = entry.waiting = threading.Event()
        if self._add(entry, None):
            self._begin()
        done.wait(timeout_s)
        entry.abandoned = not entry.known
        return entry.known

    def _add(self, entry: Entry, loop: asyncio.AbstractEventLoop | None) -> bool:
        """Whether somebody has to begin the batch."""
        with self._lock:
            self._open.append((entry, loop))
            begin, self._busy = not self._busy, True
        return begin

    def _begin(self) -> None:
        self._writer.submit(self._run)

    def _run(self) -> None:
        """Commit batches until none is open."""
        while True:
            with self._lock:
                batch = [self._open.popleft() for _ in range(min(len(self._open), BATCH_MAX))]
                self._busy = bool(batch)
            if not batch:
                return
            try:
                self._committer.commit([entry for entry, _ in batch])
            finally:
                _tell(batch)


def _tell(batch: Sequence[Owned]) -> None:
    """Wake everybody who waits; those of one event loop together."""
    loops: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
    for one, loop in batch:
        one.known = True
        if isinstance(one.waiting, threading.Event):
            one.waiting.set()
        elif loop is not None:
            loops.setdefault(loop, []).append(one)
    for loop, waiting in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake, waiting)


def wake(entries: Sequence[Entry]) -> None:
    """Tell those who still wait in this event loop: each once, whether it is known or their time is over."""
    for one in entries:
        waiting, one.waiting = one.waiting, None
        if callable(waiting):
            waiting()
