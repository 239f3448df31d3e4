"""Click links: counted once, and leading to the registered landing page alone, whatever is in the link."""

from __future__ import annotations

import pytest

from common.errors import NotFound
from common.taxonomy import ControlScope, FollowUp, Role
from common.wire.messages import Creative
from server.decisions.repository import PositionKey
from server.decisions.tokens import FollowUpToken, TokenMint, creative_mark
from server.measurement.known import landing_page
from tests.service.test_events import DAY, HOUR, report
from tests.service.world import World, catalogue


def slot(world: World) -> dict[str, object]:
    answer = world.decide(None, world.key(Role.APP_BACKEND))
    return dict(answer["slots"][0])


def follow(world: World, token: str, **more: object) -> tuple[int, str | None]:
    answer = world.http.get(f"/c/{token}", follow_redirects=False, **more)
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-store"
    return answer.status_code, answer.headers.get("location")


def landing(shown: dict[str, object]) -> str:
    return str(shown["creative"]["landing_url"])  # type: ignore[index]


def test_a_click_leads_to_the_registered_page_however_often_and_counts_once(any_world: World) -> None:
    shown = slot(any_world)
    tokens: dict[str, str] = shown["tokens"]  # type: ignore[assignment]
    assert report(any_world, tokens["impression"], "impression") == (202, "")
    for _ in range(3):
        assert follow(any_world, tokens["click"]) == (303, landing(shown))
    assert any_world.services.follow_ups.tally() == {"impression": 1, "click": 1}
    assert report(any_world, tokens["click"], "click") == (409, "TokenReplayed")
    assert report(any_world, tokens["conversion"], "conversion") == (202, "")


def test_a_click_without_its_impression_leads_there_and_counts_nothing(furnished: World) -> None:
    shown = slot(furnished)
    assert follow(furnished, shown["tokens"]["click"]) == (303, landing(shown))  # type: ignore[index]
    assert not furnished.services.follow_ups.tally()


def test_late_clicks_lead_nowhere(furnished: World) -> None:
    for seen in (True, False):
        tokens: dict[str, str] = slot(furnished)["tokens"]  # type: ignore[assignment]
        if seen:
            report(furnished, tokens["impression"], "impression")
        furnished.clock.advance(HOUR + DAY + 1)
        assert follow(furnished, tokens["click"]) == (410, None)


def test_nothing_in_the_link_says_where_it_leads(furnished: World) -> None:
    shown = slot(furnished)
    tokens: dict[str, str] = shown["tokens"]  # type: ignore[assignment]
    for query in ("url=https://evil.example", "next=//evil.example", "redirect=javascript:alert(1)"):
        answer = furnished.http.get(f"/c/{tokens['click']}?{query}", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, landing(shown))
    hostile = {"host": "evil.example", "x-forwarded-host": "evil.example", "referer": "https://evil.example/"}
    assert follow(furnished, tokens["click"], headers=hostile) == (303, landing(shown))


@pytest.mark.parametrize("kind", ["impression", "conversion", "close"])
def test_other_kinds_of_token_lead_nowhere(furnished: World, kind: str) -> None:
    tokens: dict[str, str] = slot(furnished)["tokens"]  # type: ignore[assignment]
    assert follow(furnished, tokens[kind]) == (403, None)
    assert not furnished.services.follow_ups.tally()


@pytest.mark.parametrize(
    "token",
    ["x", "rft3.a.1.c" + "A" * 20, "https:%2F%2Fevil.example", "%0d%0aLocation:%20https:%2F%2Fevil.example", "é" * 9],
)
def test_what_is_no_token_leads_nowhere(furnished: World, token: str) -> None:
    assert follow(furnished, token) in {(403, None), (404, None)}  # with a slash in it, it is no path of ours


def test_a_link_too_long_for_a_token_is_an_error_and_no_more(furnished: World) -> None:
    assert furnished.http.get(f"/c/{'a' * 5_000}", follow_redirects=False).status_code == 422


def test_a_tag_of_ours_for_what_was_never_decided_leads_nowhere(furnished: World) -> None:
    mint = TokenMint(furnished.services.settings.pepper.read_bytes())
    mark = creative_mark(catalogue().creatives[0].creative_id)
    token = mint.issue(FollowUpToken(PositionKey("dec_1", "top", 0), mark, FollowUp.CLICK, 2**40))
    assert follow(furnished, token) == (403, None)


def test_a_stopped_campaign_leads_nowhere(furnished: World) -> None:
    shown = slot(furnished)
    officer = furnished.key(Role.PRIVACY_OFFICER)
    order = {"scope": ControlScope.CAMPAIGN.value, "target": shown["creative"]["advertiser"]}  # type: ignore[index]
    stopped = furnished.http.post("/v1/controls/kill", json=order, headers=officer)
    assert stopped.status_code in {200, 201}, stopped.text
    assert follow(furnished, shown["tokens"]["click"]) == (404, None)  # type: ignore[index]


def test_a_click_leads_where_the_catalogue_said_when_it_was_shown(furnished: World) -> None:
    shown = slot(furnished)
    moved = [c.model_copy(update={"landing_url": "https://new.example/"}) for c in catalogue().creatives]
    furnished.services.catalogues.publish(moved)
    assert follow(furnished, shown["tokens"]["click"]) == (303, landing(shown))  # type: ignore[index]
    assert follow(furnished, slot(furnished)["tokens"]["click"]) == (303, "https://new.example/")  # type: ignore[index]


@pytest.mark.parametrize(
    "url",
    [
        "https://",
        "https:///path",
        "https://user@evil.example/",
        "https://good.example:secret@evil.example/",
        "https://good.example\\@evil.example/",
        "https://good.example/\r\nset-cookie: a=b",
        "https://good.example/\x00",
        "https://good.example /",
        "https://good.example:port/",
        "https://[::1/",
        "http://good.example/",
        "javascript:alert(1)",
        "//evil.example/",
    ],
)
def test_pages_that_nobody_should_be_sent_to(url: str) -> None:
    creative = catalogue(1).creatives[0]
    with pytest.raises(NotFound):
        landing_page(Creative.model_construct(**(creative.model_dump() | {"landing_url": url})))
    assert landing_page(creative) == creative.landing_url
