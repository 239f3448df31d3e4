"""Ports for processes that tests start: free, and kept so until the process listens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager


@contextmanager
def held_ports(count: int = 1) -> Iterator[list[int]]:
    """Ports on loopback that the system gives to nobody else within the block.

    They are bound and not listened on, so a server that sets SO_REUSEADDR (uvicorn does) can take them over meanwhile.
    """
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", 0))
        yield [int(one.getsockname()[1]) for one in held]
