"""Cursors: every row once, whatever is added or erased meanwhile; and a cursor of another list is refused."""

from __future__ import annotations

import base64
import json

import pytest
from fastapi import Request, Response
from hypothesis import given
from hypothesis import strategies as st

from common.errors import MalformedInput
from server.api.paging import Asked, Page, cut, link

NAME = "rows"
FORM = (int, str)
Row = tuple[int, str]


def page(rows: list[Row], wanted: Asked) -> Page[Row]:
    after = wanted.after(NAME, FORM)
    behind = [row for row in sorted(rows) if after is None or row > after]
    return cut(behind[: wanted.rows], wanted, NAME, lambda row: row)


def forged(*parts: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).rstrip(b"=").decode()


@given(
    rows=st.sets(st.tuples(st.integers(0, 5), st.text("abcé中", min_size=1, max_size=3)), max_size=30),
    limit=st.integers(1, 7),
    gone=st.integers(0, 29),
)
def test_every_row_comes_once_though_one_is_erased_meanwhile(rows: set[Row], limit: int, gone: int) -> None:
    kept, seen, cursor = sorted(rows), [], None
    while True:
        found = page(kept, Asked(limit, cursor))
        seen += found.items
        if found.next_cursor is None:
            break
        assert len(found.items) == limit
        cursor = found.next_cursor
        if gone < len(kept) and kept[gone] in seen:
            kept = kept[:gone] + kept[gone + 1 :]
    assert seen == sorted(rows)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "é",
        "=",
        "AAAA",
        forged(),
        forged("other", 1, "a"),
        forged(NAME, 1),
        forged(NAME, "1", "a"),
        forged(NAME, True, "a"),
        forged(NAME, 1.0, "a"),
        forged(NAME, 2**63, "a"),
        forged(NAME, 1, "a\0"),
        forged(NAME, 1, "\ud800"),
        forged(NAME, 1, "a", 2),
        forged(NAME, [1], "a"),
        base64.urlsafe_b64encode(b'{"a":1}').decode(),
        base64.urlsafe_b64encode(b"[" * 300).decode(),
        base64.urlsafe_b64encode(b"7").decode(),
    ],
)
def test_a_cursor_of_another_form_is_refused(cursor: str) -> None:
    with pytest.raises(MalformedInput, match="begin again without it"):
        Asked(cursor=cursor).after(NAME, FORM)


def test_the_link_keeps_the_other_parameters() -> None:
    def linked(query: bytes, cursor: str | None) -> str | None:
        scope = {"type": "http", "method": "GET", "path": "/v1/x", "query_string": query, "headers": []}
        scope |= {"scheme": "http", "server": ("service", 80)}
        response = Response()
        link(Request(scope), response, Page((), cursor))
        return response.headers.get("link")

    assert linked(b"kind=a%26b&cursor=old&limit=2", "new") == '</v1/x?kind=a%26b&limit=2&cursor=new>; rel="next"'
    assert linked(b"limit=2", None) is None
