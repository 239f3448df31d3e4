"""A person's node with a year behind it: consent, rounds, ads, requests, all by the device's own rooms."""

from __future__ import annotations

import time
from pathlib import Path

from client.behavior.events import Click, Impression, Purchase, Search, View
from client.device import OWNER, Node, NodeConfig
from client.journal import Journal
from client.requests import AskedRequest
from client.settings import Settings
from client.store.placed import FamilyEffect, PlacedAd, SignalEffect
from common.crypto.signing import SigningKey
from common.taxonomy import AgeBand, ConsentState, Purpose, RequestKind, RequestStatus, Task
from common.wire.documents import seal
from common.wire.journal import SENT, JournalRow
from common.wire.messages import ConsentReceipt
from policies.budget import PlannedRelease
from policies.notices import read_notices
from policies.releases import segments_of

DAY_S = 86_400
HANDLE = "q3Yx0mVbS1uJ7eHcKf2nPw"
KEY = SigningKey(b"k" * 32)
TITLES = (
    ("Oat drink, two for one", "燕麦饮，买一送一"),
    ("Sourdough from the stone oven", "石炉酸面包"),
    ("Dark roast, freshly ground", "现磨深烘咖啡"),
    ("Winter apples by the crate", "整箱冬季苹果"),
)


def receipt(purpose: Purpose, state: ConsentState, when: float, notice: str) -> str:
    """A receipt as the service signs it."""
    found = ConsentReceipt(
        receipt_id=f"rcp_{purpose.value.replace('.', '_')}",
        handle=HANDLE,
        purpose=purpose,
        state=state,
        age_band=AgeBand.ADULT,
        notice_digest=notice,
        event_time=int(when),
        valid_until=int(when) + 180 * DAY_S,
        locale="en",
        jurisdiction="DE",
        controller="Example Grocer",
    )
    return seal(found, KEY)


def furnish(directory: Path, *, now: float | None = None, settings: Settings | None = None) -> Node:
    """A node with one device, opened; the caller closes it."""
    clock = time.time() if now is None else now
    node = Node.create(directory, settings or Settings(now=lambda: clock), NodeConfig())
    notice = read_notices(node.policies.policies.purposes)[-1][1]
    node.pin(keys=[KEY.public], notices=[one.digest for one in notice])
    _behave(node, clock)
    _agree(node, clock, notice[0].digest)
    _contribute(node, clock)
    _place(node, clock)
    node.requests.keep(
        AskedRequest(
            device=OWNER,
            request_id="dsr_0123456789ab",
            request=RequestKind.ACCESS,
            status=RequestStatus.COMPLETED,
            law="GDPR",
            received_at=int(clock) - 3 * DAY_S,
            due_at=int(clock) + 27 * DAY_S,
            completed_at=int(clock) - 3 * DAY_S + 1,
            acknowledgement="e30.e30.e30",
        )
    )
    return node


def _behave(node: Node, now: float) -> None:
    for number in range(24):
        then = now - (number * 3 + 1) * DAY_S
        node.recorder.record(OWNER, View(time=then, app="grocer", item=f"p{number % 5}"))
        node.recorder.record(OWNER, Impression(time=then + 30, app="grocer", item=f"p{number % 7}", outcome=number % 2))
        if number % 3 == 0:
            node.recorder.record(OWNER, Purchase(time=then + 60, app="grocer", item=f"p{number % 4}"))
        if number % 5 == 0:
            node.recorder.record(OWNER, Search(time=then + 90, app="grocer", query="oat drink"))
            node.recorder.record(OWNER, Click(time=then + 95, app="grocer", item="p1"))


def _agree(node: Node, now: float, notice: str) -> None:
    when = now - 40 * DAY_S
    node.gate.store_receipts(
        (OWNER, receipt(purpose, state, when, notice))
        for purpose, state in (
            (Purpose.TRAIN_LOCAL, ConsentState.GIVEN),
            (Purpose.TRAIN_CONTRIBUTE, ConsentState.GIVEN),
            (Purpose.PLACE_PERSONALISED, ConsentState.GIVEN),
            (Purpose.MEASURE_AGGREGATE, ConsentState.REFUSED),
        )
    )


def _contribute(node: Node, now: float) -> None:
    policy = node.policies.policies.privacy_budget
    journal, rows = Journal(node.directory / "journal.db"), list[JournalRow]()
    rows.append(_row(now - 40 * DAY_S, "subject_enrolment", None, 180))
    rows.append(_row(now - 40 * DAY_S + 5, "consent_change", None, 420))
    planned = [PlannedRelease(one.kind, one.use) for one in segments_of(policy, Task.TRAIN, 2900)]
    for number in range(9):
        then = now - (27 - 3 * number) * DAY_S
        answer = node.ledger.reserve([OWNER], planned, cause=f"run/{number}/{number}")[OWNER]
        node.ledger.settle([answer])
        rows += [_row(then - 60, "document_request", None, 60) for _ in range(number % 3)]
        rows += [_row(then + i, kind, Purpose.TRAIN_CONTRIBUTE, size) for i, (kind, size) in enumerate(_STAGES)]
        rows.append(_row(then + 2, "masked_update", Purpose.TRAIN_CONTRIBUTE, 8_420, answer.epsilon))
    rows.append(_row(now - 2 * DAY_S, "masked_measurement", Purpose.MEASURE_AGGREGATE, 0, outcome="consent-refused"))
    journal.write(rows)


_STAGES = (("secagg_advert", 420), ("secagg_shares", 9_120), ("secagg_confirmation", 210), ("secagg_reveal", 4_480))


def _row(
    when: float, kind: str, purpose: Purpose | None, size: int, epsilon: float = 0.0, outcome: str = SENT
) -> JournalRow:
    return JournalRow(when, OWNER, kind, purpose, size, "ab" * 32 if size else "", epsilon, outcome)


def _place(node: Node, now: float) -> None:
    placed = []
    for number, (english, chinese) in enumerate(TITLES):
        strong = (SignalEffect("bought", "category", 0.9 - 0.1 * number), SignalEffect("viewed", "item", 0.35),
                  SignalEffect("shown", "manufacturer", -0.22))  # fmt: skip
        placed.append(
            PlacedAd(
                time=now - (4 - number) * DAY_S,
                slot_id="home-top",
                creative_id=f"c{number}",
                title={"en": english, "zh-CN": chinese},
                category="groceries",
                advertiser="Example Grocer",
                payer="Example Grocer" if number % 2 else "Oat Farmers Ltd",
                model_version=7,
                policy_digest="d" * 64,
                score=0.084 + 0.02 * number,
                contextual=0.031,
                propensity=1.0,
                signals=strong if number else (),
                decision_id=f"dec_{number}",
                tags=("breakfast",),
                base=-3.4,
                families=(FamilyEffect("page", 0.02), FamilyEffect("bought", 0.9), FamilyEffect("shown", -0.2)),
                method="additive" if number % 2 else "shapley",
            )
        )
    node.placements.write(OWNER, placed)
