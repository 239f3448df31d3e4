"""Models over HTTP: the signed manifest and the arrays, the same bytes for everybody."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from common.errors import NotFound
from server.api.deps import ServicesDep, document
from server.registry.repository import StoredModel

router = APIRouter(prefix="/v1/models", tags=["public documents"])


@router.get("/{version}", response_class=Response, responses={200: {"content": {"application/jose": {}}}})
def model(version: str, request: Request, services: ServicesDep) -> Response:
    """The signed manifest of a model version, or of the ``current`` one."""
    return document(request, _stored(services, version).manifest_jws.encode(), "application/jose")


@router.get(
    "/{version}/arrays", response_class=Response, responses={200: {"content": {"application/octet-stream": {}}}}
)
def arrays(version: str, request: Request, services: ServicesDep) -> Response:
    """The model's arrays, safetensors. Verify them against the manifest before use."""
    return document(request, _stored(services, version).arrays, "application/octet-stream")


def _stored(services: ServicesDep, version: str) -> StoredModel:
    if version == "current":
        return services.registry.stored()
    if not (version.isascii() and version.isdecimal() and len(version) < 10):
        raise NotFound("a model version is a number, or: current")
    return services.registry.stored(int(version))
