"""API keys: who issues which, scopes, rotation with overlap, and what the log says of them."""

from __future__ import annotations

import re

from alembic import command
from sqlalchemy import event, text

from common.taxonomy import LogKind, Role
from server import migrations
from server.access.routes import MAY_ISSUE
from server.access.service import DAY_S
from server.api import security
from server.settings import Settings
from server.storage import open_database
from tests.service.callers import HANDLE, concrete, entries, keys
from tests.service.world import APP, World, bearer


def test_who_may_issue_which_key(world: World) -> None:
    held = keys(world)
    for issuer in (Role.ADMIN, Role.PRIVACY_OFFICER):
        for role in set(Role) - {Role.DEVICE}:
            answer = world.http.post("/v1/api-keys", json={"role": role.value}, headers=held[issuer])
            expected = 201 if role in MAY_ISSUE[issuer] else 403
            assert answer.status_code == expected, (issuer, role, answer.text)
    assert world.http.post("/v1/api-keys", json={"role": "device"}, headers=held[Role.ADMIN]).status_code == 422
    assert MAY_ISSUE[Role.ADMIN].isdisjoint({Role.PRIVACY_OFFICER, Role.AUDITOR})


def test_scopes_narrow_a_role(world: World) -> None:
    officer = world.key(Role.PRIVACY_OFFICER)
    made = {"role": "auditor", "scopes": ["api-keys:read"], "holder": "rosa"}
    narrow = bearer(world.http.post("/v1/api-keys", json=made, headers=officer).json()["api_key"])
    assert world.http.get("/v1/api-keys", headers=narrow).status_code == 200
    narrowed = [
        endpoint
        for endpoint, roles in security.ACCESS.items()
        if Role.AUDITOR in roles and security.scope_of(*endpoint) != "api-keys:read"
    ]
    for method, path in narrowed:
        answer = world.http.request(method, concrete(path), headers=narrow)
        assert (answer.status_code, answer.json()["title"]) == (403, "NotAllowed"), path
    for scopes in (["consents:read"], ["nonsense"], ["api-keys:delete"]):
        answer = world.http.post("/v1/api-keys", json=made | {"scopes": scopes, "role": "auditor"}, headers=officer)
        assert (answer.status_code == 400) is not (scopes[0] in security.scopes_of(Role.AUDITOR))


def test_rotation_overlaps_keeps_the_person_and_is_the_holders_own(world: World) -> None:
    issued = world.services.access.issue(Role.PRIVACY_OFFICER, label="x", holder="ana", scopes=frozenset())
    old = bearer(issued.token)
    path = f"/v1/api-keys/{issued.key_id}/rotate"
    for other in (world.key(Role.ADMIN), world.key(Role.PRIVACY_OFFICER, holder="bo")):
        assert world.http.post(path, json={}, headers=other).status_code == 403
    made = world.http.post(path, json={"overlap_hours": 2}, headers=old).json()
    fresh = bearer(made["api_key"])
    callers = [world.services.access.authenticate(one["authorization"].removeprefix("Bearer ")) for one in (old, fresh)]
    assert callers[0].key_id != callers[1].key_id
    assert {(caller.holder, caller.credential, caller.role) for caller in callers} == {
        ("ana", issued.key_id, Role.PRIVACY_OFFICER)
    }
    world.clock.advance(2 * 3600 - 1)
    assert world.http.get("/v1/api-keys", headers=old).status_code == 200
    world.clock.advance(1)
    assert world.http.get("/v1/api-keys", headers=old).status_code == 401
    assert world.http.get("/v1/api-keys", headers=fresh).status_code == 200


def test_rotation_makes_no_key_longer_than_it_was_issued_for(any_world: World) -> None:
    issued = any_world.services.access.issue(Role.AUDITOR, label="for a week", days=7)
    path = f"/v1/api-keys/{issued.key_id}/rotate"
    made = any_world.http.post(path, json={"days": 3660}, headers=bearer(issued.token)).json()
    assert made["expires_at"] <= any_world.clock() + 7 * DAY_S
    any_world.clock.advance(DAY_S / 2)
    path = f"/v1/api-keys/{made['key_id']}/rotate"
    again = any_world.http.post(path, json={"days": 1}, headers=bearer(made["api_key"])).json()
    assert again["expires_at"] == int(any_world.clock()) + DAY_S, "a shorter one may be asked for"


def test_a_key_is_rotated_once(any_world: World) -> None:
    """Who has stolen a key must not make a successor of their own while the holder's rotation overlaps."""
    issued = any_world.services.access.issue(Role.AUDITOR, label="x")
    path, stolen = f"/v1/api-keys/{issued.key_id}/rotate", bearer(issued.token)
    made = any_world.http.post(path, json={"overlap_hours": 48}, headers=stolen).json()
    answer = any_world.http.post(path, json={}, headers=stolen)
    assert (answer.status_code, answer.json()["title"]) == (403, "NotAllowed")
    assert any_world.http.get("/v1/api-keys", headers=stolen).status_code == 200, "the overlap holds"
    path, own = f"/v1/api-keys/{made['key_id']}/rotate", bearer(made["api_key"])
    assert any_world.http.post(path, json={}, headers=own).status_code == 201


def test_keys_are_listed_by_cursor_without_what_opens_them(any_world: World) -> None:
    for number in range(7):
        any_world.services.access.issue(Role.APP_BACKEND, label=f"shop {number}", app_id=APP)
        any_world.clock.advance(number % 2)
    officer = any_world.key(Role.PRIVACY_OFFICER)
    path, seen = "/v1/api-keys?limit=3", []
    while path:
        answer = any_world.http.get(path, headers=officer)
        assert answer.status_code == 200, answer.text
        seen += answer.json()["items"]
        assert "key_hash" not in answer.text
        found = re.fullmatch(r'<(.+)>; rel="next"', answer.headers.get("link", ""))
        path = found[1] if found else ""
        assert bool(path) is (answer.json()["next_cursor"] is not None)
    assert len({line["key_id"] for line in seen}) == len(seen) == 8
    assert [line["created_at"] for line in seen] == sorted(line["created_at"] for line in seen)
    for cursor in ("x", "W10", "WyJvdGhlciIsMSwiYSJd", "WyJhcGkta2V5cyIsIjEiLDJd", "%00", "e30"):
        assert any_world.http.get(f"/v1/api-keys?cursor={cursor}", headers=officer).status_code == 400, cursor


def test_the_day_of_use_is_noted_once_a_day(world: World) -> None:
    issued = world.services.access.issue(Role.ADMIN, label="x")
    writes: list[str] = []

    def note(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        if statement.startswith("UPDATE api_key"):
            writes.append(statement)

    event.listen(world.services.database.engine, "before_cursor_execute", note)
    for _ in range(3):
        world.services.access.authenticate(issued.token)
    assert len(writes) == 1
    world.clock.advance(DAY_S)
    world.services.access.authenticate(issued.token)
    assert len(writes) == 2
    line = next(key for key in world.services.access.listed(after=None, rows=50) if key.key_id == issued.key_id)
    assert line.last_used_day == int(world.clock()) // DAY_S


def test_what_happens_to_keys_is_in_the_log(world: World) -> None:
    admin = world.services.access.issue(Role.ADMIN, label="x", holder="dana")
    made = world.http.post("/v1/api-keys", json={"role": "app_backend"}, headers=bearer(admin.token)).json()
    for _ in range(2):
        world.http.delete(f"/v1/api-keys/{made['key_id']}", headers=bearer(admin.token))
    world.http.post(f"/v1/api-keys/{admin.key_id}/rotate", json={}, headers=bearer(admin.token))
    found = [(actor, record) for actor, record in entries(world, LogKind.KEY) if "api-key-" in record]
    kinds = [(actor, re.search(r"api-key-(\w+)", record)[1]) for actor, record in found]  # type: ignore[index]
    assert kinds == [
        ("command line", "issued"),
        ("admin:dana", "issued"),
        ("admin:dana", "revoked"),
        ("admin:dana", "rotated"),
    ]
    assert not any(token in record for _, record in found for token in (admin.token, made["api_key"]))


def test_keys_of_before_become_their_own_holders_and_devices_keys_go(any_settings: Settings) -> None:
    database = open_database(any_settings.database_url)
    config = migrations._config()
    with database.engine.begin() as connection:
        config.attributes["connection"] = connection
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA defer_foreign_keys=ON")
            command.downgrade(config, "consent_states")
        else:
            command.upgrade(config, "consent_states")
        connection.execute(
            text(
                "INSERT INTO subject (handle, public_key, app_id, age_band, jurisdiction, created_day, objected,"
                " restricted) VALUES (:handle, :key, 'a', 'adult', 'CN', 1, false, false)"
            ),
            {"handle": HANDLE, "key": "A" * 43},
        )
        for key_id, role, subject in (("k1", "admin", None), ("k2", "device", HANDLE)):
            connection.execute(
                text(
                    "INSERT INTO api_key (key_id, role, key_hash, subject, label, created_at, expires_at)"
                    " VALUES (:key_id, :role, :key_id, :subject, '', 1, 2)"
                ),
                {"key_id": key_id, "role": role, "subject": subject},
            )
        command.upgrade(config, "head")
        rows = connection.exec_driver_sql("SELECT key_id, holder, lineage, scopes FROM api_key").fetchall()
    database.close()
    assert [tuple(row) for row in rows] == [("k1", "k1", "k1", "")]
