"""A small installation: a clock that tests turn, a specification, a model, a catalogue, and people."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from common.crypto.signing import SigningKey
from common.model.arrays import Arrays
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import FeatureBlock, ModelFamily, NeighbouringRelation, PrivacyUnit, Purpose, Role, TrustModel
from common.wire.messages import Catalogue, ModelManifest, ModelSpec
from server.api.app import create_app
from server.api.services import Services
from server.campaigns.templates import ItemFacts, build_catalogue, read_templates
from server.registry.service import register
from tests.service.http import DeviceAuth, Http, SignedHeaders

APP = "demo-grocer"
PLACEMENT = {"train.local": "given", "place.personalised": "given"}

SPEC = FeatureSpec(
    name="service world",
    version=1,
    categorical=(
        CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=64),
        CategoricalField(name="category", block=FeatureBlock.CONTEXT, buckets=16),
        CategoricalField(name="page", block=FeatureBlock.CONTEXT, buckets=16),
        CategoricalField(name="bought_before", block=FeatureBlock.PERSONAL, buckets=4),
    ),
    numeric=(
        NumericField(name="discount", block=FeatureBlock.CONTEXT),
        NumericField(name="days_since", block=FeatureBlock.PERSONAL),
    ),
)
OTHER_SPEC = SPEC.model_copy(update={"version": 2})
MODEL = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.1)
STATEMENT = PrivacyStatement(
    epsilon=4.5,
    delta=1e-5,
    unit=PrivacyUnit.RECORD,
    relation=NeighbouringRelation.ADD_REMOVE,
    trust=TrustModel.LOCAL,
    composition="20 rounds",
    accountant="PLD",
    randomness="operating system",
)


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


def weights(seed: int = 0, spec: FeatureSpec = SPEC) -> Arrays:
    rng = np.random.default_rng(seed)
    template = initial_arrays(MODEL.model_copy(update={"spec_digest": spec.digest}), spec)
    return {name: rng.normal(0, 1, array.shape).astype(np.float32) for name, array in template.items()}


def register_model(services: Services, seed: int = 0, spec: FeatureSpec = SPEC) -> ModelManifest:
    return register(
        services.database.sessions,
        run_id=f"run-{seed}",
        model=MODEL.model_copy(update={"spec_digest": spec.digest}),
        spec=spec,
        arrays=weights(seed, spec),
        metrics={"auc": 0.85, "log_loss": 0.3},
        privacy=[STATEMENT, STATEMENT.model_copy(update={"epsilon": float("inf")})],
        signer=services.signer,
        log=services.log,
    )


def items(count: int = 8, category: str = "snacks") -> list[ItemFacts]:
    return [
        ItemFacts(
            item_id=str(1000 + i),
            category=category,
            attributes={"category": category, "brand": "National" if i % 2 else "Private", "product": f"Product {i}"},
            numbers={"discount": i / 10},
        )
        for i in range(count)
    ]


def catalogue(count: int = 8) -> Catalogue:
    return build_catalogue(items(count), read_templates())


@dataclass
class Device:
    """One enrolled device."""

    handle: str
    key: SigningKey = field(default_factory=SigningKey.generate)
    clock: Callable[[], float] = time.time

    @property
    def auth(self) -> DeviceAuth:
        """Signs requests to a live server: ``httpx.Client(auth=device.auth)``."""
        return DeviceAuth(self.key, self.handle, self.clock)

    @property
    def headers(self) -> SignedHeaders:
        """For ``World.http``, which signs what is sent with them; combine them with ``|``."""
        return SignedHeaders(self.auth)


def introduced(key: SigningKey, clock: Callable[[], float] = time.time) -> SignedHeaders:
    """Headers of an enrolment, signed with the key that it enrols."""
    return SignedHeaders(DeviceAuth(key, key.public.x, clock))


class World:
    """An installation and the ways people use it, over HTTP."""

    def __init__(self, services: Services, clock: Clock) -> None:
        self.services, self.clock = services, clock
        self.app = create_app(services=services)
        self.http = Http(self.app)

    def close(self) -> None:
        self.http.close()
        self.services.database.close()

    def key(self, role: Role, app_id: str | None = None, *, holder: str = "test") -> dict[str, str]:
        return bearer(self.services.access.issue(role, label="test", holder=holder, app_id=app_id).token)

    def furnish(self) -> None:
        """A model and a catalogue."""
        register_model(self.services)
        self.services.catalogues.publish(catalogue().creatives)

    def enrol(self, age_band: str = "adult", app_id: str = APP) -> Device:
        key = SigningKey.generate()
        body = {"public_key": key.public.x, "app_id": app_id, "age_band": age_band, "jurisdiction": "CN"}
        answer = self.http.post("/v1/subjects", json=body, headers=introduced(key, self.clock))
        assert answer.status_code == 201, answer.text
        return Device(answer.json()["handle"], key, self.clock)

    def notice(self, locale: str = "en") -> str:
        return str(self.http.get("/v1/notices/current", params={"locale": locale}).json()["digest"])

    def change(self, device: Device, decisions: dict[str, str] | None = None, **more: object) -> httpx.Response:
        body = {
            "handle": device.handle,
            "notice_digest": self.notice(),
            "decisions": PLACEMENT if decisions is None else decisions,
            "locale": "en",
            "surface": "settings/privacy",
        }
        return self.http.post("/v1/consents", json=body | more, headers=device.headers)

    def consenting(self) -> Device:
        device = self.enrol()
        answer = self.change(device, {purpose.value: "given" for purpose in Purpose})
        assert answer.status_code == 201, answer.text
        return device

    def withdraw(self, device: Device, purposes: object = "all") -> httpx.Response:
        body = {"handle": device.handle, "purposes": purposes}
        return self.http.post("/v1/consents/withdraw", json=body, headers=device.headers)

    def decide(self, handle: object, headers: dict[str, str], **more: object) -> dict[str, Any]:
        body: dict[str, Any] = {"handle": handle, "slots": [{"slot_id": "top"}], "context": {"page": "home"}}
        answer = self.http.post("/v1/decisions", json=body | more, headers=headers)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}
