"""From a request to who asks. Owns the two proofs (a key, a signature), what they are counted by, and the URL signed.

A caller is identified once per request and remembered in its scope, whoever asks first.
"""

from __future__ import annotations

from typing import Final

from fastapi import Request
from fastapi.concurrency import run_in_threadpool

from common.crypto import http_signing
from common.errors import NotAllowed, RateLimited
from common.taxonomy import Role
from server.access.limits import ENROLMENT, Standing
from server.access.principal import Principal
from server.access.signed import Presented
from server.api.services import Services

_CALLER: Final = "reticent.caller"
KEYS_IN_ADDRESS: Final = frozenset({"/openrtb2/auction"})
"""Called from pages, where a key is public anyway; only an exchange's key is taken from there."""
ENROLS: Final = "/v1/subjects"
"""Called by devices that are not known yet: each is the key that it holds."""
STANDING: Final = "reticent.standing"


async def identify(request: Request, services: Services) -> Principal:
    """Who asks: a device by its signature, everybody else by an API key.

    Raises:
        NotAuthenticated: neither is valid.
        PossessionNotProven: the caller enrols, and has not signed with the key that its key id is.
        RequestReplayed: the signature was accepted before.
        RateLimited: the credential has used up its quota.
        NotAllowed: a key that is no exchange's stands in the address.
    """
    state = request.scope.setdefault("state", {})
    if _CALLER in state:
        return _known(state[_CALLER])
    signed, enrols = http_signing.is_signed(_lines(request)), request.scope["path"] == ENROLS
    if enrols and (signed or "authorization" not in request.headers):
        count(request, services, ENROLMENT, ENROLMENT)  # first: whoever makes keys up has no credential to count by
        caller = await run_in_threadpool(services.signed.introduce, await _presented(request, services))
        state[_CALLER] = caller
        return caller
    if signed:
        caller = await run_in_threadpool(services.signed.authenticate, await _presented(request, services))
    else:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        by_address = not scheme and request.scope["path"] in KEYS_IN_ADDRESS
        token = request.query_params.get("key", "") if by_address else token if scheme.lower() == "bearer" else ""
        caller = await run_in_threadpool(services.access.authenticate, token)
        if by_address and caller.role is not Role.EXCHANGE:
            raise NotAllowed("no key but an exchange's may stand in an address")
    count(request, services, caller.credential, caller.role.value)
    state[_CALLER] = caller
    return caller


def count(request: Request, services: Services, credential: str, quota: str) -> None:
    """Count a request against a quota.

    Raises:
        RateLimited: it is used up.
    """
    standing: Standing = services.limits.spend(credential, quota)
    request.scope.setdefault("state", {})[STANDING] = standing
    if standing.wait_s:
        raise RateLimited(standing.wait_s)


def target_uri(request: Request, public_url: str) -> str:
    """The URL as the caller wrote it: behind a proxy its beginning is the configured one."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope["query_string"]
    rest = raw.decode("latin-1") + (f"?{query.decode('latin-1')}" if query else "")
    if public_url:
        return public_url.rstrip("/") + rest
    return f"{request.url.scheme}://{request.headers.get('host', '')}{rest}"


async def _presented(request: Request, services: Services) -> Presented:
    url = target_uri(request, services.settings.public_url)
    return Presented(request.method, url, _lines(request), await request.body())


def _known(value: object) -> Principal:
    if not isinstance(value, Principal):
        raise TypeError("the scope holds no caller")
    return value


def _lines(request: Request) -> tuple[tuple[str, str], ...]:
    raw: list[tuple[bytes, bytes]] = request.scope["headers"]
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in raw)
