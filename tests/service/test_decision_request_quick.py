"""The quick reading of a request is the lenient one's, or none: random bodies, well formed and not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import MalformedInput
from server.decisions.quick_request import read_quickly
from server.decisions.request import DecisionRequest, UnreadableSlots, read_request

HANDLES = [None, "q3Yx0mVbS1uJ7eHcKf2nPw", "short", "q3Yx0mVbS1uJ7eHcKf2nPw\n", 17, "a" * 65, ""]
SLOT = st.fixed_dictionaries(
    {"slot_id": st.sampled_from(["top", "a.b:c-d_1", "top\n", "<script>", "", 3])},
    optional={"count": st.sampled_from([1, 3, 20, 21, 0, "2", 1.0, True, 10**30]), "more": st.just(1)},
)
FACT = st.one_of(
    st.sampled_from(["home", "x" * 200, "x" * 201, "\ud800", "é\x00", True, None, [], 10**400, -0.0, 1e300, 1e301]),
    st.floats(),
    st.integers(),
    st.text(max_size=5),
)
BODY = st.fixed_dictionaries(
    {"slots": st.one_of(st.lists(SLOT, max_size=4), st.just({}))},
    optional={
        "handle": st.sampled_from(HANDLES),
        "context": st.one_of(
            st.dictionaries(st.sampled_from(["page", "n.1", "bad name", "", "é", "x\n", "x" * 65]), FACT), st.just("x")
        ),
        "locale": st.sampled_from(["en", "zh-CN", "tlh", None, {}]),
        "signals": st.sampled_from(
            [{}, {"gpc": True}, {"gpc": 1}, {"tcf": ""}, {"us_privacy": "1YNN", "gpp": None}, {"more": 1}, None, "x"]
        ),
        "tmax": st.sampled_from([None, 1, 60_000, 0, 60_001, True, 1.5, "9"]),
        "blocked_categories": st.sampled_from([[], ["toys"], [""], ["x" * 201], ["\x00"], "toys", None]),
        "blocked_advertisers": st.sampled_from([[], ["A", "A"], [1]]),
        "email": st.just("a@b.example"),
    },
)


def lenient(body: bytes) -> DecisionRequest | None:
    try:
        return read_request(body)
    except (MalformedInput, UnreadableSlots):
        return None


@settings(max_examples=500, deadline=None)
@given(BODY)
def test_quick_reading_agrees(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    quick = read_quickly(text)
    if quick is not None:
        assert quick == lenient(text)


GOOD: list[dict[str, Any]] = [
    {"slots": [{"slot_id": "top"}]},
    {"slots": [{"slot_id": "a", "count": 2}, {"slot_id": "b"}], "handle": "q3Yx0mVbS1uJ7eHcKf2nPw", "locale": "zh-CN"},
    {"slots": [{"slot_id": "a"}], "context": {"page": "home", "discount": 0.5, "n": 3}, "signals": {"gpc": True}},
    {"slots": [{"slot_id": "a"}], "tmax": 100, "blocked_categories": ["toys"], "blocked_advertisers": ["A"]},
]


@pytest.mark.parametrize("body", GOOD)
def test_what_is_as_declared_is_read_quickly(body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    assert read_quickly(text) == read_request(text)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe{\x00", b"[" * 20_000, b'{"slots":[{"slot_id":"a"}],"context":NaN}']
)
def test_what_is_no_json_is_left_to_the_lenient_reader(body: bytes) -> None:
    assert read_quickly(body) is None
