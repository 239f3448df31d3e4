"""The catalogue over HTTP, the pictures of its creatives, and the placement policy in force."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body, Header, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictInt

from common.errors import NotFound, PreconditionFailed
from common.rendering import FALLBACK_LOCALE, picture
from common.wire.messages import Creative
from common.wire.surface import Surface
from server.api.deps import ServicesDep, declared, document, etag
from server.api.security import Caller
from server.api.services import Services
from server.campaigns.service import Published

router = APIRouter(tags=["public documents"])


class CatalogueDraft(BaseModel):
    """All creatives that the operator lists itself.

    ``version`` and ``surfaces`` are ignored: the service numbers catalogues, and placements are changed one by one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["catalogue"] = "catalogue"
    version: StrictInt | None = None
    creatives: tuple[Creative, ...]
    surfaces: tuple[Surface, ...] = ()


class CatalogueState(BaseModel):
    """What is in force now."""

    version: int
    creatives: int
    changed: bool
    refused: dict[str, int] = Field(description="Creatives that were left out, by the special category they hint at.")


@router.get("/v1/catalog/current", response_class=Response, responses=declared("application/jose"))
def catalogue(request: Request, services: ServicesDep) -> Response:
    """The signed catalogue."""
    return document(request, services.catalogues.current().jws.encode(), "application/jose")


@router.put("/v1/catalog", tags=["administration"])
def publish(
    draft: Annotated[CatalogueDraft, Body()],
    services: ServicesDep,
    caller: Caller,
    if_match: Annotated[
        str | None, Header(description='ETag of the catalogue that it replaces, or its version as "3".')
    ] = None,
) -> CatalogueState:
    """Put these creatives in force beside those of campaigns; the same again change nothing."""
    expected = None if if_match is None else _expected(services, if_match)
    done = services.catalogues.publish(draft.creatives, expected_version=expected, actor=caller.actor)
    return _state(done)


@router.post("/v1/catalog/compile", tags=["administration"])
def compile_now(services: ServicesDep, caller: Caller) -> CatalogueState:
    """Publish what follows from the campaigns as they stand now; call it by a timer. Changes nothing if nothing did."""
    return _state(services.catalogues.compile(actor=caller.actor))


@router.get("/static/creative/{name}", response_class=Response, responses=declared("image/svg+xml"))
def image(name: str, request: Request, services: ServicesDep, locale: str = FALLBACK_LOCALE) -> Response:
    """The picture of a creative in force. On-device placements draw it themselves and never ask."""
    wanted, opened = name.removesuffix(".svg"), services.catalogues.opened()
    found = next((c for c in (() if opened is None else opened.creatives) if c.creative_id == wanted), None)
    if found is None or wanted == name:
        raise NotFound("no such creative in the catalogue in force")
    return document(request, picture(found, locale).encode(), "image/svg+xml", max_age_s=3600)


@router.get("/v1/policy/current", response_class=Response, responses=declared("application/jose"))
def policy(request: Request, services: ServicesDep) -> Response:
    """The placement policy in force, signed, as the text of its document."""
    return document(request, services.placement.current().jws.encode(), "application/jose")


def _state(done: Published) -> CatalogueState:
    return CatalogueState(
        version=done.version, creatives=done.creatives, changed=done.changed, refused=dict(done.refused)
    )


def _expected(services: Services, if_match: str) -> int:
    """The version that the caller has seen (RFC 9110 §13.1.1: tags are compared strongly).

    Raises:
        PreconditionFailed: it is not the one in force.
    """
    tags = {tag.strip() for tag in if_match.split(",")}
    try:
        current = services.catalogues.current()
    except NotFound:
        raise PreconditionFailed("no catalogue is in force") from None
    known = {"*", f'"{current.version}"', etag(current.jws.encode())}
    if tags.isdisjoint(known):
        raise PreconditionFailed("another catalogue is in force than If-Match names")
    return current.version
