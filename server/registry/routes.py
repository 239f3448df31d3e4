"""Models over HTTP: the signed manifest and the arrays, the same bytes for everybody."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from common.errors import NotFound
from server.api.deps import ServicesDep, declared, document
from server.registry.card import Card, card_html, card_json
from server.registry.repository import StoredModel

router = APIRouter(prefix="/v1/models", tags=["public documents"])


@router.get("/{version}", response_class=Response, responses=declared("application/jose"))
def model(version: str, request: Request, services: ServicesDep) -> Response:
    """The signed manifest of a model version, or of the ``current`` one."""
    return document(request, _stored(services, version).manifest_jws.encode(), "application/jose")


@router.get("/{version}/arrays", response_class=Response, responses=declared("application/octet-stream"))
def arrays(version: str, request: Request, services: ServicesDep) -> Response:
    """The model's arrays, safetensors. Verify them against the manifest before use."""
    return document(request, _stored(services, version).arrays, "application/octet-stream")


@router.get("/{version}/card", response_model=Card, responses=declared("text/html"))
def disclosure_card(version: str, request: Request, services: ServicesDep) -> Response:
    """The disclosure card of a model: JSON, or a page for those who prefer ``text/html``."""
    card = services.registry.card(_number(version))
    if "text/html" in request.headers.get("accept", ""):
        return document(request, card_html(card).encode(), "text/html; charset=utf-8")
    return document(request, card_json(card).encode(), "application/json")


def _stored(services: ServicesDep, version: str) -> StoredModel:
    return services.registry.stored(_number(version))


def _number(version: str) -> int | None:
    """A version number from a path; None is the newest."""
    if version == "current":
        return None
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise NotFound("a model version is a number, or: current")
    return int(version)
