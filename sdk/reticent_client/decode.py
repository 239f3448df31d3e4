"""From JSON to typed answers. Owns that a value has its declared type; fields that are not declared are left out."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from reticent_client.errors import UnexpectedAnswer

T = TypeVar("T")


def decode(kind: type[T], data: object) -> T:
    """An object of a dataclass out of JSON.

    Raises:
        UnexpectedAnswer: a field is missing or of another type; the text names it, and never its value.
    """
    return typing.cast("T", _value(kind, data, kind.__name__))


@functools.cache
def fields(kind: type) -> Mapping[str, tuple[Any, bool]]:
    """Type and optionality by name, of the fields that come from the service."""
    hints = typing.get_type_hints(kind)
    return {
        one.name: (hints[one.name], {one.default, one.default_factory} != {dataclasses.MISSING})
        for one in dataclasses.fields(kind)
        if not one.metadata.get("own")
    }


def _value(kind: Any, data: object, where: str) -> Any:  # noqa: ANN401 - any type that a field may have
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in {types.UnionType, typing.Union}:
        return None if data is None else _value(next(one for one in args if one is not types.NoneType), data, where)
    if dataclasses.is_dataclass(kind):
        return _object(typing.cast("type", kind), data, where)
    if origin is tuple and isinstance(data, list):
        return tuple(_value(args[0], one, f"{where}[]") for one in data)
    if origin is Mapping and isinstance(data, dict):
        return {str(name): _value(args[1], one, f"{where}{{}}") for name, one in data.items()}
    if kind is float and type(data) is int:
        return float(data)
    if (origin is typing.Literal and data in args) or (isinstance(kind, type) and type(data) is kind):
        return data
    raise UnexpectedAnswer(f"{where} is not as expected")


def _object(kind: type, data: object, where: str) -> object:
    if not isinstance(data, dict):
        raise UnexpectedAnswer(f"{where} is not an object")
    found = {}
    for name, (hint, optional) in fields(kind).items():
        if name in data:
            found[name] = _value(hint, data[name], f"{where}.{name}")
        elif not optional:
            raise UnexpectedAnswer(f"{where}.{name} is missing")
    return kind(**found)
