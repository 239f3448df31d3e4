"""A client that calls an application in this process and waits for its answer."""

from __future__ import annotations

import asyncio

import httpx
from fastapi import FastAPI


class Http:
    """Requests without a socket."""

    def __init__(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://service")
        self._runner = asyncio.Runner()

    def request(self, method: str, path: str, **more: object) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: object) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: object) -> httpx.Response:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: object) -> httpx.Response:
        return self.request("PUT", path, **more)

    def delete(self, path: str, **more: object) -> httpx.Response:
        return self.request("DELETE", path, **more)

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
