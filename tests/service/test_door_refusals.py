"""The door by itself: whom it does not know by the first of two keys, and one who cannot be told."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

from common.taxonomy import Role
from server.access.limits import Quota, Standing
from server.access.principal import Principal
from server.access.service import Recalled
from server.api.door import Door
from server.decisions.journal import wake

STANDING = Standing("app_backend", Quota(10, 60), 9, 6)
KNOWN = Recalled(Principal(Role.APP_BACKEND), "00", 1, 0)


def door(**services: Any) -> Door:  # noqa: ANN401 - doubles
    made = object.__new__(Door)
    made._services = SimpleNamespace(**services)  # type: ignore[assignment]
    return made


def test_two_keys_are_none_even_where_the_first_is_empty() -> None:
    """The ordinary way reads the first."""
    one = door(access=SimpleNamespace(recall=lambda _: KNOWN))
    key = (b"authorization", b"Bearer x")
    assert one._caller([key])[0] is KNOWN
    for other in (key, (b"authorization", b"")):
        assert one._caller([other, key]) == one._caller([key, other]) == (None, False)


def test_one_who_cannot_be_told_keeps_nobody_else_waiting() -> None:
    told: list[object] = []

    def broken(_: object) -> None:
        raise OSError

    late = SimpleNamespace(late=lambda _: None)
    one, entries = door(decisions=late), [SimpleNamespace(known=False, waiting=None) for _ in range(2)]
    one._encoder = SimpleNamespace(encode=lambda _: b"{}")  # type: ignore[misc, assignment]
    for entry, how in zip(entries, (broken, told.append), strict=True):
        entry.waiting = partial(one._tell, None, entry, KNOWN, STANDING, how)  # type: ignore[arg-type]
    wake(entries)  # type: ignore[arg-type]
    assert told == [(b"{}", STANDING)]
