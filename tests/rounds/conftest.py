"""Fixtures of the round tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.flower.nodes import World, make_world
from tests.rounds.secagg_ears import Ear
from tests.rounds.secagg_hub import app_of, secure


@pytest.fixture
def ear(monkeypatch: pytest.MonkeyPatch) -> Ear:
    return Ear(monkeypatch)


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., World]]:
    """Makes a world and puts the ClientApp into it."""
    stack = []

    def make(nodes: int = 3, devices: int = 3, **more: object) -> World:
        world = make_world(tmp_path / "world", nodes=nodes, devices=devices, **(secure() | more))
        stack.append(app_of(world, monkeypatch))
        stack[-1].__enter__()
        return world

    yield make
    for one in stack:
        one.__exit__(None, None, None)


@pytest.fixture
def world(build: Callable[..., World]) -> World:
    return build()
