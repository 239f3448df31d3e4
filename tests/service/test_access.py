"""Roles by endpoint: the table is the whole truth, what is not in it is refused. Keys, limits, privileged reads."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace

import pytest
from alembic import command
from fastapi import APIRouter
from sqlalchemy import event, text

from common.errors import MalformedInput, NotAllowed
from common.taxonomy import LogKind, Role
from server import migrations
from server.access.limits import QUOTAS, Quota, RateLimits, read_quotas
from server.access.principal import PERSONS, Principal
from server.access.routes import MAY_ISSUE
from server.access.service import DAY_S, AccessService
from server.api import security
from server.api.services import build_services
from server.dashboard.door import PAGES
from server.settings import Settings
from server.storage import open_database
from tests.service.world import APP, World, bearer

HANDLE = "q3Yx0mVbS1uJ7eHcKf2nPw"
SENT = {"key_id": "key_none", "digest": "0" * 64, "version": "current", "name": "none.svg"}

# What each role may do at all, by the beginnings of paths: the table is checked against this by hand-written words.
SUBJECTS_DATA = ("/v1/consents", "/v1/receipts/{", "/v1/dsr", "/v1/decisions", "/v1/ledger", "/v1/audit", "/v1/reports")


def concrete(path: str) -> str:
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda found: SENT.get(found[1], "none"), path)


def keys(world: World) -> dict[Role, dict[str, str]]:
    backends = {role: world.key(role, holder=role.value) for role in Role if role is not Role.DEVICE}
    return {Role.DEVICE: world.enrol().headers} | backends


def entries(world: World, kind: LogKind) -> list[tuple[str, str]]:
    """Actor and record of the log's entries of one kind."""
    with world.services.database.read() as session:
        query = "SELECT e.actor, r.record FROM log_entry e JOIN log_record r ON r.seq = e.seq WHERE e.kind = :kind"
        rows = session.execute(text(f"{query} ORDER BY e.seq"), {"kind": kind.value})
        return [(row[0], str(row[1])) for row in rows]


def test_every_role_at_every_endpoint(world: World) -> None:
    held, counted = keys(world), Counter[bool]()
    for (method, path), allowed in security.ACCESS.items():
        for role, headers in held.items():
            answer = world.http.request(method, concrete(path), headers=headers)
            title = answer.json().get("title") if answer.headers["content-type"].endswith("json") else None
            refused = answer.status_code == 403 and title == "NotAllowed"
            if (method, path) == ("POST", "/v1/api-keys/{key_id}/rotate") and role in allowed:
                continue  # of their own key only; tested below
            if (method, path) == ("DELETE", "/v1/api-keys/{key_id}") and role in allowed:
                assert answer.status_code == 404
            assert refused is bool(allowed and role not in allowed), (method, path, role, answer.text)
            assert answer.status_code != 401
            assert answer.status_code < 500
            counted[refused] += 1
    assert counted[True] > 100
    assert counted[False] > 100


def test_endpoints_that_are_not_public_need_a_key(world: World) -> None:
    wrong = ["", "Basic cnRr", "Bearer", "Bearer rtk_admin_", "Bearer rtk_admin_" + "A" * 43, "bearer " + "x" * 9000]
    for (method, path), allowed in security.ACCESS.items():
        for header in wrong:
            answer = world.http.request(method, concrete(path), headers={"authorization": header} if header else {})
            assert (answer.status_code == 401) is bool(allowed), (method, path, header)


def test_the_table_says_what_the_roles_are_for() -> None:
    def of(role: Role) -> set[tuple[str, str]]:
        return {endpoint for endpoint, roles in security.ACCESS.items() if role in roles}

    assert not [path for _, path in of(Role.ADMIN) if path.startswith(SUBJECTS_DATA)]
    assert not [path for _, path in of(Role.ADVERTISER) if path.startswith(SUBJECTS_DATA)]
    rotation = ("POST", "/v1/api-keys/{key_id}/rotate")
    assert {endpoint for endpoint in of(Role.AUDITOR) if not security.reads(*endpoint)} == {rotation}
    public = {endpoint for endpoint, roles in security.ACCESS.items() if not roles and not security.reads(*endpoint)}
    assert public == {("POST", "/v1/subjects"), ("POST", "/v1/events")}
    assert not [path for method, path in of(Role.APP_BACKEND) if method == "GET" and path.startswith(SUBJECTS_DATA)]


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


def test_nothing_goes_past_the_table(world: World) -> None:
    """Beside endpoints of the table there is the document of them all, and the desk, which has a table of its own."""
    router = world.app.router
    plain = {str(getattr(route, "path", "")) for route in router.routes if not hasattr(route, "include_context")}
    assert plain == {"/openapi.json", "/desk"}
    served = {endpoint for endpoint in PAGES if endpoint[0] == "GET" and PAGES[endpoint]}
    for _, path in served:
        answer = world.http.get(f"/desk{concrete(path)}")
        assert (answer.status_code, answer.headers["location"].split("?")[0]) == (303, "/desk/sign-in"), path
    for method, path in PAGES:
        if method == "POST":
            assert world.http.post(f"/desk{concrete(path)}").status_code in {303, 403, 422}, path
    narrow = world.services.access.issue(Role.AUDITOR, label="x", scopes=frozenset({"log:read"}))
    with pytest.raises(NotAllowed, match="narrowed"):
        world.services.desk.open(narrow.token)


def test_a_device_has_no_api_key(world: World) -> None:
    with pytest.raises(MalformedInput, match="signs its requests"):
        world.services.access.issue(Role.DEVICE, label="x")


def test_a_key_of_another_installation_opens_nothing(world: World) -> None:
    other = AccessService(world.services.database, b"other pepper" * 4, world.clock, log=world.services.log)
    token = other.issue(Role.ADMIN, label="x").token
    assert world.http.get("/v1/api-keys", headers=bearer(token)).status_code == 401


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── privileged reads ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_read_in_office_is_in_the_log(world: World) -> None:
    held = keys(world)
    for (method, path), allowed in security.ACCESS.items():
        for role in allowed:
            if not security.reads(method, path):
                continue
            before = len(entries(world, LogKind.PRIVILEGED_READ))
            world.http.request(method, concrete(path), headers=held[role])
            new = entries(world, LogKind.PRIVILEGED_READ)[before:]
            assert bool(new) is (role in PERSONS), (method, path, role)
            assert all(actor == f"{role.value}:{role.value}" and path in record for actor, record in new)


def test_a_read_that_cannot_be_logged_is_not_answered(world: World) -> None:
    officer = world.key(Role.PRIVACY_OFFICER)
    with world.services.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE log_record")
    assert world.http.get("/v1/api-keys", headers=officer).status_code == 503


def test_a_read_of_one_persons_papers_is_among_what_they_are_told(any_world: World) -> None:
    """A receipt and a request are somebody's: whoever asks for their data learns that an officer read them."""
    device, officer = any_world.consenting(), any_world.key(Role.PRIVACY_OFFICER, holder="ana")
    receipt = any_world.services.consent.history(device.handle)[0].receipt_id
    body = {"handle": device.handle, "request": "access"}
    asked = any_world.http.post("/v1/dsr", json=body, headers=device.headers).json()["request_id"]
    any_world.services.log.checkpoint()
    for path in (f"/v1/receipts/{receipt}", f"/v1/dsr/{asked}", f"/v1/dsr/{asked}/package"):
        any_world.http.get(path, headers=officer)
        with any_world.services.database.read() as session:
            read = any_world.services.log.about(session, device.handle)[-1].leaf
        assert (read.kind, read.actor) == (LogKind.PRIVILEGED_READ, "privacy_officer:ana"), path
        assert any_world.services.log.size() == read.seq + 1, path


ODD = ("a%00b", "%ED%A0%80", "%FF", "'", "%F0%9F%98%80" * 50, "x" * 3000)


def test_odd_bytes_break_nothing(any_world: World) -> None:
    """PostgreSQL takes no NUL in a text: what cannot be anybody's name is not found."""
    officer = any_world.key(Role.PRIVACY_OFFICER)
    for odd in ODD:
        for method, path in (
            ("GET", f"/v1/receipts/{odd}"),
            ("GET", f"/v1/dsr/{odd}"),
            ("GET", f"/v1/dsr?handle={odd}"),
            ("GET", f"/v1/notices/{odd}"),
            ("GET", f"/v1/models/{odd}"),
            ("GET", f"/static/creative/{odd}"),
            ("DELETE", f"/v1/api-keys/{odd}"),
        ):
            answer = any_world.http.request(method, path, headers=officer)
            assert answer.status_code < 500, (method, path, answer.text)
    for path, body in (
        ("/v1/consents/invalidate", {"receipt_id": "a\0b", "reason": "not-an-adult"}),
        ("/v1/controls/kill", {"scope": "campaign", "target": "a\0b"}),
        ("/v1/controls/kill", {"scope": "campaign", "target": "a", "note": "a\0b"}),
        ("/v1/controls/release", {"scope": "campaign", "target": "a\0b"}),
        ("/v1/ledger/caps", {"unit": "user", "bound": "cap", "epsilon_max": 1, "reason": "a\0b"}),
        ("/v1/api-keys", {"role": "auditor", "label": "a\0b"}),
        ("/v1/ledger/caps/99999999999999999999999999/approve", {}),
    ):
        answer = any_world.http.post(path, json=body, headers=officer)
        assert answer.status_code < 500, (path, answer.text)
    shop = any_world.key(Role.APP_BACKEND) | {"content-type": "application/json"}
    for fact in (rb'"\ud800"', rb'"\u0000"', b"1" * 400, b"1e999", b"NaN"):
        body = b'{"slots": [{"slot_id": "top"}], "context": {"page": ' + fact + b"}}"
        answer = any_world.http.post("/v1/decisions", content=body, headers=shop)
        assert answer.status_code == 200, answer.text


# ── limits ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_are_kept_by_credential_and_said(settings: Settings) -> None:
    from tests.service.world import Clock

    clock = Clock()
    services = build_services(replace(settings, rate_limits="admin=3/60 device=2/60"), clock=clock)
    limited = World(services, clock)
    try:
        first, second = limited.services.access.issue(Role.ADMIN, label="a"), limited.key(Role.ADMIN, holder="b")
        told = []
        for _ in range(3):
            answer = limited.http.get("/v1/api-keys", headers=bearer(first.token))
            assert answer.status_code == 200
            told.append((answer.headers["ratelimit"].rpartition(";")[0], answer.headers["ratelimit-policy"]))
        assert told == [(f'"admin";r={left}', '"admin";q=3;w=60') for left in (2, 1, 0)]
        answer = limited.http.get("/v1/api-keys", headers=bearer(first.token))
        assert (answer.status_code, answer.json()["type"]) == (429, "urn:reticent:problem:rate-limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert answer.headers["ratelimit"].startswith('"admin";r=0;')
        assert limited.http.get("/v1/api-keys", headers=second).status_code == 200
        devices = [limited.enrol() for _ in range(2)]
        codes = [limited.http.get("/v1/consents/me", headers=devices[0].headers).status_code for _ in range(3)]
        assert codes == [200, 200, 429]
        assert limited.http.get("/v1/consents/me", headers=devices[1].headers).status_code == 200
        assert "ratelimit" not in limited.http.get("/healthz").headers
    finally:
        limited.close()


def test_a_rotated_key_does_not_get_a_second_quota() -> None:
    now = [0.0]
    limits = RateLimits({"admin": Quota(2, 10)}, clock=lambda: now[0])
    assert [limits.spend("first", "admin").wait_s for _ in range(3)] == [0, 0, 5]
    now[0] = 5.0
    assert [limits.spend("first", "admin").wait_s for _ in range(2)] == [0, 5]
    now[0] = 60.0
    assert limits.spend("first", "admin").remaining == 1
    shared = RateLimits({"admin": Quota(2, 10)}, workers=2, clock=lambda: now[0])
    assert [shared.spend("first", "admin").wait_s > 0 for _ in range(2)] == [False, True]


def test_quotas_are_read_strictly() -> None:
    assert read_quotas("") == QUOTAS
    assert read_quotas("device=5/2")[Role.DEVICE.value] == Quota(5, 2)
    for wrong in ("device", "device=0/1", "device=5/0", "nobody=1/1", "device=-1/1", "device=1/1s", "device=1"):
        with pytest.raises(MalformedInput, match="RETICENT_RATE_LIMITS"):
            read_quotas(wrong)


def test_the_hot_path_writes_what_durability_demands_and_no_more(furnished: World) -> None:
    """One transaction for a backend; for a device one more, for its nonce."""
    device, shop = furnished.consenting(), furnished.key(Role.APP_BACKEND)
    furnished.decide(device.handle, shop)  # notes the key's day of use
    began: list[str] = []

    def note(connection: object) -> None:
        options = connection.get_execution_options()  # type: ignore[attr-defined]
        began.append(str(options.get("reticent_begin", "IMMEDIATE")))

    event.listen(furnished.services.database.engine, "begin", note)
    for headers, writes in ((shop, 1), (device.headers, 2)):
        began.clear()
        assert furnished.decide(device.handle, headers)["mode"] == "on_device"
        assert began.count("IMMEDIATE") == writes, began


def test_who_acted_is_named_for_persons_only() -> None:
    assert Principal(Role.PRIVACY_OFFICER, holder="ana").actor == "privacy_officer:ana"
    assert Principal(Role.APP_BACKEND, holder="grocer").actor == "app_backend"
    assert Principal(Role.DEVICE, "handle").actor == "device"


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
