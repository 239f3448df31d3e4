"""People who agree, are asked, and what is recorded of it."""

from __future__ import annotations

import httpx
from sqlalchemy import text

from common.crypto.signing import key_ring
from common.taxonomy import Purpose
from common.wire.documents import open_document
from common.wire.messages import ConsentReceipt
from server.consent.repository import StoredEvent
from tests.service.world import Device, World

DAY = 86_400
EVERYTHING = {purpose.value: "given" for purpose in Purpose}


def enrolled(world: World, jurisdiction: str, age_band: str = "adult") -> Device:
    device = world.enrol(age_band)
    with world.services.database.write() as session:
        session.execute(
            text("UPDATE subject SET jurisdiction = :j WHERE handle = :h"), {"j": jurisdiction, "h": device.handle}
        )
    return device


def agreeing(world: World, jurisdiction: str = "CN") -> Device:
    device = enrolled(world, jurisdiction)
    assert world.change(device, EVERYTHING).status_code == 201
    return device


def events(world: World, device: Device, purpose: Purpose = Purpose.TRAIN_LOCAL) -> list[StoredEvent]:
    return [event for event in world.services.consent.history(device.handle) if event.purpose is purpose]


def told(world: World, device: Device, purpose: Purpose = Purpose.TRAIN_LOCAL) -> list[str]:
    return [event.state.value for event in events(world, device, purpose)]


def opened(world: World, receipt: str) -> ConsentReceipt:
    return open_document(receipt, ConsentReceipt, key_ring(world.services.signer.public))


def ask(world: World, device: Device, *purposes: str) -> httpx.Response:
    body = {
        "handle": device.handle,
        "notice_digest": world.notice(),
        "purposes": purposes,
        "locale": "en",
        "surface": "onboarding",
    }
    return world.http.post("/v1/consents/requests", json=body, headers=device.headers)
