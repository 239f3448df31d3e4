"""Two devices that differ in nothing but what they did: same keys, same consent, same clock, same nonces."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from client.agent import Agent
from client.behavior.events import BehaviourEvent, Purchase, Search, View
from client.device import OWNER, Node, NodeConfig
from client.settings import Settings
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.taxonomy import FeatureBlock, Role
from server.api.services import build_services
from server.settings import Settings as ServerSettings
from tests.device.conftest import Household, Wire
from tests.service.world import APP, Clock, World, catalogue, register_model

SPEC = FeatureSpec(
    name="twins",
    version=1,
    categorical=(
        CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=64),
        CategoricalField(name="page", block=FeatureBlock.CONTEXT, buckets=16),
    ),
    numeric=(
        NumericField(name="discount", block=FeatureBlock.CONTEXT),
        NumericField(name="bought.item.any", block=FeatureBlock.PERSONAL),
        NumericField(name="bought.category.any", block=FeatureBlock.PERSONAL),
        NumericField(name="said.item.any", block=FeatureBlock.PERSONAL),
    ),
)
PAGE = {"page": "home"}
Live = Callable[[Household, Agent], Any]


class Counted:
    """In place of ``secrets``: the same texts in the same order."""

    def __init__(self) -> None:
        self.count = 0

    def token_urlsafe(self, size: int) -> str:
        self.count += 1
        return f"{self.count:0{size}d}"

    token_hex = token_urlsafe


def shopper(now: float) -> list[BehaviourEvent]:
    """Somebody who did a lot, all of it about some of the products."""
    return [
        event
        for one in catalogue().creatives[2:6]
        for event in (
            Purchase(time=now - 7200, app="grocer", item=one.item_id, attributes=one.attributes),
            View(time=now - 3600, app="grocer", item=one.item_id, attributes=one.attributes),
            Search(time=now - 1800, app="grocer", query=one.item_id),
        )
    ]


def stranger(_now: float) -> list[BehaviourEvent]:
    """Somebody who did nothing."""
    return []


@dataclass(frozen=True)
class Origin:
    """An agreed device and its service, closed, to be copied."""

    folder: Path
    now: float

    @staticmethod
    def of(home: Household, folder: Path) -> Origin:
        register_model(home.world.services, spec=SPEC)
        home.world.services.catalogues.publish(catalogue().creatives)
        home.world.services.database.close()
        home.node.close()
        Node.create(home.node.directory, home.node.settings, NodeConfig(spec=SPEC)).close()
        for part in ("state", "device"):
            shutil.copytree(home.node.directory.parent / part, folder / part)
        return Origin(folder, home.clock())

    def lived(self, name: str, history: Callable[[float], list[BehaviourEvent]], live: Live) -> tuple[list[bytes], Any]:
        """Copy, live, and what went over the wire, byte by byte."""
        with self._copy(name) as home:
            for event in history(self.now):
                home.node.recorder.record(OWNER, event)
            with pytest.MonkeyPatch.context() as patch:
                same = Counted()
                patch.setattr("client.egress.secrets", same)
                patch.setattr("common.crypto.http_signing.secrets", same)
                patch.setattr("client.egress.time", Still(self.now))
                result = live(home, home.agent)
            return [raw(request) for request in home.wire.requests], result

    @contextmanager
    def _copy(self, name: str) -> Iterator[Household]:
        to = self.folder / name
        for part in ("state", "device"):
            shutil.copytree(self.folder / part, to / part)
        clock = Clock(self.now)
        world = World(build_services(ServerSettings.at(to / "state"), clock=clock), clock)
        settings = Settings(now=clock, service_url="http://service")
        try:
            with Node.open(to / "device", settings) as node:
                yield Household(world, node, Wire(world.http), clock)
        finally:
            world.close()


class Still:
    """In place of ``time``: a clock that stands still."""

    def __init__(self, now: float) -> None:
        self.now = now

    def time(self) -> float:
        return self.now


def raw(request: httpx.Request) -> bytes:
    """All of a request that its receiver can see: method, address, headers in their order, body."""
    headers = b"".join(name + b": " + value + b"\n" for name, value in request.headers.raw)
    return b"\n".join((request.method.encode(), request.url.raw_path, headers, request.content))


def permit(home: Household) -> str:
    """What the app hands over; asked for by the app, not by the device."""
    headers = home.world.key(Role.APP_BACKEND, app_id=APP)
    answer = home.world.decide(home.agent.handle, headers, slots=[{"slot_id": "top", "count": 3}])
    return str(answer["permit"])
