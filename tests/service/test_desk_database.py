"""The desk on both kinds of database: its session and every page that it may open."""

from __future__ import annotations

import asyncio
import re

import httpx

from common.taxonomy import PrivacyUnit, Role
from server.dashboard.door import COOKIE
from tests.service.world import World

PAGES = ("", "budgets", "releases", "consent", "requests", "caps", "controls", "log", "exports", "reports/dpia")


def test_pages_and_sessions(any_world: World) -> None:
    device = any_world.consenting()
    any_world.services.caps.propose(PrivacyUnit.USER, "cap", 5, reason="a pause", holder="ada.officer")
    key = any_world.services.access.issue(Role.PRIVACY_OFFICER, label="desk", holder="ada.officer").token
    asyncio.run(_walk(any_world, key, device.handle))


async def _walk(world: World, key: str, handle: str) -> None:
    transport = httpx.ASGITransport(world.app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", follow_redirects=True) as client:
        door = await client.get("/desk/sign-in")
        token = re.search(r'name="form_token" value="([0-9a-f]+)"', door.text)
        assert token
        page = await client.post("/desk/sign-in", data={"form_token": token[1], "api_key": key})
        assert page.url.path == "/desk/"
        for name in PAGES:
            answer = await client.get(f"/desk/{name}")
            assert (answer.status_code, answer.url.path) == (200, f"/desk/{name}")
        assert handle in (await client.get(f"/desk/search?q={handle}")).text
        for odd in ("search?q=a%00b", "budgets?device=a%00b", f"log?before={10**30}", f"requests?before={10**30}"):
            assert (await client.get(f"/desk/{odd}")).status_code < 500, odd
        assert "ε&nbsp;=&nbsp;5" in (await client.get("/desk/caps")).text
        assert (await client.get("/desk/exports/bundle")).content.startswith(b"PK")
        world.clock.advance(8 * 3600)
        assert (await client.get("/desk/caps")).url.path == "/desk/sign-in"
        assert COOKIE in client.cookies
