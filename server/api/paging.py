"""Lists by cursor. Owns how a place in a list is written down and where the next page is found.

A cursor holds the sort key of the last row that was shown, so rows that are added or erased meanwhile shift nothing.
It is opaque, names its list, and holds nothing that the page itself did not show; a forged one can only start a page
somewhere else in the same list.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Generic, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from common.errors import MalformedInput

LIMIT_DEFAULT: Final = 50
LIMIT_MAX: Final = 500
CURSOR_CHARACTERS_MAX: Final = 512
_INTEGER_MAX: Final = 2**63 - 1
T = TypeVar("T")
R = TypeVar("R")

Position = tuple[int | str, ...]
"""Values of the columns that a list is sorted by, ending in a unique one."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which page is wanted.

    Attributes:
        limit: rows on it at most; read ``limit + 1`` to learn whether there is another.
        cursor: as it was sent; ``after`` reads it.
    """

    limit: int = LIMIT_DEFAULT
    cursor: str | None = None

    @property
    def rows(self) -> int:
        """How many rows to read."""
        return self.limit + 1

    def after(self, name: str, form: tuple[type[int | str], ...]) -> Position | None:
        """The place behind which the page starts; None: at the beginning.

        Args:
            name: of the list, as given to ``cut``.
            form: types of the position's values.

        Raises:
            MalformedInput: not a cursor of this list.
        """
        return None if self.cursor is None else _read(self.cursor, name, form)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        items: its rows.
        next_cursor: asks for the next page; None on the last.
    """

    items: tuple[T, ...]
    next_cursor: str | None

    def map(self, form: Callable[[T], R]) -> Page[R]:
        """The same page with its rows in another form."""
        return Page(tuple(form(item) for item in self.items), self.next_cursor)


def asked(
    limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows on a page at most.")] = LIMIT_DEFAULT,
    cursor: Annotated[
        str | None, Query(max_length=CURSOR_CHARACTERS_MAX, description="`next_cursor` of the page before.")
    ] = None,
) -> Asked:
    """The page that a request asks for."""
    return Asked(limit, cursor)


PageDep = Annotated[Asked, Depends(asked)]


def cut(rows: Sequence[T], wanted: Asked, name: str, position: Callable[[T], Position]) -> Page[T]:
    """One page of rows that were read with ``wanted.rows`` as their limit.

    Args:
        rows: sorted, from behind ``wanted.after`` on.
        wanted: as asked.
        name: of the list.
        position: the sort key of a row.
    """
    shown = tuple(rows[: wanted.limit])
    more = len(rows) > wanted.limit
    return Page(shown, _write(name, position(shown[-1])) if more else None)


def link(request: Request, response: Response, page: Page[T]) -> None:
    """Name the next page in a ``Link`` header (RFC 8288), with the other parameters as they were."""
    if page.next_cursor is None:
        return
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "cursor"]
    query = urlencode([*others, ("cursor", page.next_cursor)])
    response.headers["link"] = f'<{request.url.path}?{query}>; rel="next"'


def _write(name: str, position: Position) -> str:
    text = json.dumps([name, *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read(cursor: str, name: str, form: tuple[type[int | str], ...]) -> Position:
    refusal = MalformedInput("the cursor is not one of this list; begin again without it")
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, *values = json.loads(raw)
    except (binascii.Error, ValueError, TypeError, RecursionError):
        raise refusal from None
    fitting = len(values) == len(form) and all(type(value) is kind for value, kind in zip(values, form, strict=True))
    if found != name or not fitting or any(isinstance(v, int) and abs(v) > _INTEGER_MAX for v in values):
        raise refusal
    if not all(isinstance(value, int) or value.isprintable() for value in values):  # no surrogates, no NUL
        raise refusal
    return tuple(values)
