"""API keys over HTTP, for admins."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Body
from pydantic import BaseModel, ConfigDict, Field

from common.taxonomy import Role
from server.access.service import DAYS_DEFAULT
from server.api.deps import ServicesDep

router = APIRouter(prefix="/v1/api-keys", tags=["administration"])


class KeyRequest(BaseModel):
    """What a new key is for. Device keys are not issued here: a device gets its own when it enrols."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"role": "app_backend"}]})
    role: Literal[Role.APP_BACKEND, Role.PRIVACY_OFFICER, Role.ADMIN]
    label: str = Field(default="", max_length=200)
    app_id: str | None = Field(default=None, max_length=200, description="Narrows an app backend to one app.")
    days: int = Field(default=DAYS_DEFAULT, ge=1, le=3660)


class NewKey(BaseModel):
    """A new key. It is shown this once."""

    key_id: str
    api_key: str
    expires_at: int


@router.post("", status_code=201)
def create(wanted: Annotated[KeyRequest, Body()], services: ServicesDep) -> NewKey:
    """Issue a key."""
    key = services.access.issue(wanted.role, label=wanted.label, app_id=wanted.app_id, days=wanted.days)
    return NewKey(key_id=key.key_id, api_key=key.token, expires_at=key.expires_at)


@router.delete("/{key_id}", status_code=204)
def revoke(key_id: str, services: ServicesDep) -> None:
    """End a key now."""
    services.access.revoke(key_id)
