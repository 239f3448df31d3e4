"""A client that calls an application in this process and waits for its answer; and how a device signs its calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping

import httpx
from fastapi import FastAPI

from common.crypto.http_signing import sign
from common.crypto.signing import SigningKey


class DeviceAuth(httpx.Auth):
    """Signs every request as a device does; also for a live server: ``httpx.Client(auth=device.auth)``."""

    requires_request_body = True

    def __init__(self, key: SigningKey, handle: str, clock: Callable[[], float] = time.time) -> None:
        self.key, self.handle, self.clock = key, handle, clock

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers.update(self.signature(request))
        yield request

    def signature(self, request: httpx.Request) -> dict[str, str]:
        url, headers = str(request.url), dict(request.headers)
        return sign(
            request.method,
            url,
            key=self.key,
            keyid=self.handle,
            now=self.clock(),
            body=request.content,
            headers=headers,
        )


class SignedHeaders(dict[str, str]):
    """Headers of a device: plain to combine, and ``Http`` signs what is sent with them."""

    def __init__(self, auth: DeviceAuth, more: Mapping[str, str] | None = None) -> None:
        super().__init__(more or {})
        self.auth = auth

    def __or__(self, more: Mapping[str, str]) -> SignedHeaders:  # type: ignore[override]
        return SignedHeaders(self.auth, {**self, **more})

    def __ror__(self, more: Mapping[str, str]) -> SignedHeaders:  # type: ignore[override]
        return SignedHeaders(self.auth, {**more, **self})


class Http:
    """Requests without a socket."""

    def __init__(self, app: FastAPI) -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://service")
        self._runner = asyncio.Runner()

    def request(self, method: str, path: str, **more: object) -> httpx.Response:
        headers = more.get("headers")
        if isinstance(headers, SignedHeaders):
            more["auth"] = headers.auth
        return self._runner.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: object) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: object) -> httpx.Response:
        return self.request("POST", path, **more)

    def put(self, path: str, **more: object) -> httpx.Response:
        return self.request("PUT", path, **more)

    def delete(self, path: str, **more: object) -> httpx.Response:
        return self.request("DELETE", path, **more)

    def together(self, *calls: tuple[str, str, dict[str, object]]) -> list[httpx.Response]:
        """Several requests at once: method, path, and what else ``request`` takes."""

        async def run() -> list[httpx.Response]:
            return await asyncio.gather(*(self._client.request(m, p, **more) for m, p, more in calls))

        return self._runner.run(run())

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()
