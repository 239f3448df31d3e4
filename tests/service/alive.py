"""A service on loopback in this process, on a port of the system's choosing."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from server.api.app import create_app
from server.api.connection import Connection
from server.api.services import Services


@contextmanager
def alive(services: Services) -> Iterator[str]:
    """Its address, for as long as it is served."""
    app = create_app(services=services)
    server = uvicorn.Server(uvicorn.Config(app, http=Connection, access_log=False, log_level="warning", ws="none"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
