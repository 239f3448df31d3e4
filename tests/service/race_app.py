"""Applications that the race test serves with two uvicorn workers: the real one, and one that remembers permits.

Both say in a header which worker answered, on both ways; nothing else differs from what ``reticent server serve`` does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from server.api.app import create_app
from server.api.connection import Connection
from server.api.services import Services

CACHE_S = 0.25
WORKER_HEADER = "x-worker"
Message = MutableMapping[str, Any]


class Named(Connection):
    """Names the worker in answers that no application sends."""

    def _head(self) -> bytes:
        return super()._head() + b"%b: %d\r\n" % (WORKER_HEADER.encode(), os.getpid())


def real() -> Callable[..., Any]:
    """The service."""
    return _named(create_app())


def cached() -> Callable[..., Any]:
    """The service with one mistake: it believes for 250 ms what it has read about a person."""
    os.environ["RETICENT_SEQUENCER"] = "off"  # the mistake is made in the workers, so they have to commit
    app = create_app()
    _remember(app.state.services)
    return _named(app)


def _remember(services: Services) -> None:
    judge, known = services.decisions.journal._committer._judge, dict[str, tuple[float, Any]]()
    ask = judge._gate

    def judged(handle: str, state: Any, purpose: Any) -> Any:  # noqa: ANN401 - whatever the service takes
        held = known.get(handle)
        if held is None or time.monotonic() - held[0] > CACHE_S:
            known[handle] = held = (time.monotonic(), ask(handle, state, purpose))
        return held[1]

    judge._gate = judged


def _named(app: Callable[..., Any]) -> Callable[..., Any]:
    worker = str(os.getpid()).encode()

    async def serve(scope: Message, receive: Any, send: Any) -> None:  # noqa: ANN401 - ASGI
        async def name(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (WORKER_HEADER.encode(), worker)]
            await send(message)

        await app(scope, receive, name if scope["type"] == "http" else send)

    return serve
