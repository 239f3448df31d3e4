"""A device of a person's own, and a service in this process that it speaks to by its own door."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from client.agent import Agent
from client.behavior.events import View
from client.device import OWNER, Node, NodeConfig
from client.egress import HttpTransport, Signer
from client.settings import Settings
from common.taxonomy import AgeBand, Purpose
from server.api.services import build_services, initialise
from server.settings import Settings as ServerSettings
from tests.service.http import Http
from tests.service.world import Clock, World

if TYPE_CHECKING:
    from tests.device.picking import Picking


class Wire(httpx.BaseTransport):
    """Carries requests to the service in this process; can be cut, and can change what passes."""

    def __init__(self, service: Http) -> None:
        self.service = service
        self.cut = False
        self.requests: list[httpx.Request] = []
        self.change: Callable[[str, bytes], bytes] = lambda _path, body: body

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        if self.cut:
            raise httpx.ConnectError("no route to host")
        self.requests.append(request)
        path = request.url.raw_path.decode()
        answer = self.service.request(request.method, path, content=request.content, headers=request.headers)
        return httpx.Response(answer.status_code, content=self.change(path, answer.content))


@dataclass
class Household:
    """One device and its service."""

    world: World
    node: Node
    wire: Wire
    clock: Clock = field(default_factory=Clock)

    @property
    def agent(self) -> Agent:
        return Agent(self.node, OWNER, self.connect)

    def connect(self, signer: Signer | None) -> HttpTransport:
        return HttpTransport("http://service", signer=signer, transport=self.wire)

    def enrol(self, age_band: AgeBand = AgeBand.ADULT) -> str:
        return self.agent.enrol(app_id="demo-grocer", age_band=age_band, jurisdiction="DE")

    def agree(self) -> None:
        given = dict.fromkeys(Purpose, "given")
        self.agent.decide(given, notice_digest=self.world.notice(), surface="settings/privacy")  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def blank_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised service, to be copied."""
    folder = tmp_path_factory.mktemp("service") / "state"
    initialise(ServerSettings.at(folder), clock=Clock(time.time())).database.close()
    return folder


@pytest.fixture
def home(blank_service: Path, tmp_path: Path) -> Iterator[Household]:
    clock = Clock(time.time())
    shutil.copytree(blank_service, tmp_path / "state")
    world = World(build_services(ServerSettings.at(tmp_path / "state"), clock=clock), clock)
    settings = Settings(now=clock, service_url="http://service")
    with Node.create(tmp_path / "device", settings, NodeConfig()) as node:
        authority = world.services.authority.public
        node.pin(
            keys=[world.services.signer.public],
            notices=[world.notice("en"), world.notice("zh-CN")],
            authorities=() if authority is None else (authority,),
        )
        node.recorder.record(OWNER, View(time=clock() - 60, app="grocer", item="oats"))
        yield Household(world, node, Wire(world.http), clock)
    world.close()


@pytest.fixture
def agreed(home: Household) -> Household:
    home.enrol()
    home.agree()
    return home


@pytest.fixture
def picking(agreed: Household) -> Picking:
    from tests.device.picking import able_to_pick  # it needs the names of this module

    return able_to_pick(agreed)
