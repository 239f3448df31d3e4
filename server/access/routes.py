"""API keys over HTTP.

Admins hand out keys of applications, advertisers and admins; privacy officers those of auditors. So nobody who may not
see subjects' data can make a key that does. Officers' keys are made on the machine itself (``reticent server
create-key``): an officer who could issue one would be the second officer too. A key is rotated by its holder only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Body, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from common.errors import MalformedInput, NotAllowed
from common.taxonomy import Role
from server.access.repository import StoredKey
from server.access.service import DAYS_DEFAULT, HOLDER, OVERLAP_HOURS_DEFAULT, OVERLAP_HOURS_MAX, IssuedKey
from server.api.deps import ServicesDep
from server.api.paging import Page, PageDep, cut, link
from server.api.security import Caller, scopes_of

router = APIRouter(prefix="/v1/api-keys", tags=["administration"])

MAY_ISSUE: Final[Mapping[Role, frozenset[Role]]] = {
    Role.ADMIN: frozenset({Role.APP_BACKEND, Role.EXCHANGE, Role.ADVERTISER, Role.ADMIN}),
    Role.PRIVACY_OFFICER: frozenset({Role.AUDITOR}),
}
Days = Annotated[int, Field(ge=1, le=3660)]


class KeyRequest(BaseModel):
    """What a new key is for. A device has none: it signs its requests."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", json_schema_extra={"examples": [{"role": "app_backend", "holder": "grocer-app"}]}
    )
    role: Literal[Role.APP_BACKEND, Role.EXCHANGE, Role.ADVERTISER, Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN]
    label: str = Field(default="", max_length=200, pattern=r"^[^\x00]*$")
    holder: str = Field(default="", pattern=rf"{HOLDER}|^$", description="The person or organisation; not a full name.")
    app_id: str | None = Field(
        default=None,
        max_length=200,
        pattern=r"^[^\x00]+$",
        description="Narrows an app backend or an exchange to one app.",
    )
    scopes: tuple[Annotated[str, Field(max_length=60)], ...] = Field(
        default=(), max_length=40, description="Narrows the role, as `ledger:read`; empty: all that the role may do."
    )
    days: Days = DAYS_DEFAULT


class Rotation(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid", json_schema_extra={"examples": [{"overlap_hours": 24}]})
    overlap_hours: int = Field(default=OVERLAP_HOURS_DEFAULT, ge=0, le=OVERLAP_HOURS_MAX)
    days: Days = DAYS_DEFAULT


class NewKey(BaseModel):
    """A new key. It is shown this once."""

    key_id: str
    api_key: str
    expires_at: int

    @classmethod
    def of(cls, key: IssuedKey) -> NewKey:
        """For the answer."""
        return cls(key_id=key.key_id, api_key=key.token, expires_at=key.expires_at)


class KeyLine(BaseModel):
    """What may be known of a key."""

    key_id: str
    lineage: str = Field(description="First key of its chain of rotations.")
    role: Role
    holder: str
    label: str
    app_id: str | None
    scopes: tuple[str, ...]
    created_at: int
    expires_at: int
    revoked_at: int | None
    last_used_day: int | None = Field(description="Days since 1970-01-01.")

    @classmethod
    def of(cls, key: StoredKey) -> KeyLine:
        """For the list."""
        return cls(
            key_id=key.key_id,
            lineage=key.lineage,
            role=key.role,
            holder=key.holder,
            label=key.label,
            app_id=key.app_id,
            scopes=tuple(sorted(key.scopes)),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_day=key.last_used_day,
        )


class KeyList(BaseModel):
    """A page of keys, oldest first."""

    items: tuple[KeyLine, ...]
    next_cursor: str | None


@router.get("")
def listed(wanted: PageDep, request: Request, response: Response, services: ServicesDep) -> KeyList:
    """Every key that was issued; never what opens anything."""
    place = wanted.after("api-keys", (int, str))
    after = None if place is None else (int(place[0]), str(place[1]))
    rows = services.access.listed(after=after, rows=wanted.rows)
    page: Page[StoredKey] = cut(rows, wanted, "api-keys", lambda key: (key.created_at, key.key_id))
    link(request, response, page)
    return KeyList(items=page.map(KeyLine.of).items, next_cursor=page.next_cursor)


@router.post("", status_code=201)
def create(wanted: Annotated[KeyRequest, Body()], services: ServicesDep, caller: Caller) -> NewKey:
    """Issue a key. Sent again with the same Idempotency-Key it gives the same key; the service cannot read it then."""
    if wanted.role not in MAY_ISSUE[caller.role]:
        raise NotAllowed("this role may not issue keys of that role")
    if not scopes_of(wanted.role).issuperset(wanted.scopes):
        raise MalformedInput("a scope is not among those of the role; see x-scope in /openapi.json")
    key = services.access.issue(
        wanted.role,
        label=wanted.label,
        holder=wanted.holder,
        app_id=wanted.app_id,
        days=wanted.days,
        scopes=frozenset(wanted.scopes),
        by=caller,
    )
    return NewKey.of(key)


@router.post("/{key_id}/rotate", status_code=201)
def rotate(key_id: str, wanted: Annotated[Rotation, Body()], services: ServicesDep, caller: Caller) -> NewKey:
    """A new key in place of the one that this request is made with; the old one stays valid for the overlap."""
    key = services.access.rotate(key_id, by=caller, overlap_hours=wanted.overlap_hours, days=wanted.days)
    return NewKey.of(key)


@router.delete("/{key_id}", status_code=204)
def revoke(key_id: str, services: ServicesDep, caller: Caller) -> None:
    """End a key now."""
    services.access.revoke(key_id, by=caller)
