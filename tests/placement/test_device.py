"""Placement on the device: two keys are needed, and everything must be what it was signed as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from client.placement import Installed, place
from common.crypto import signing
from common.crypto.signing import SigningKey, key_ring
from common.errors import ConsentRefused, DigestMismatch, ReticentError, TrustError, UnknownSigner
from common.taxonomy import Purpose, RefusalReason
from common.wire.documents import seal
from common.wire.messages import Catalogue, Creative, PlacementPermit, SlotRequest
from policies.consent import Permit, Refusal
from tests.placement.test_g import TOP, creative

NOW = 1_800_000_000.0
KEY = SigningKey.generate()
HANDLE = "q3Yx0mVbS1uJ7eHcKf2nPw"
DIGEST = "a" * 64
GATE = Permit(Purpose.PLACE_PERSONALISED, NOW + 1000, "n" * 64)
PERMIT = PlacementPermit(
    decision_id="dec_1",
    handle=HANDLE,
    slots=(SlotRequest(slot_id="top", count=2),),
    catalogue_version=3,
    policy_digest=DIGEST,
    model_version=5,
    issued_at=int(NOW),
    expires_at=int(NOW) + 300,
)
HELD = Installed(
    handle=HANDLE,
    keys=key_ring(KEY.public),
    catalogue=Catalogue(version=3, creatives=(creative("a"), creative("b"), creative("c"))),
    policy=TOP,
    policy_digest=DIGEST,
    model_version=5,
)
SCORES = {"a": 0.1, "b": 0.9, "c": 0.5}


def score(candidates: Sequence[Creative]) -> list[float]:
    return [SCORES[c.creative_id] for c in candidates]


def never(_candidates: Sequence[Creative]) -> list[float]:
    raise AssertionError("scores were asked for before every check had passed")


def test_the_best_by_personal_scores_are_placed() -> None:
    placed = place(seal(PERMIT, KEY), HELD, score=score, gate_permit=GATE, now=NOW)
    assert [(p.creative_id, p.score, p.propensity) for p in placed] == [("b", 0.9, 1.0), ("c", 0.5, 1.0)]


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        (Refusal(Purpose.PLACE_PERSONALISED, RefusalReason.WITHDRAWN), RefusalReason.WITHDRAWN),
        (replace(GATE, purpose=Purpose.TRAIN_LOCAL), RefusalReason.NO_CONSENT),
        (replace(GATE, valid_until=NOW), RefusalReason.EXPIRED),
        (None, RefusalReason.NO_CONSENT),
        (True, RefusalReason.NO_CONSENT),
    ],
)
def test_without_the_own_gate_even_a_genuine_permit_is_worth_nothing(gate: object, reason: RefusalReason) -> None:
    with pytest.raises(ConsentRefused) as caught:
        place(seal(PERMIT, KEY), HELD, score=never, gate_permit=gate, now=NOW)  # type: ignore[arg-type]
    assert caught.value.reason is reason


def forged() -> str:
    return seal(PERMIT, SigningKey.generate())


def renamed() -> str:
    return signing.sign(PERMIT.model_dump_json().encode(), KEY, "consent-receipt+jws")


def emptied() -> str:
    return signing.sign({"kind": "placement_permit"}, KEY, "placement-permit+jws")


@pytest.mark.parametrize(
    ("jws", "error"),
    [
        (forged(), UnknownSigner),
        (renamed(), TrustError),
        (emptied(), TrustError),
        ("", TrustError),
        ("a.b.c", TrustError),
    ],
)
def test_what_is_not_a_permit_is_refused(jws: str, error: type[ReticentError]) -> None:
    with pytest.raises(error):
        place(jws, HELD, score=never, gate_permit=GATE, now=NOW)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"handle": "x" * 22}, ConsentRefused),
        ({"expires_at": int(NOW)}, ConsentRefused),
        ({"issued_at": int(NOW) + 301}, ConsentRefused),
        ({"catalogue_version": 4}, DigestMismatch),
        ({"policy_digest": "b" * 64}, DigestMismatch),
        ({"model_version": 4}, DigestMismatch),
    ],
)
def test_a_permit_for_something_else_is_refused(change: dict[str, object], error: type[ReticentError]) -> None:
    jws = seal(PERMIT.model_copy(update=change), KEY)
    with pytest.raises(error):
        place(jws, HELD, score=never, gate_permit=GATE, now=NOW)
