"""The service's application. Owns how routes, errors and the frame are put together; decides nothing itself."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from common.wire import messages
from policies.notices import NoticeDocument, NoticeWords
from server.access import routes as access_routes
from server.api import errors, health, security
from server.api.deps import ServicesDep
from server.api.frame import Frame
from server.api.services import Services, build_services
from server.campaigns import routes as campaign_routes
from server.consent import routes as consent_routes
from server.consent import schemas as consent_schemas
from server.decisions import routes as decision_routes
from server.decisions.request import DecisionBody
from server.registry import routes as registry_routes
from server.settings import Settings
from server.signals import routes as signal_routes
from server.signals.schemas import Signals

TITLE: Final = "Reticent"
_KEYS: Final = APIRouter(tags=["public documents"])


class KeySet(BaseModel):
    """RFC 7517 key set."""

    keys: tuple[dict[str, str], ...]


@_KEYS.get("/.well-known/jwks.json")
async def jwks(services: ServicesDep) -> KeySet:
    """The public key that signs models, catalogues, policies, permits and receipts."""
    public = services.signer.public
    return KeySet(keys=({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": public.kid, "x": public.x},))


@_KEYS.get("/.well-known/enrolment-authorities.json")
async def authorities(services: ServicesDep) -> KeySet:
    """Who certifies devices for secure aggregation: a key of its own, never one that signs documents."""
    public = services.authority.public
    if public is None:
        return KeySet(keys=())
    return KeySet(keys=({"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": public.kid, "x": public.x},))


def create_app(settings: Settings | None = None, *, services: Services | None = None) -> FastAPI:
    """The application.

    Args:
        settings: where things are; from the environment when neither this nor ``services`` is given.
        services: the parts, already built (tests hand in their own clock this way).
    """
    parts = services or build_services(settings or Settings.from_env())

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await run_in_threadpool(parts.scorer.warm)
        yield
        parts.database.close()

    app = FastAPI(
        title=TITLE,
        summary="Consent, catalogue, models and placements. Behaviour stays on the device.",
        version="0.1.0",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(security.authorise)],
        responses={"default": {"model": errors.Problem, "description": "RFC 9457 problem details."}},
    )
    app.state.services = parts
    for router in _routers():
        app.include_router(router)
    errors.install(app, _known_fields())
    app.add_middleware(Frame)
    app.openapi = _documented(app.openapi)  # type: ignore[method-assign]
    security.check_complete(app.openapi())
    return app


def _routers() -> tuple[APIRouter, ...]:
    return (
        health.router,
        _KEYS,
        consent_routes.router,
        campaign_routes.router,
        registry_routes.router,
        decision_routes.router,
        signal_routes.router,
        access_routes.router,
    )


def _known_fields() -> frozenset[str]:
    """Names of the fields that requests may have, and of the places they come in."""
    models: tuple[type[BaseModel], ...] = (
        messages.SubjectEnrolment,
        messages.ConsentChange,
        messages.ConsentWithdrawal,
        messages.FollowUpReport,
        messages.Creative,
        messages.SlotRequest,
        NoticeDocument,
        NoticeWords,
        campaign_routes.CatalogueDraft,
        access_routes.KeyRequest,
        consent_schemas.Check,
        consent_schemas.ReceiptCheck,
        DecisionBody,
        Signals,
    )
    return frozenset({"body", "query", "path", "header"}).union(*(model.model_fields for model in models))


def _documented(plain: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """OpenAPI with the roles of every endpoint."""

    @functools.cache
    def openapi() -> dict[str, Any]:
        schema = plain()
        components = schema.setdefault("components", {})
        components["securitySchemes"] = {"api_key": {"type": "http", "scheme": "bearer", "bearerFormat": "rtk_…"}}
        for path, item in schema["paths"].items():
            for method, operation in item.items():
                roles = security.ACCESS.get((method.upper(), path))
                if roles:
                    operation["security"] = [{"api_key": []}]
                    operation["x-roles"] = sorted(role.value for role in roles)
        return schema

    return openapi
