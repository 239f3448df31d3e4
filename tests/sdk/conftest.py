from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from common.crypto.signing import SigningKey
from common.taxonomy import Role
from common.wire.messages import SubjectEnrolment
from server.api.services import Services, initialise
from server.settings import Settings
from tests.service.alive import alive
from tests.service.bidding import creatives
from tests.service.world import APP, register_model


@dataclass(frozen=True)
class Live:
    """A service on loopback, and a backend's key."""

    url: str
    key: str
    services: Services

    def enrol(self) -> str:
        public = SigningKey.generate().public.x
        person = SubjectEnrolment(public_key=public, app_id=APP, age_band="adult", jurisdiction="CN")
        return self.services.consent.enrol(person)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    services = initialise(Settings.at(tmp_path_factory.mktemp("sdk") / "state"))
    register_model(services)
    services.catalogues.publish(creatives())
    key = services.access.issue(Role.APP_BACKEND, label="shop", app_id=APP).token
    with alive(services) as url:
        yield Live(url, key, services)
