"""Follow-ups: in order, in time, once, by tokens that only this service makes, and about nobody."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ReticentError, TokenForged, TokenReplayed
from common.taxonomy import FollowUp, Role
from server.decisions.repository import PositionKey
from server.decisions.tokens import FollowUpToken, TokenMint, creative_mark
from tests.service.world import World

HOUR, DAY = 3_600, 86_400


def tokens(world: World) -> dict[str, str]:
    answer = world.decide(None, world.key(Role.APP_BACKEND))
    return dict(answer["slots"][0]["tokens"])


def report(world: World, token: str, follow_up: str) -> tuple[int, str]:
    answer = world.http.post("/v1/events", json={"token": token, "follow_up": follow_up})
    assert token not in answer.text
    return answer.status_code, answer.json().get("title", "")


def test_impression_click_conversion_count_once_each(any_world: World) -> None:
    given_tokens = tokens(any_world)
    for kind, token in given_tokens.items():
        assert report(any_world, token, kind) == (202, "")
    for kind, token in given_tokens.items():
        assert report(any_world, token, kind) == (409, "TokenReplayed")
    assert any_world.services.follow_ups.tally() == {"impression": 1, "click": 1, "conversion": 1, "close": 1}


def test_order_is_enforced(furnished: World) -> None:
    held = tokens(furnished)
    assert report(furnished, held["click"], "click") == (409, "TokenOutOfOrder")
    assert report(furnished, held["conversion"], "conversion") == (409, "TokenOutOfOrder")
    assert report(furnished, held["impression"], "impression") == (202, "")
    assert report(furnished, held["conversion"], "conversion") == (409, "TokenOutOfOrder")
    assert report(furnished, held["click"], "click") == (202, "")
    assert report(furnished, held["conversion"], "conversion") == (202, "")


def test_windows_end(furnished: World) -> None:
    held = tokens(furnished)
    furnished.clock.advance(HOUR + 1)
    assert report(furnished, held["impression"], "impression") == (410, "TokenLate")
    held = tokens(furnished)
    assert report(furnished, held["impression"], "impression") == (202, "")
    furnished.clock.advance(DAY + 1)
    assert report(furnished, held["click"], "click") == (410, "TokenLate")
    held = tokens(furnished)
    for kind in ("impression", "click"):
        assert report(furnished, held[kind], kind) == (202, "")
    furnished.clock.advance(7 * DAY)
    assert report(furnished, held["conversion"], "conversion") == (202, "")


def test_a_close_counts_after_its_impression_only(furnished: World) -> None:
    held = tokens(furnished)
    assert report(furnished, held["close"], "close") == (409, "TokenOutOfOrder")
    assert report(furnished, held["impression"], "impression") == (202, "")
    assert report(furnished, held["close"], "close") == (202, "")
    held = tokens(furnished)
    assert report(furnished, held["impression"], "impression") == (202, "")
    furnished.clock.advance(DAY + 1)
    assert report(furnished, held["close"], "close") == (410, "TokenLate")


def test_clocks_that_disagree_lose_nothing_and_open_no_window(furnished: World) -> None:
    """Two workers' clocks: a click may come "before" its impression, never after the end of its window."""
    held = tokens(furnished)
    furnished.clock.advance(200)
    assert report(furnished, held["impression"], "impression") == (202, "")
    furnished.clock.advance(-190)
    assert report(furnished, held["click"], "click") == (202, "")
    furnished.clock.advance(-3_600)
    assert report(furnished, held["conversion"], "conversion") == (202, "")
    held = tokens(furnished)
    furnished.clock.advance(HOUR)
    assert report(furnished, held["impression"], "impression") == (202, "")
    held = tokens(furnished)
    furnished.clock.advance(HOUR + 1)
    assert report(furnished, held["impression"], "impression") == (410, "TokenLate")


def test_tokens_are_not_to_be_swapped(furnished: World) -> None:
    """A tag holds for one kind, moment, position and creative; parts of two genuine tokens make none."""
    first, second = tokens(furnished), tokens(furnished)
    for kind, token in first.items():
        prefix, position, moment, tag = token.split(".")
        _, other_position, _, other_tag = second[kind].split(".")
        for swapped in (
            f"{prefix}.{other_position}.{moment}.{tag}",
            f"{prefix}.{position}.{moment}.{other_tag}",
            f"{prefix}.{position}.{moment}9.{tag}",
            f"{prefix}.{position}.{moment[0]}0{moment[1:]}.{tag}",
            f"{prefix}.{position}=.{moment}.{tag}",
            f"rft2.{position}.{moment}.{tag}",
            *(f"{prefix}.{position}.{moment}.{letter}{tag[1:]}" for letter in "civx" if letter != tag[0]),
            f"{token}\n",
            token.replace(".", ".."),
        ):
            assert report(furnished, swapped, kind) == (403, "TokenForged")
        for other in set(first) - {kind}:
            assert report(furnished, token, other) == (403, "TokenForged")
    assert not furnished.services.follow_ups.tally()


def test_a_genuine_tag_for_another_creative_is_refused(furnished: World) -> None:
    """Whoever holds the key's own output for a creative that was not shown there gets nothing for it."""
    mint = TokenMint(furnished.services.settings.pepper.read_bytes())
    read = mint.read(tokens(furnished)["impression"])
    other = mint.issue(replace(read, creative=creative_mark("another")))
    assert report(furnished, other, "impression") == (403, "TokenForged")
    assert report(furnished, mint.issue(read), "impression") == (202, "")  # the control: the same with its own creative


def test_a_repeated_report_under_one_idempotency_key_is_answered_as_before(furnished: World) -> None:
    token, key = tokens(furnished)["impression"], {"idempotency-key": "a-key-of-sixteen-or-more"}
    body = {"token": token, "follow_up": "impression"}
    answers = [furnished.http.post("/v1/events", json=body, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert furnished.http.post("/v1/events", json=body).status_code == 409
    assert furnished.services.follow_ups.tally() == {"impression": 1}


def test_forged_tokens_are_refused(furnished: World) -> None:
    held = tokens(furnished)
    assert report(furnished, held["click"], "impression") == (403, "TokenForged")
    body, _, tag = held["impression"].rpartition(".")
    for forged in (body + "." + tag[::-1], body + "A." + tag, "x" * 40, body + ".", "é" * 20, held["impression"] + "A"):
        assert report(furnished, forged, "impression") == (403, "TokenForged")
    foreign = TokenMint(b"another pepper" * 4).issue(
        FollowUpToken(PositionKey("dec_1", "top", 0), "mark", FollowUp.IMPRESSION, 2**40)
    )
    assert report(furnished, foreign, "impression") == (403, "TokenForged")


def test_a_genuine_token_of_an_unknown_decision_is_refused(furnished: World) -> None:
    mint = TokenMint(furnished.services.settings.pepper.read_bytes())
    token = mint.issue(FollowUpToken(PositionKey("dec_1", "top", 0), "mark", FollowUp.IMPRESSION, 2**40))
    assert report(furnished, token, "impression") == (403, "TokenForged")


def test_parallel_replays_count_once(any_world: World) -> None:
    token = tokens(any_world)["impression"]

    def confirm(_: int) -> str:
        try:
            any_world.services.follow_ups.confirm(token, FollowUp.IMPRESSION)
        except ReticentError as error:
            return error.name
        return "accepted"

    with ThreadPoolExecutor(8) as pool:
        outcomes = sorted(pool.map(confirm, range(16)))
    assert outcomes == ["TokenReplayed"] * 15 + ["accepted"]


def test_a_token_says_nothing_about_a_subject(furnished: World) -> None:
    device = furnished.enrol()
    held = furnished.decide(device.handle, device.headers)["slots"][0]["tokens"]
    read = TokenMint(furnished.services.settings.pepper.read_bytes()).read(held["impression"])
    assert device.handle not in repr(read)
    assert read.follow_up is FollowUp.IMPRESSION


@given(st.text(max_size=200))
def test_no_text_passes_for_a_token(text: str) -> None:
    with pytest.raises(TokenForged):
        TokenMint(b"p" * 32).read(text)


TOKENS = st.builds(
    FollowUpToken,
    st.builds(PositionKey, st.text(max_size=20), st.text(max_size=20), st.integers(0, 99)),
    st.text(max_size=100).map(creative_mark),
    st.sampled_from(FollowUp),
    st.integers(0, 2**40),
)


@given(TOKENS)
def test_tokens_come_back_as_they_were(token: FollowUpToken) -> None:
    mint = TokenMint(b"p" * 32)
    assert mint.read(mint.issue(token)) == token


def test_replay_has_the_error_it_is_named_by(furnished: World) -> None:
    token = tokens(furnished)["impression"]
    furnished.services.follow_ups.confirm(token, FollowUp.IMPRESSION)
    with pytest.raises(TokenReplayed):
        furnished.services.follow_ups.confirm(token, FollowUp.IMPRESSION)
