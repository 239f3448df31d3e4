"""Who may do what. Owns the table of roles by endpoint; whatever is not in it cannot be called.

Roles: a device speaks for its own subject only; an app backend asks and reads effective consent; the advertiser sees
its own campaigns; the privacy officer has consent, requests, ledger, exports and kill switch; the auditor reads and
checks proofs; the admin has keys and catalogue, and no subject's data. A key may be narrowed further, to scopes.

Whatever a person in office reads is put down in the transparency log before it is answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.concurrency import run_in_threadpool
from starlette.routing import Route

from common.errors import NotAllowed, NotFound
from common.taxonomy import LogKind, Role
from server.access.principal import PERSONS, Principal
from server.api.deps import ServicesDep
from server.api.identity import identify
from server.api.services import Services

PUBLIC: Final[frozenset[Role]] = frozenset()
_HOLDERS: Final = frozenset({Role.DEVICE, Role.APP_BACKEND})
_PLANNERS: Final = frozenset({Role.ADVERTISER, Role.ADMIN})
_REVIEWERS: Final = frozenset({Role.ADMIN, Role.PRIVACY_OFFICER})
_PLAN_READERS: Final = frozenset({Role.ADVERTISER, Role.ADMIN, Role.PRIVACY_OFFICER, Role.AUDITOR})
_DECIDERS: Final = frozenset({Role.ADMIN, Role.PRIVACY_OFFICER})
_KEY_HOLDERS: Final = frozenset(Role) - {Role.DEVICE, Role.EXCHANGE}  # an exchange's key stands in public pages

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
    ("GET", "/v1/candidates/{slot_group}"): PUBLIC,
    ("GET", "/v1/pick-cap"): PUBLIC,
    ("GET", "/v1/models/{version}"): PUBLIC,
    ("GET", "/v1/models/{version}/arrays"): PUBLIC,
    ("GET", "/v1/models/{version}/card"): PUBLIC,
    ("POST", "/v1/subjects"): frozenset({Role.DEVICE}),  # signed with the key that is enrolled
    ("POST", "/v1/receipts/verify"): PUBLIC,
    ("POST", "/v1/picks/stop"): frozenset({Role.DEVICE}),
    ("POST", "/v1/events"): PUBLIC,  # the follow-up token is the credential
    ("GET", "/c/{token}"): PUBLIC,  # likewise
    ("POST", "/v1/consents"): _HOLDERS,
    ("POST", "/v1/consents/requests"): _HOLDERS,
    ("POST", "/v1/consents/withdraw"): _HOLDERS,
    ("POST", "/v1/consents/invalidate"): frozenset({Role.PRIVACY_OFFICER}),
    ("GET", "/v1/receipts/{receipt_id}"): frozenset({Role.DEVICE, Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/ledger"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/ledger/entries"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/ledger/subjects"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/ledger/projection"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/ledger/caps"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("POST", "/v1/ledger/caps"): frozenset({Role.PRIVACY_OFFICER}),
    ("POST", "/v1/ledger/caps/{number}/approve"): frozenset({Role.PRIVACY_OFFICER}),
    ("POST", "/v1/ledger/caps/{number}/reject"): frozenset({Role.PRIVACY_OFFICER}),
    ("POST", "/v1/dsr"): frozenset({Role.DEVICE, Role.PRIVACY_OFFICER}),
    ("GET", "/v1/dsr"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/dsr/{request_id}"): frozenset({Role.DEVICE, Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("DELETE", "/v1/dsr/{request_id}"): frozenset({Role.DEVICE, Role.PRIVACY_OFFICER}),
    ("GET", "/v1/dsr/{request_id}/acknowledgement"): PUBLIC,  # the id is the credential; it names nobody
    ("GET", "/v1/dsr/{request_id}/package"): frozenset({Role.DEVICE, Role.PRIVACY_OFFICER}),
    ("POST", "/v1/dsr/{request_id}/approve"): frozenset({Role.PRIVACY_OFFICER}),
    ("POST", "/v1/dsr/{request_id}/deny"): frozenset({Role.PRIVACY_OFFICER}),
    ("POST", "/v1/dsr/{request_id}/complete"): frozenset({Role.PRIVACY_OFFICER}),
    ("GET", "/v1/controls"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("POST", "/v1/controls/kill"): frozenset({Role.PRIVACY_OFFICER}),
    ("POST", "/v1/controls/release"): frozenset({Role.PRIVACY_OFFICER}),
    ("GET", "/v1/consents/me"): frozenset({Role.DEVICE}),
    ("GET", "/v1/consents/me/history"): frozenset({Role.DEVICE}),
    ("POST", "/v1/consents/check"): frozenset({Role.APP_BACKEND}),
    ("POST", "/v1/decisions"): _HOLDERS,
    ("POST", "/openrtb2/auction"): frozenset({Role.APP_BACKEND, Role.EXCHANGE}),
    ("POST", "/cookie_sync"): PUBLIC,
    ("GET", "/openrtb2/billing/{token}"): PUBLIC,  # the follow-up token is the credential
    ("POST", "/v1/signals/decode"): frozenset({Role.APP_BACKEND, Role.PRIVACY_OFFICER}),
    ("POST", "/v1/notices"): frozenset({Role.PRIVACY_OFFICER, Role.ADMIN}),
    ("PUT", "/v1/catalog"): frozenset({Role.ADMIN}),
    ("POST", "/v1/placements"): frozenset({Role.ADMIN}),
    ("GET", "/v1/placements"): _PLAN_READERS | {Role.APP_BACKEND},
    ("GET", "/v1/placements/{slot_id}"): _PLAN_READERS | {Role.APP_BACKEND},
    ("PUT", "/v1/placements/{slot_id}"): frozenset({Role.ADMIN}),
    ("DELETE", "/v1/placements/{slot_id}"): frozenset({Role.ADMIN}),
    ("GET", "/v1/ad-repository"): PUBLIC,
    ("GET", "/ad-repository"): PUBLIC,
    ("POST", "/v1/catalog/compile"): frozenset({Role.ADMIN}),
    ("POST", "/v1/campaigns"): _PLANNERS,
    ("GET", "/v1/campaigns"): _PLAN_READERS,
    ("GET", "/v1/campaigns/{campaign_id}"): _PLAN_READERS,
    ("PUT", "/v1/campaigns/{campaign_id}"): _PLANNERS,
    ("DELETE", "/v1/campaigns/{campaign_id}"): _PLANNERS,
    ("POST", "/v1/campaigns/{campaign_id}/moves"): _PLANNERS,
    ("POST", "/v1/campaigns/{campaign_id}/review"): _REVIEWERS,
    ("POST", "/v1/creatives"): _PLANNERS,
    ("POST", "/v1/creatives/from-template"): _PLANNERS,
    ("GET", "/v1/creatives"): _PLAN_READERS,
    ("GET", "/v1/creatives/{creative_id}"): _PLAN_READERS,
    ("GET", "/v1/creatives/{creative_id}/preview"): _PLAN_READERS,
    ("PUT", "/v1/creatives/{creative_id}"): _PLANNERS,
    ("DELETE", "/v1/creatives/{creative_id}"): _PLANNERS,
    ("POST", "/v1/creatives/{creative_id}/moves"): _PLANNERS,
    ("POST", "/v1/creatives/{creative_id}/review"): _REVIEWERS,
    ("POST", "/v1/changes"): _DECIDERS,
    ("GET", "/v1/changes"): _DECIDERS | {Role.AUDITOR},
    ("GET", "/v1/changes/{number}"): _DECIDERS | {Role.AUDITOR},
    ("POST", "/v1/changes/{number}/approve"): _DECIDERS,
    ("POST", "/v1/changes/{number}/reject"): _DECIDERS,
    ("GET", "/v1/policy/versions"): _DECIDERS | {Role.AUDITOR},
    ("POST", "/v1/policy/rollback"): _DECIDERS,
    ("GET", "/v1/experiments/current"): PUBLIC,
    ("POST", "/v1/experiments/{experiment_id}/stop"): _DECIDERS,
    ("GET", "/v1/experiments/{experiment_id}/report"): _DECIDERS | {Role.AUDITOR},
    ("GET", "/v1/problems"): PUBLIC,
    ("GET", "/v1/log/checkpoint"): PUBLIC,
    ("GET", "/v1/log/proof/inclusion"): PUBLIC,
    ("GET", "/v1/log/proof/consistency"): PUBLIC,
    ("GET", "/v1/audit/events"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/audit/export"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/reports/{name}"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/reports/campaigns/{campaign_id}"): frozenset({Role.ADVERTISER, Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/reports/exposure/groups"): frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("GET", "/v1/api-keys"): frozenset({Role.ADMIN, Role.PRIVACY_OFFICER, Role.AUDITOR}),
    ("POST", "/v1/api-keys"): frozenset({Role.ADMIN, Role.PRIVACY_OFFICER}),
    ("POST", "/v1/api-keys/{key_id}/rotate"): _KEY_HOLDERS,
    ("DELETE", "/v1/api-keys/{key_id}"): frozenset({Role.ADMIN, Role.PRIVACY_OFFICER}),
}


READING_POSTS: Final = frozenset({"/v1/consents/check", "/v1/receipts/verify", "/v1/signals/decode", "/cookie_sync"})
"""POSTs that write nothing: their body is the question."""

DECIDED_ANEW: Final = frozenset(
    {"/v1/decisions", "/openrtb2/auction", "/v1/consents/withdraw", "/v1/consents/invalidate", "/v1/controls/kill"}
)
"""Writing POSTs whose answer is never repeated but made anew. A placement from before a withdrawal must not be given
again; and what ends something ends it each time (to do it twice is harmless), even if it was granted meanwhile."""

NO_CREDENTIAL: Final = frozenset(path for (method, path), roles in ACCESS.items() if method == "POST" and not roles)
_READS: Final = frozenset({"GET", "HEAD"})


async def authorise(request: Request, services: ServicesDep) -> Principal | None:
    """The caller, if the table lets it call this endpoint; None where anybody may.

    Raises:
        NotAuthenticated: a key or a signature is needed and none is valid.
        NotAllowed: the role may not do this, or the endpoint is not in the table.
        RateLimited: the credential has used up its quota.
    """
    path = request.scope["route"].path
    allowed = ACCESS.get((request.method, path))
    if allowed is None:
        raise NotAllowed("this endpoint is open to nobody")
    if allowed is PUBLIC:
        return None
    caller = await identify(request, services)
    if caller.role not in allowed:
        raise NotAllowed("this role may not do this")
    if caller.scopes and scope_of(request.method, path) not in caller.scopes:
        raise NotAllowed("this key is narrowed to other scopes")
    if caller.role in PERSONS and reads(request.method, path):
        named = {**request.query_params, **request.path_params}
        what = f"{request.method} {path}"
        await run_in_threadpool(lambda: log_read(services, caller, what, subject=_whose(services, named)))
    return caller


def _whose(services: Services, named: Mapping[str, str]) -> str | None:
    """Whose data a request names: by handle, by receipt or by request; None where it names nobody who is known."""
    try:
        if "receipt_id" in named:
            return services.consent.event(named["receipt_id"]).handle
        if "request_id" in named:
            return services.requests.get(named["request_id"]).handle
    except NotFound:
        return None
    return named.get("handle")


def reads(method: str, path: str) -> bool:
    """Whether a call of this endpoint only reads."""
    return method in _READS or path in READING_POSTS


def scope_of(method: str, path: str) -> str:
    """The scope that an endpoint needs: the first word of its path, and ``read`` or ``write``."""
    area = path.removeprefix("/v1/").lstrip("/").split("/", 1)[0]
    return f"{area}:{'read' if reads(method, path) else 'write'}"


def scopes_of(role: Role) -> frozenset[str]:
    """Every scope that a role's key may be narrowed to."""
    return frozenset(scope_of(*endpoint) for endpoint, roles in ACCESS.items() if role in roles)


def log_read(services: Services, caller: Principal, what: str, *, subject: str | None = None) -> None:
    """Put a read by a person in office into the transparency log; what cannot be put down is not answered.

    Args:
        services: of this service.
        caller: who reads.
        what: the endpoint or page, never what it was asked for.
        subject: whose data it is, where it is one person's; the entry's record is destroyed with theirs. Somebody who
            is not known, or no longer, is not written down.
    """
    record = {"read": what, "key_id": caller.key_id}
    with services.database.write() as session:
        known = subject if subject is not None and services.signed.known(session, subject) else None
        services.log.append(session, LogKind.PRIVILEGED_READ, record, actor=caller.actor, subject=known)


def known_caller(caller: Annotated[Principal | None, Depends(authorise)]) -> Principal:
    """The caller of an endpoint that is not public."""
    if caller is None:
        raise NotAllowed("this endpoint needs a key")
    return caller


Caller = Annotated[Principal, Depends(known_caller)]


def endpoints_of(routers: Iterable[APIRouter]) -> set[tuple[str, str]]:
    """Method and path of every documented endpoint. The OpenAPI document would say the same, in half a second."""
    routes = [route for router in routers for route in router.routes if isinstance(route, Route)]
    return {
        (method, route.path)
        for route in routes
        if route.include_in_schema
        for method in (route.methods or set()) - {"HEAD"}
    }


def check_complete(endpoints: AbstractSet[tuple[str, str]]) -> None:
    """Raise unless the table and the routers name the same endpoints.

    What is in neither is refused by ``authorise`` all the same.
    """
    if endpoints != set(ACCESS):
        raise RuntimeError(f"endpoints without roles or roles without endpoints: {sorted(endpoints ^ set(ACCESS))}")
