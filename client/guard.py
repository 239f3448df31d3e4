"""The runtime guard. Owns the refusal of every way out of the process while raw behaviour is in hand.

Python tells its audit hooks (PEP 578) before a socket is connected, a process started or a library loaded, whoever's
code does it. While a thread is inside ``with sealed():``, neither it nor any other thread may do such a thing, whatever
some dependency tries; only threads that run the transport's own code (``_TRANSPORTS``) keep their connections, so that
a node stays in touch while it trains. The door sends after the region has ended. A hook cannot be removed again: it is
installed once, at first use, and returns at once outside the region.

This stops accidents and ordinary libraries, not hostile native code, which need not tell Python what it does.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from common.errors import EgressRefused
from common.taxonomy import RefusalReason

_FORBIDDEN: Final = frozenset({
    "_posixsubprocess.fork_exec",
    "ctypes.dlopen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
    "syslog.syslog",
    "webbrowser.open",
})  # fmt: skip
_FORBIDDEN_FAMILIES: Final = ("ftplib.", "http.client.", "imaplib.", "nntplib.", "poplib.", "smtplib.", "socket.",
                              "telnetlib.", "urllib.")  # fmt: skip


_TRANSPORTS: Final = ("flwr", "grpc", "ray")

_HOLDERS: Final[dict[int, int]] = {}
"""Threads that hold raw behaviour, and how often each said so."""
_LOCK: Final = threading.Lock()
_installed = False


@contextmanager
def sealed() -> Iterator[None]:
    """While inside, this process reaches no network, starts no other process, and loads no library.

    Raises:
        EgressRefused: from whatever is tried, in the thread that tries it, before it happens.
    """
    me = threading.get_ident()
    _enter(me)
    try:
        yield
    finally:
        with _LOCK:
            _HOLDERS[me] -= 1
            if not _HOLDERS[me]:
                del _HOLDERS[me]


def _enter(thread: int) -> None:
    global _installed  # noqa: PLW0603 - once per process: a hook cannot be taken back
    with _LOCK:
        if not _installed:
            sys.addaudithook(_hook)
            _installed = True
        _HOLDERS[thread] = _HOLDERS.get(thread, 0) + 1


def _hook(event: str, _arguments: tuple[object, ...]) -> None:
    if not _HOLDERS or not (event in _FORBIDDEN or event.startswith(_FORBIDDEN_FAMILIES)):
        return
    if threading.get_ident() in _HOLDERS or not _is_transport(sys._getframe()):  # noqa: SLF001 - who asks?
        raise EgressRefused(RefusalReason.NOT_DECLARED)


def _is_transport(frame: FrameType | None) -> bool:
    """Whether the code that is running was called by the transport."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _TRANSPORTS:
            return True
        frame = frame.f_back
    return False
