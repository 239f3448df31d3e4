"""Roles by endpoint: the table is the whole truth, what is not in it is refused. Keys, limits, privileged reads."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from fastapi import APIRouter
from sqlalchemy import event

from common.errors import MalformedInput, NotAllowed
from common.taxonomy import LogKind, Role
from server.access.limits import QUOTAS, Quota, RateLimits, read_quotas
from server.access.principal import PERSONS, Principal
from server.access.service import AccessService
from server.api import security
from server.api.services import build_services
from server.dashboard.door import PAGES
from server.settings import Settings
from tests.service.callers import SUBJECTS_DATA, concrete, entries, keys
from tests.service.world import World, bearer


def test_every_role_at_every_endpoint(world: World) -> None:
    held, counted = keys(world), Counter[bool]()
    for (method, path), allowed in security.ACCESS.items():
        for role, headers in held.items():
            answer = world.http.request(method, concrete(path), headers=headers)
            title = answer.json().get("title") if answer.headers.get("content-type", "").endswith("json") else None
            refused = answer.status_code == 403 and title == "NotAllowed"
            if (method, path) == ("POST", "/v1/api-keys/{key_id}/rotate") and role in allowed:
                continue  # of their own key only; tested below
            if (method, path) == ("POST", "/v1/subjects") and role in allowed:
                assert (answer.status_code, title) == (401, "PossessionNotProven")  # a handle is no key to enrol
                continue
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
    assert public == {("POST", "/v1/events")}
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
        security.check_complete({("GET", "/v1/forgotten")})


def test_the_published_document_names_the_endpoints_of_the_table(world: World) -> None:
    paths = world.app.openapi()["paths"]
    assert {(method.upper(), path) for path, item in paths.items() for method in item} == set(security.ACCESS)


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
    said, engine = list[str](), furnished.services.database.engine
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: connection.set_trace_callback(said.append))
    furnished.decide(device.handle, shop)  # notes the key's day of use
    for headers, writes in ((shop, 1), (device.headers, 2)):
        said.clear()
        assert furnished.decide(device.handle, headers)["mode"] == "on_device"
        assert said.count("BEGIN IMMEDIATE") == writes, said
        assert said.count("COMMIT") >= writes


def test_who_acted_is_named_for_persons_only() -> None:
    assert Principal(Role.PRIVACY_OFFICER, holder="ana").actor == "privacy_officer:ana"
    assert Principal(Role.APP_BACKEND, holder="grocer").actor == "app_backend"
    assert Principal(Role.DEVICE, "handle").actor == "device"
