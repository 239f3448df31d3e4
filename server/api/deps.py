"""What routes ask for. Owns the way from a request to the service's parts."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any, cast

from fastapi import Depends, Request, Response

from server.api.services import Services


def services_of(request: Request) -> Services:
    """The parts of the service that answers this request."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]


def declared(media_type: str, **content: Any) -> dict[int | str, dict[str, Any]]:  # noqa: ANN401 - OpenAPI's own
    """What an endpoint that answers by ``document`` says in OpenAPI."""
    headers = {"ETag": {"description": "Strong.", "schema": {"type": "string"}}}
    return {
        200: {"content": {media_type: content}, "headers": headers},
        304: {"description": "The caller has it already.", "headers": headers},
    }


def document(request: Request, body: bytes, media_type: str, *, max_age_s: int = 60) -> Response:
    """A public document with a strong ETag: the same bytes for everybody, or 304 for who holds them already."""
    tag = etag(body)
    headers = {"etag": tag, "cache-control": f"public, max-age={max_age_s}"}
    held = [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]
    if tag in held or "*" in held:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)


def etag(body: bytes) -> str:
    """The strong entity tag of some bytes."""
    return f'"{hashlib.sha256(body).hexdigest()}"'
