"""Health. Owns the difference between alive (the process answers) and ready (it can do its work)."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter, Response
from pydantic import BaseModel

from common.errors import ReticentError
from policies.notices import LOCALES
from server import migrations
from server.api.deps import ServicesDep
from server.api.services import Services

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """Alive."""

    status: str = "ok"


class Readiness(BaseModel):
    """What is there. Without a catalogue or a model the service still answers, by context or by hash alone."""

    ready: bool
    database: str
    notices: str
    catalogue: str
    model: str


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness}})
def readyz(services: ServicesDep, response: Response) -> Readiness:
    """Whether requests can be answered: database migrated, notices published."""
    database, notices = _state(services, _database), _state(services, _notices)
    ready = database == notices == "ok"
    response.status_code = 200 if ready else 503
    return Readiness(
        ready=ready,
        database=database,
        notices=notices,
        catalogue=_state(services, _catalogue),
        model=_state(services, _model),
    )


def _state(services: Services, check: Callable[[Services], str]) -> str:
    try:
        return check(services)
    except ReticentError as error:
        return error.name


def _database(services: Services) -> str:
    return "ok" if migrations.current(services.database) == migrations.newest() else "not migrated"


def _notices(services: Services) -> str:
    for locale in LOCALES:
        services.notices.current(locale)
    return "ok"


def _catalogue(services: Services) -> str:
    catalogue = services.catalogues.opened()
    return "none" if catalogue is None else f"version {catalogue.version}"


def _model(services: Services) -> str:
    if services.registry.current_version() is None:
        return "none"
    model = services.scorer.current()
    return "not verified" if model is None else f"version {model.version}"
