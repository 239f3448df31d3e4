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


class Journal:
    """Commits the decisions of one process in a thread of its own."""

    def __init__(self, committer: Committer) -> None:
        """Use ``committer``, from here alone."""
        self._committer = committer
        self._lock, self._busy = threading.Lock(), False
        self._open: deque[Entry] = deque()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="decisions")

    def submit(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        """Put an entry into the open batch; done once what became of it is known."""
        done: asyncio.Future[None] = loop.create_future()
        entry.waiting = done
        if self._add(entry):
            loop.call_soon(self._begin)  # after whatever else is ready, which then shares the batch
        return done

    def take_over(self, entries: Sequence[Entry], loop: asyncio.AbstractEventLoop) -> None:
        """Put entries into the open batch whose owners wait already."""
        for entry in entries:
            if self._add(entry):
                loop.call_soon(self._begin)

    def record(self, entry: Entry, timeout_s: float | None = None) -> bool:
        """The same for a caller with a thread of its own: whether it is known in time; else the entry is abandoned."""
        done = entry.waiting = threading.Event()
        if self._add(entry):
            self._begin()
        done.wait(timeout_s)
        entry.abandoned = not entry.known
        return entry.known

    def _add(self, entry: Entry) -> bool:
        """Whether somebody has to begin the batch."""
        with self._lock:
            self._open.append(entry)
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
                self._committer.commit(batch)
            finally:
                _tell(batch)


def _tell(batch: Sequence[Entry]) -> None:
    """Wake everybody who waits; those of one event loop together."""
    loops: dict[asyncio.AbstractEventLoop, list[Entry]] = {}
    for one in batch:
        one.known = True
        if isinstance(one.waiting, threading.Event):
            one.waiting.set()
        elif one.waiting is not None:
            loops.setdefault(one.waiting.get_loop(), []).append(one)
    for loop, waiting in loops.items():
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake, waiting)


def wake(entries: Sequence[Entry]) -> None:
    """Wake those who still wait in this event loop."""
    for one in entries:
        if isinstance(one.waiting, asyncio.Future) and not one.waiting.done():
            one.waiting.set_result(None)
