"""A worker's line to the sequencer. Owns batches on their way there, and what happens when it cannot be reached.

Without a sequencer (it starts, it died, it decides by other rules) the worker's own journal commits: a transaction of
either checks everything, so it never matters who commits. What was on its way when the line broke is not known to be
recorded, and is answered so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Self, cast

from server.decisions.committing import BATCH_MAX, Entry
from server.decisions.frames import CODE, FrameError, Hello, Inbox, asked, greeting, settle
from server.decisions.journal import Journal, wake
from server.settings import Settings
from server.storage import BUSY_TIMEOUT_MS

PATH_MAX: Final = 100
"""Bytes of a socket's path; systems take little more."""
SILENCE_S: Final = BUSY_TIMEOUT_MS / 1000 + 5
"""How long a batch may take; longer than the sequencer waits for the database."""
_FAREWELL_S: Final = 1.0
_RETRY_S: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_LOG = logging.getLogger(__name__)


class Line(asyncio.Protocol):
    """One connection to the sequencer: one batch on its way at a time, the next fills meanwhile."""

    def __init__(self, hello: Hello, journal: Journal) -> None:
        """Say ``hello``; leave to ``journal`` what was not sent when the line breaks."""
        self._hello, self._journal = hello, journal
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._open: deque[Entry] = deque()
        self._sent: list[Entry] = []
        self._begun = False
        self._inbox = Inbox()
        self._alarm: asyncio.TimerHandle | None = None
        self.lost: Final[asyncio.Future[None]] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(greeting(self._hello))

    def submit(self, entry: Entry) -> None:
        """Put an entry into the open batch; who waits is told once what became of it is known."""
        self._open.append(entry)
        if not self._begun:
            self._begun = True
            self._loop.call_soon(self._send)  # after whatever else is ready, which then shares the batch

    def data_received(self, data: bytes) -> None:
        """What became of the batch that was on its way."""
        try:
            for frame in self._inbox.frames(data):
                sent, self._sent = self._sent, []
                self._told(frame, sent)
        except FrameError as error:
            _LOG.error("the sequencer is not understood: %s", error)
            self.close()

    def connection_lost(self, _error: Exception | None) -> None:
        """What was sent is not known to be recorded; what was not is left to the journal."""
        self._silence(None)
        sent, self._sent = self._sent, []
        if not self.lost.done():
            self.lost.set_result(None)
        self._leave()
        _known(sent)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()

    def _told(self, frame: bytes, sent: list[Entry]) -> None:
        self._silence(None)
        try:
            settle(frame, sent)
            self._send()  # the sequencer works on while this batch is answered
        finally:
            _known(sent)

    def _send(self) -> None:
        """Send the open batch, unless one is on its way."""
        if self.lost.done():
            self._leave()
            return
        if self._sent or self._transport is None or self._transport.is_closing():
            return
        batch: list[Entry] = []
        while self._open and len(batch) < BATCH_MAX:
            if not (one := self._open.popleft()).abandoned:
                batch.append(one)
        self._begun = bool(batch)
        if not batch:
            return
        self._sent = batch
        self._silence(self._loop.call_later(SILENCE_S, self.close))
        self._transport.write(asked(batch))

    def _leave(self) -> None:
        """What was not sent is left to the journal, and so is what still comes before the keeper has heard of it."""
        left, self._begun = list(self._open), False
        self._open.clear()
        for entry in left:
            self._journal.submit(entry, self._loop)

    def _silence(self, alarm: asyncio.TimerHandle | None) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = alarm


class Dispatcher:
    """Hands entries to whoever commits: keeps the line to the sequencer, and starts one where none answers.

    Args of the constructor:
        settings: of this installation; they say whether a sequencer is wanted.
        rules: digest of the purposes document.
        journal: commits while there is no line.
    """

    def __init__(self, settings: Settings, rules: str, journal: Journal) -> None:
        self._settings, self._journal = settings, journal
        self._hello = Hello(CODE, settings.database_url, rules)
        self._line: Line | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        """Whether batches go to a sequencer now."""
        return self._line is not None

    def submit(self, entry: Entry, loop: asyncio.AbstractEventLoop) -> None:
        """Put an entry into the open batch; who waits is told in this event loop once what became of it is known."""
        if self._line is None:
            self._journal.submit(entry, loop)
        else:
            self._line.submit(entry)

    async def __aenter__(self) -> Self:
        """Keep a line from now on, where this installation wants a sequencer and can have one."""
        settings = self._settings
        lite = settings.database_url.startswith("sqlite") and ":memory:" not in settings.database_url
        if settings.sequencer and lite:
            self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Hang up; without its last worker the sequencer goes."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._keeper
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self._process.wait, _FAREWELL_S)

    async def _keep(self) -> None:
        """Connect, and again whenever the line breaks, until cancelled."""
        path = self._settings.sequencer_socket
        tries = 0
        try:
            while True:
                line = await self._connected(path)
                if line is None:
                    self._start()
                else:
                    self._line, tries = line, 0
                    await line.lost
                    self._line = None
                await asyncio.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
                tries += 1
        finally:
            if self._line is not None:
                self._line.close()
                self._line = None

    async def _connected(self, path: Path) -> Line | None:
        with contextlib.suppress(OSError):
            loop = asyncio.get_running_loop()
            with reachable(path) as address:
                _, line = await loop.create_unix_connection(lambda: Line(self._hello, self._journal), address)
            return line
        return None

    def _start(self) -> None:
        """Start a sequencer; if another one runs or starts already, this one goes by itself."""
        if self._process is not None and self._process.poll() is None:
            return
        command = [sys.executable, "-m", "server.decisions.sequencer"]
        try:
            self._process = subprocess.Popen(command, env=self._settings.environment(), stdin=subprocess.DEVNULL)
        except OSError as error:
            _LOG.error("no sequencer could be started: %s", type(error).__name__)


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A socket's path as the system takes it: by way of its folder where it is too long (on Linux)."""
    if len(os.fsencode(path)) <= PATH_MAX:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def _known(entries: list[Entry]) -> None:
    for one in entries:
        one.known = True
    wake(entries)
