"""Roles by endpoint: the table is the whole truth, and what is not in it is refused."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from common.taxonomy import Role
from server.access.service import AccessService
from server.api import security
from tests.service.world import World, bearer

SENT = {"{key_id}": "key_none", "{digest}": "0" * 64, "{version}": "current", "{name}": "none.svg"}


def concrete(path: str) -> str:
    for placeholder, value in SENT.items():
        path = path.replace(placeholder, value)
    return path


def keys(world: World) -> dict[Role, dict[str, str]]:
    backends = {role: world.key(role) for role in Role if role is not Role.DEVICE}
    return {Role.DEVICE: world.enrol().headers} | backends


def test_every_role_at_every_endpoint(world: World) -> None:
    held = keys(world)
    for (method, path), allowed in security.ACCESS.items():
        for role, headers in held.items():
            answer = world.http.request(method, concrete(path), headers=headers)
            refused = answer.status_code == 403 and answer.json().get("title") == "NotAllowed"
            assert refused is bool(allowed and role not in allowed), (method, path, role, answer.text)
            assert answer.status_code != 401


def test_endpoints_that_are_not_public_need_a_key(world: World) -> None:
    wrong = ["", "Basic cnRr", "Bearer", "Bearer rtk_admin_", "Bearer rtk_admin_" + "A" * 43, "bearer " + "x" * 9000]
    for (method, path), allowed in security.ACCESS.items():
        for header in wrong:
            answer = world.http.request(method, concrete(path), headers={"authorization": header} if header else {})
            assert (answer.status_code == 401) is bool(allowed), (method, path, header)


def test_what_is_not_in_the_table_is_open_to_nobody(world: World) -> None:
    router = APIRouter()

    @router.get("/v1/forgotten", include_in_schema=False)
    def forgotten() -> str:
        return "secret"

    world.app.include_router(router)
    for headers in ({}, *keys(world).values()):
        answer = world.http.get("/v1/forgotten", headers=headers)
        assert (answer.status_code, answer.json()["title"]) == (403, "NotAllowed")


def test_an_endpoint_without_roles_stops_the_start() -> None:
    with pytest.raises(RuntimeError, match="forgotten"):
        security.check_complete({"paths": {"/v1/forgotten": {"get": {}}}})


def test_openapi_names_the_roles(world: World) -> None:
    schema = world.http.get("/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert schema["paths"]["/v1/decisions"]["post"]["x-roles"] == ["app_backend", "device"]
    assert "security" not in schema["paths"]["/v1/events"]["post"]
    body = schema["paths"]["/v1/decisions"]["post"]["requestBody"]["content"]["application/json"]
    assert {"schema", "example"} <= set(body)


def test_device_keys_need_a_subject_and_others_have_none(world: World) -> None:
    access: AccessService = world.services.access
    with pytest.raises(ValueError, match="one subject"):
        access.issue(Role.DEVICE, label="x")
    with pytest.raises(ValueError, match="one subject"):
        access.issue(Role.ADMIN, label="x", subject=world.enrol().handle)


def test_a_key_of_another_installation_opens_nothing(world: World) -> None:
    token = AccessService(world.services.database, b"other pepper" * 4, world.clock).issue(Role.ADMIN, label="x").token
    assert world.http.post("/v1/api-keys", json={"role": "admin"}, headers=bearer(token)).status_code == 401
