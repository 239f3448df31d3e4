"""Who gets in, for how long, and what a form must carry."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from common.taxonomy import Role
from server.api.services import Services
from server.dashboard import door
from server.dashboard.sessions import IDLE_S, LASTS_S
from tests.desk.conftest import TOKEN, Installed, TurnedClock, Visit, key_of

PATHS = {
    "/static/{name}": "/static/desk.css",
    "/language": "/language?to=en",
    "/releases/{version}": "/releases/1",
    "/requests/{request_id}": "/requests/dsr_none_such",
    "/caps/{change_id}": "/caps/999",
    "/exports/{name}": "/exports/caps",
    "/reports/{name}": "/reports/ropa",
    "/review/{plan_id}": "/review/crv_00000000000000000000",
    "/review/{plan_id}/preview": "/review/crv_00000000000000000000/preview",
    "/review/{plan_id}/moves": "/review/crv_00000000000000000000/moves",
    "/experiments/{experiment_id}/stop": "/experiments/none/stop",
    "/changes/{number}": "/changes/999",
    "/placements/{slot_id}/removal": "/placements/none.such/removal",
}


def test_wrong_keys_open_nothing(services: Services) -> None:
    visit = Visit(services)
    scopes = frozenset({"GET /v1/ledger"})
    narrowed = services.access.issue(Role.PRIVACY_OFFICER, label="t", holder="narrow", scopes=scopes).token
    for key in (
        narrowed,
        "",
        "x",
        "rtk_privacy_officer_" + "A" * 43,
        key_of(services, Role.APP_BACKEND),
        key_of(services, Role.ADVERTISER),
    ):
        answer = visit.sign_in(key)
        assert answer.status_code in {401, 422}
        assert door.COOKIE not in visit.client.cookies
    assert visit.get("/budgets").url.path == "/desk/sign-in"


@pytest.mark.parametrize(
    ("base", "secure"), [("http://127.0.0.1", False), ("http://desk.example", True), ("https://desk.example", True)]
)
def test_the_cookie(services: Services, filled: Installed, base: str, secure: bool) -> None:
    visit = Visit(services, base=base)
    page = visit.client.get("/desk/sign-in")
    token = TOKEN.search(page.text)
    assert token
    door_cookie = re.search(rf"{door.DOOR_COOKIE}=[^;]+", page.headers["set-cookie"])
    assert door_cookie
    visit.client.cookies.clear()
    answer = visit.client.post(
        "/desk/sign-in",
        data={"form_token": token[1], "api_key": filled.keys["ada.officer"]},
        headers={"cookie": door_cookie[0]},
        follow_redirects=False,
    )
    assert answer.status_code == 303
    line = next(line for line in answer.headers.get_list("set-cookie") if line.startswith(door.COOKIE))
    attributes = {part.strip().lower() for part in line.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/desk"} <= attributes
    assert ("secure" in attributes) is secure


@pytest.mark.parametrize("end", ["idle", "age", "revoked", "sign-out"])
def test_a_session_ends(services: Services, filled: Installed, officer: Visit, clock: TurnedClock, end: str) -> None:
    assert officer.get("/budgets").url.path == "/desk/budgets"
    if end == "idle":
        clock.ahead += IDLE_S
    elif end == "age":
        for _ in range(LASTS_S // (IDLE_S - 60)):
            clock.ahead += IDLE_S - 60
            assert officer.get("/").url.path == "/desk/"
        clock.ahead += IDLE_S - 60
    elif end == "revoked":
        services.access.revoke(services.access.authenticate(filled.keys["ada.officer"]).key_id)
    else:
        cookie = officer.client.cookies[door.COOKIE]
        officer.post("/sign-out")
        officer.client.cookies.set(door.COOKIE, cookie, path="/desk")  # whoever copied it has nothing
    assert officer.get("/budgets").url.path == "/desk/sign-in"


def test_neither_cookie_nor_key_is_stored(services: Services, filled: Installed, officer: Visit) -> None:
    cookie = officer.client.cookies[door.COOKIE]
    state = services.settings.state_dir
    with sqlite3.connect(state / "reticent.db") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    stored = b"".join(path.read_bytes() for path in state.rglob("*") if path.is_file())
    assert cookie.encode() not in stored
    assert filled.keys["ada.officer"].encode() not in stored
    assert b"ada.officer" in stored  # the search finds what is there


def test_a_form_of_another_site_or_session_changes_nothing(services: Services, officer: Visit, second: Visit) -> None:
    stop = {"scope": "purpose", "target": "train.local"}
    officer.get("/controls")
    second.get("/controls")
    foreign = TOKEN.search(second.page)
    assert foreign
    refused: list[httpx.Response] = [
        officer.post("/controls", token="", **stop),
        officer.post("/controls", token=foreign[1], **stop),
        officer.post("/controls", headers={"sec-fetch-site": "cross-site"}, **stop),
        officer.post("/controls", headers={"origin": "https://elsewhere.example"}, **stop),
    ]
    assert [answer.status_code for answer in refused] == [403] * 4
    assert "train.local" not in {stop.target for stop in services.controls.stopped()}
    assert officer.post("/controls", **stop).status_code == 200  # the control: with its token it works
    assert "train.local" in {stop.target for stop in services.controls.stopped()}


def test_roles_by_page(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in (Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN):
        visit = Visit(services)
        assert visit.sign_in(key_of(services, role)).status_code == 200
        for (method, page), roles in door.PAGES.items():
            if page in {"/sign-in", "/sign-out"}:
                continue
            visit.get("/")
            answer = visit.get(PATHS.get(page, page)) if method == "GET" else visit.post(PATHS.get(page, page))
            refused = answer.status_code == 403
            assert refused is not (not roles or role in roles), (role, method, page, answer.status_code)
            assert answer.status_code < 500
    visit = Visit(services)
    visit.sign_in(key_of(services, Role.PRIVACY_OFFICER))
    fewer = {page: roles for page, roles in door.PAGES.items() if page != ("GET", "/budgets")}
    monkeypatch.setattr(door, "PAGES", fewer)
    assert visit.get("/budgets").status_code == 403  # default deny: what is not in the table opens for nobody


def test_nobody_gets_in_without_a_session(services: Services) -> None:
    visit = Visit(services)
    for (method, page), roles in door.PAGES.items():
        if roles:
            path = f"/desk{PATHS.get(page, page)}"
            answer = visit.client.request(method, path, follow_redirects=False)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/desk/sign-in")


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/desk//evil", "/desk/\\evil", "/v1/x", "/desk/a\nb"]
)
def test_no_way_out_by_redirect(services: Services, filled: Installed, wanted: str) -> None:
    visit = Visit(services)
    visit.get("/sign-in")
    token = TOKEN.search(visit.page)
    assert token
    fields: dict[str, Any] = {"form_token": token[1], "api_key": filled.keys["ada.officer"], "wanted": wanted}
    answer = visit.client.post("/desk/sign-in", data=fields, follow_redirects=False)
    assert answer.headers["location"] == "/desk/"
    answer = visit.client.get("/desk/language", params={"to": "zh-CN", "back": wanted}, follow_redirects=False)
    assert answer.headers["location"] == "/desk/"


def test_static_serves_its_own_files_alone(services: Services) -> None:
    visit = Visit(services)
    assert visit.client.get("/desk/static/desk.css").headers["content-type"].startswith("text/css")
    for name in ("../app.py", "..%2Fapp.py", "desk.py", "%2e%2e/app.py"):
        assert visit.client.get(f"/desk/static/{name}").status_code in {403, 404}
    assert Path("server/dashboard/app.py").is_file()
