"""Reading JSON from strangers. Owns that nothing in it is ambiguous, and that each value is what it is taken for.

A name that occurs twice could say yes to one reader and no to another, so such a document is not read at all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from common.errors import MalformedInput

Node = Mapping[str, Any]
NOTHING: Final[Node] = {}


def read_object(body: bytes) -> Node:
    """The JSON object in a body, whatever its declared type.

    Raises:
        MalformedInput: it is not UTF-8, not JSON, not an object, nested too deeply, or says something twice.
    """
    try:
        found = json.loads(body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise MalformedInput("the body is not one JSON object in UTF-8 whose names each occur once") from None
    if not isinstance(found, dict):
        raise MalformedInput("the body is not a JSON object")
    return found


def child(node: Node, *names: str) -> Node:
    """The object at a path; an empty one where there is none."""
    for name in names:
        found = node.get(name)
        node = found if isinstance(found, dict) else NOTHING
    return node


def text(node: Node, name: str, *, longest: int = 200) -> str | None:
    """A text that can be written again, or None."""
    found = node.get(name)
    return found if isinstance(found, str) and 0 < len(found) <= longest and is_plain(found) else None


def number(node: Node, name: str) -> float | None:
    """A finite number, or None."""
    found = node.get(name)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found) if math.isfinite(found) else None
    except OverflowError:
        return None


def whole(node: Node, name: str, *, least: int, most: int) -> int | None:
    """A whole number between bounds, or None."""
    found = number(node, name)
    return int(found) if found is not None and found == int(found) and least <= found <= most else None


def is_flag(node: Node, name: str) -> bool:
    """Whether a 0/1 field is set; anything but 0, false and nothing at all counts as set: it protects somebody."""
    return node.get(name) not in (None, 0, False)


def texts(node: Node, name: str, *, most: int) -> tuple[str, ...]:
    """The texts of a list that may be as long as ``most``.

    Raises:
        MalformedInput: it is longer, or not a list of texts.
    """
    found = node.get(name)
    if found is None:
        return ()
    fitting = isinstance(found, Sequence) and not isinstance(found, str) and len(found) <= most
    if not fitting or not all(isinstance(one, str) and 0 < len(one) <= 200 and is_plain(one) for one in found):
        raise MalformedInput(f"{name} is not a list of at most {most} texts")
    return tuple(found)


def is_plain(value: str) -> bool:
    """Whether a text holds no control characters and no half of a surrogate pair."""
    return not any(character < " " or character == "\x7f" or "\ud800" <= character <= "\udfff" for character in value)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
