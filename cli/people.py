"""The demonstration's people and the shop they visit: who agrees to what, and what happens when ads are asked for.

Everybody speaks to the real service over HTTP: devices through their egress door, the shop's backend with its own key.
What a person does after seeing an ad is read from the future that the data set knows: whether the household bought
that product in the following days.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from cli.service import Service
from client.agent import Agent, Decision, Equipment
from client.behavior.events import Click, Impression, Purchase
from client.device import Node
from client.egress import HttpTransport, Signer
from client.settings import Settings
from client.store.keys import DeviceId
from client.store.placed import Position
from common.errors import ConsentRefused
from common.taxonomy import AgeBand, FollowUp, Purpose
from common.wire.messages import Creative

DAY_S = 86_400.0
RESPONSE_DAYS = 14.0
CONTEXT = {"display": "0", "mailer": "A"}
APP_ID = "demo-shop"


@dataclass(frozen=True, slots=True)
class Attitude:
    """What one group of people decides."""

    name: str
    share: float
    age_band: AgeBand
    given: frozenset[Purpose]


ATTITUDES = (
    Attitude("agrees to everything", 0.74, AgeBand.ADULT, frozenset(Purpose)),
    Attitude(
        "helps training, wants no personalised ads",
        0.10,
        AgeBand.ADULT,
        frozenset({Purpose.TRAIN_LOCAL, Purpose.TRAIN_CONTRIBUTE, Purpose.MEASURE_AGGREGATE}),
    ),
    Attitude("refuses everything", 0.10, AgeBand.ADULT, frozenset()),
    Attitude("minor who tapped agree", 0.06, AgeBand.MINOR, frozenset(Purpose)),
)


def attitude(device: str) -> Attitude:
    """A device owner's group: a fixed draw by name."""
    draw = int.from_bytes(hashlib.blake2b(device.encode(), digest_size=8, key=b"owner").digest(), "big") / 2.0**64
    for group in ATTITUDES:
        draw -= group.share
        if draw < 0:
            return group
    return ATTITUDES[0]


def install(directories: Sequence[Path], service: Service) -> None:
    """What an app's installer does: pin the service's key, the enrolment authority and the notices in force."""
    for directory in directories:
        with Node.open(directory, Settings(simulation=True), prove=False) as node:
            node.pin(keys=[service.public_key], notices=service.notices, authorities=service.authorities)


def decide_all(directories: Sequence[Path], service: Service, tick: Callable[[], None]) -> Counter[str]:
    """Every owner enrols and decides, over HTTP."""
    groups: Counter[str] = Counter()
    for agent in agents(directories, service):
        group = attitude(agent.device)
        agent.enrol(app_id=APP_ID, age_band=group.age_band, jurisdiction="DE")
        decisions: dict[Purpose, Decision] = {p: "given" if p in group.given else "refused" for p in Purpose}
        agent.decide(decisions, notice_digest=service.notices[0], surface="demo/onboarding")
        groups[group.name] += 1
        tick()
    return groups


class SharedWire(httpx.BaseTransport):
    """Connections that many devices of a simulation use one after the other; they end with the context."""

    def __init__(self) -> None:
        """Open when first used."""
        self._inner = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Pass it on."""
        return self._inner.handle_request(request)

    def __exit__(self, *_error: object) -> None:
        self._inner.close()

    def close(self) -> None:
        """One device is done; the others are not."""


def agents(directories: Sequence[Path], service: Service) -> Generator[Agent]:
    """Agents of all devices of the nodes, connected to the service."""
    with ExitStack() as stack:
        wire = stack.enter_context(SharedWire())

        def connect(signer: Signer | None) -> HttpTransport:
            return HttpTransport(service.url, signer=signer, transport=wire)

        for directory in directories:
            node = stack.enter_context(Node.open(directory, Settings(simulation=True), prove=False))
            for device in node.vault.devices():
                yield Agent(node, device, connect)


@dataclass(slots=True)
class Visits:
    """What came of all visits."""

    decisions: Counter[tuple[str, str]] = field(default_factory=Counter)
    shown: Counter[str] = field(default_factory=Counter)
    clicked: Counter[str] = field(default_factory=Counter)
    converted: Counter[str] = field(default_factory=Counter)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)


class Shop:
    """The backend of an app: asks for placements and shows what it gets."""

    def __init__(self, service: Service) -> None:
        """Talk to ``service`` with the backend's key."""
        self._client = httpx.Client(
            base_url=service.url,
            headers={"authorization": f"Bearer {service.backend_key}"},
            trust_env=False,
            timeout=60,
        )

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def ask(self, handle: str | None, *, gpc: bool = False) -> dict[str, Any]:
        """One decision request for one slot."""
        body: dict[str, Any] = {"slots": [{"slot_id": "home-top", "count": 1}], "context": CONTEXT}
        answer = self._client.post(
            "/v1/decisions",
            json=body if handle is None else body | {"handle": handle},
            headers={"sec-gpc": "1"} if gpc else {},
        )
        answer.raise_for_status()
        return dict(answer.json())


def visit(agent: Agent, shop: Shop, equipment: Equipment, future: Future, visits: Visits, *, gpc: bool = False) -> None:
    """One person opens the app once: a placement is asked for, shown, and perhaps followed."""
    answer = shop.ask(agent.handle, gpc=gpc)
    (slot, *_) = answer["slots"]
    visits.decisions[answer["mode"], slot["reason"] or "consent given"] += 1
    visits.examples.setdefault(f"{answer['mode']}: {slot['reason'] or 'consent given'}", answer)
    shown, place = _shown(agent, answer, slot, equipment, future)
    if shown is None:
        return
    item = shown.item_id
    mode = answer["mode"]
    visits.shown[mode] += 1
    bought = future.bought(item)
    visits.clicked[mode] += bought
    visits.converted[mode] += bought
    if place is not None:  # the device chose it: what followed stays on the device
        agent.feedback.seen(place, now=time.time(), moment=future.moment)
        if bought:
            agent.feedback.clicked(place, now=time.time(), moment=future.moment + 1)
    elif answer["permit"] is not None:  # it might have, and the fallback stands
        agent.record(
            Impression(
                time=future.moment,
                app=APP_ID,
                item=item,
                attributes=shown.attributes,
                context=CONTEXT,
                numbers=shown.numbers,
                outcome=int(bought),
            )
        )
        if bought:
            agent.record(Click(time=future.moment + 1, app=APP_ID, item=item, attributes=shown.attributes))
    else:
        for follow_up in [FollowUp.IMPRESSION, *([FollowUp.CLICK, FollowUp.CONVERSION] if bought else [])]:
            agent.report(slot["tokens"][follow_up.value], follow_up)


def _shown(
    agent: Agent, answer: dict[str, Any], slot: dict[str, Any], equipment: Equipment, future: Future
) -> tuple[Creative | None, Position | None]:
    """What the person sees, and where the device chose it; None there where the service did."""
    wanted, place = slot["creative"]["creative_id"] if slot["creative"] else None, None
    if answer["permit"] is not None:
        try:
            placed = agent.place(answer["permit"], equipment, context=CONTEXT, now=time.time(), moment=future.moment)
        except ConsentRefused:
            placed = ()  # the fallback stands
        if placed and placed[0].creative_id is not None:
            wanted, place = (
                placed[0].creative_id,
                Position(answer["decision_id"], placed[0].slot_id, placed[0].position),
            )
    return next((c for c in equipment.catalogue.creatives if c.creative_id == wanted), None), place


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What one person's withdrawal changed."""

    before: str
    after: str
    reason: str
    device_refuses_old_permit: bool
    seconds: float


def withdraw(agent: Agent, shop: Shop, equipment: Equipment, moment: float) -> Withdrawal | None:
    """Withdraw personalised ads and ask again; None for a person who had not agreed to them."""
    before = shop.ask(agent.handle)
    if before["permit"] is None:
        return None
    tapped = time.monotonic()
    agent.withdraw([Purpose.PLACE_PERSONALISED])
    after = shop.ask(agent.handle)
    seconds = time.monotonic() - tapped
    try:
        agent.place(before["permit"], equipment, context=CONTEXT, now=time.time(), moment=moment)
        refused = False
    except ConsentRefused:
        refused = True
    return Withdrawal(before["mode"], after["mode"], after["slots"][0]["reason"], refused, seconds)


@dataclass(frozen=True, slots=True)
class Future:
    """What a household did after the moment of the visit; nobody but the demonstration's narrator may look."""

    moment: float
    items: frozenset[str]

    @staticmethod
    def of(node: Node, device: DeviceId, moment: float) -> Future:
        """Purchases in the days after ``moment``."""
        end = moment + RESPONSE_DAYS * DAY_S
        events = node.vault.read(device)
        return Future(moment, frozenset(e.item for e in events if isinstance(e, Purchase) and moment < e.time <= end))

    def bought(self, item: str) -> bool:
        """Whether the household bought the product."""
        return item in self.items
