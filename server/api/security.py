"""Who may do what. Owns the table of roles by endpoint; whatever is not in it cannot be called.

Roles: a device speaks for its own subject only; an app backend asks and reads effective consent; the privacy officer
publishes notices; the admin has keys and catalogue, and no subject's data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from fastapi.concurrency import run_in_threadpool

from common.errors import NotAllowed
from common.taxonomy import Role
from server.access.service import Principal
from server.api.deps import ServicesDep

PUBLIC: Final[frozenset[Role]] = frozenset()
_HOLDERS: Final = frozenset({Role.DEVICE, Role.APP_BACKEND})

ACCESS: Final[Mapping[tuple[str, str], frozenset[Role]]] = {
    ("GET", "/healthz"): PUBLIC,
    ("GET", "/readyz"): PUBLIC,
    ("GET", "/.well-known/jwks.json"): PUBLIC,
    ("GET", "/.well-known/enrolment-authorities.json"): PUBLIC,
    ("GET", "/.well-known/gpc.json"): PUBLIC,
    ("GET", "/static/creative/{name}"): PUBLIC,
    ("GET", "/v1/notices/current"): PUBLIC,
    ("GET", "/v1/notices/{digest}"): PUBLIC,
    ("GET", "/v1/catalog/current"): PUBLIC,
    ("GET", "/v1/policy/current"): PUBLIC,
    ("GET", "/v1/models/{version}"): PUBLIC,
    ("GET", "/v1/models/{version}/arrays"): PUBLIC,
    ("GET", "/v1/models/{version}/card"): PUBLIC,
    ("POST", "/v1/subjects"): PUBLIC,
    ("POST", "/v1/receipts/verify"): PUBLIC,
    ("POST", "/v1/events"): PUBLIC,  # the follow-up token is the credential
    ("POST", "/v1/consents"): _HOLDERS,
    ("POST", "/v1/consents/withdraw"): _HOLDERS,
    ("GET", "/v1/consents/me"): frozenset({Role.DEVICE}),
    ("GET", "/v1/consents/me/history"): frozenset({Role.DEVICE}),
    ("POST", "/v1/consents/check"): frozenset({Role.APP_BACKEND}),
    ("POST", "/v1/decisions"): _HOLDERS,
    ("POST", "/v1/signals/decode"): frozenset({Role.APP_BACKEND, Role.PRIVACY_OFFICER}),
    ("POST", "/v1/notices"): frozenset({Role.PRIVACY_OFFICER, Role.ADMIN}),
    ("PUT", "/v1/catalog"): frozenset({Role.ADMIN}),
    ("POST", "/v1/api-keys"): frozenset({Role.ADMIN}),
    ("DELETE", "/v1/api-keys/{key_id}"): frozenset({Role.ADMIN}),
}


async def authorise(request: Request, services: ServicesDep) -> Principal | None:
    """The caller, if the table lets it call this endpoint; None where anybody may.

    Raises:
        NotAuthenticated: a key is needed and none is valid.
        NotAllowed: the key's role may not do this, or the endpoint is not in the table.
    """
    allowed = ACCESS.get((request.method, request.scope["route"].path))
    if allowed is None:
        raise NotAllowed("this endpoint is open to nobody")
    if allowed is PUBLIC:
        return None
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    caller = await run_in_threadpool(services.access.authenticate, token if scheme.lower() == "bearer" else "")
    if caller.role not in allowed:
        raise NotAllowed("this key's role may not do this")
    return caller


def known_caller(caller: Annotated[Principal | None, Depends(authorise)]) -> Principal:
    """The caller of an endpoint that is not public."""
    if caller is None:
        raise NotAllowed("this endpoint needs a key")
    return caller


Caller = Annotated[Principal, Depends(known_caller)]


def check_complete(schema: Mapping[str, Any]) -> None:
    """Raise unless the table and the OpenAPI document name the same endpoints.

    What is in neither is refused by ``authorise`` all the same.
    """
    endpoints = {(method.upper(), path) for path, item in schema["paths"].items() for method in item}
    if endpoints != set(ACCESS):
        raise RuntimeError(f"endpoints without roles or roles without endpoints: {sorted(endpoints ^ set(ACCESS))}")
