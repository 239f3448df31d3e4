"""The service's application. Owns how routes, errors and the frame are put together; decides nothing itself."""

from __future__ import annotations

import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from typing import Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel
from starlette.routing import BaseRoute

from common.wire import messages
from common.wire.requests import LedgerProof
from common.wire.subject import SubjectRequest
from policies.notices import NoticeDocument, NoticeWords
from server import migrations
from server.access import routes as access_routes
from server.api import errors, health, problems, security
from server.api.deps import ServicesDep
from server.api.door import DOOR, Door, Service
from server.api.frame import Frame
from server.api.openapi import documented
from server.api.repeated import Repeated
from server.api.services import Services, announce, build_services
from server.campaigns import archive_routes, creative_routes, plan_answers, plan_routes, surface_routes
from server.campaigns import routes as campaign_routes
from server.campaigns.templates import CreativeTemplate
from server.campaigns.terms import CreativeText
from server.consent import routes as consent_routes
from server.consent import schemas as consent_schemas
from server.controls import routes as control_routes
from server.dashboard.app import create_desk
from server.decisions import routes as decision_routes
from server.decisions.request import DecisionBody
from server.exchange import routes as exchange_routes
from server.exchange.cors import CrossOrigin
from server.experiments import changes
from server.experiments import routes as experiment_routes
from server.experiments import schemas as experiment_schemas
from server.ledger import routes as ledger_routes
from server.ledger.schemas import CapProposal
from server.measurement import routes as measurement_routes
from server.picks import routes as pick_routes
from server.registry import routes as registry_routes
from server.reports import routes as report_routes
from server.requests import routes as request_routes
from server.requests.schemas import Denial
from server.settings import Settings
from server.signals import routes as signal_routes
from server.signals.schemas import Signals
from server.transparency import routes as transparency_routes
from server.transparency.routes import KeySet

TITLE: Final = "Reticent"
SWITCH_S: Final = 0.0005
"""How long a thread may keep the interpreter from another that waits for it."""
_KEYS: Final = APIRouter(tags=["public documents"])


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
    async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, Door | None]]:
        await run_in_threadpool(_start, parts)
        async with parts.dispatcher:
            yield {DOOR: app.door}
        parts.database.close()

    app = Service(
        title=TITLE,
        summary="Consent, catalogue, models and placements. Behaviour stays on the device.",
        version="0.1.0",
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        dependencies=[Depends(security.authorise)],  # of whatever is included later
        routes=list(_behind_the_gate()),
    )
    app.state.services = parts
    errors.install(app, _known_fields())
    app.mount("/desk", create_desk(parts))
    app.add_middleware(Repeated, services=parts)
    app.add_middleware(CrossOrigin)
    app.add_middleware(Frame)
    app.openapi = documented(app.openapi)  # type: ignore[method-assign]
    app.door = Door(super(Service, app).__call__, parts)
    security.check_complete(security.endpoints_of(_routers()))
    return app


def _start(parts: Services) -> None:
    """What is done once before the first answer; a database that is not migrated yet is only reported (``/readyz``)."""
    if migrations.current(parts.database) == migrations.newest():
        announce(parts)
        parts.pacing.refresh()
    parts.scorer.warm()
    _settle()


def _settle() -> None:
    """What is here to stay is not looked through again by every collection; a batch's writer gets its turn sooner."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    sys.setswitchinterval(SWITCH_S)


@cache
def _behind_the_gate() -> tuple[BaseRoute, ...]:
    """Every endpoint, each behind ``security.authorise``: prepared once, whatever number of applications is made."""
    gate = APIRouter(dependencies=[Depends(security.authorise)])
    for router in _routers():
        gate.include_router(router)
    return tuple(gate.routes)


def _routers() -> tuple[APIRouter, ...]:
    return (
        health.router,
        _KEYS,
        consent_routes.router,
        control_routes.router,
        request_routes.router,
        ledger_routes.router,
        campaign_routes.router,
        plan_routes.router,
        creative_routes.router,
        surface_routes.router,
        archive_routes.router,
        pick_routes.router,
        registry_routes.router,
        decision_routes.router,
        exchange_routes.router,
        signal_routes.router,
        access_routes.router,
        problems.router,
        transparency_routes.router,
        report_routes.router,
        measurement_routes.router,
        experiment_routes.router,
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
        SubjectRequest,
        LedgerProof,
        Denial,
        CapProposal,
        NoticeDocument,
        NoticeWords,
        campaign_routes.CatalogueDraft,
        surface_routes.SurfaceOrder,
        plan_answers.CampaignOrder,
        plan_answers.CreativeOrder,
        plan_answers.TemplateOrder,
        plan_answers.Product,
        plan_answers.MoveOrder,
        plan_answers.ReviewOrder,
        CreativeTemplate,
        CreativeText,
        access_routes.KeyRequest,
        access_routes.Rotation,
        consent_schemas.Asked,
        consent_schemas.Check,
        consent_schemas.Decided,
        consent_schemas.Invalidated,
        control_routes.ControlOrder,
        consent_schemas.ReceiptCheck,
        DecisionBody,
        Signals,
        experiment_schemas.ChangeOrder,
        experiment_schemas.RollbackOrder,
        experiment_schemas.StopOrder,
        changes.PolicyChange,
        changes.ExperimentDraft,
        changes.ArmDraft,
        changes.CreativeChange,
        changes.BudgetChange,
    )
    return frozenset({"body", "query", "path", "header"}).union(*(model.model_fields for model in models))
