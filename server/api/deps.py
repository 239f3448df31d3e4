"""What routes ask for. Owns the way from a request to the service's parts."""

from __future__ import annotations

import hashlib
from typing import Annotated, cast

from fastapi import Depends, Request, Response

from server.api.services import Services


def services_of(request: Request) -> Services:
    """The parts of the service that answers this request."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(services_of)]


def document(request: Request, body: bytes, media_type: str, *, max_age_s: int = 60) -> Response:
    """A public document with a strong ETag: the same bytes for everybody, or 304 for who holds them already."""
    etag = f'"{hashlib.sha256(body).hexdigest()}"'
    headers = {"etag": etag, "cache-control": f"public, max-age={max_age_s}"}
    held = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if etag in held or "*" in held:
        return Response(status_code=304, headers=headers)
    return Response(body, media_type=media_type, headers=headers)
