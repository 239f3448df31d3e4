"""Quick forms are the ordinary ones, to the byte: tags, tokens, signatures and permits."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest

from common.crypto.kdf import KeyedHash
from common.crypto.signing import SigningKey, canonical, key_ring, sign, sign_canonical
from common.taxonomy import FollowUp
from common.wire.documents import open_document, seal
from common.wire.messages import PlacementPermit, SlotRequest
from server.decisions.permits import PermitForm
from server.decisions.repository import PositionKey
from server.decisions.tokens import FollowUpToken, TokenMint, creative_mark

KEY = SigningKey(b"k" * 32)
PERMIT = PlacementPermit(
    decision_id="dec_x",
    handle="q3Yx0mVbS1uJ7eHcKf2nPw",
    slots=(SlotRequest(slot_id="x"),),
    catalogue_version=3,
    policy_digest="a" * 64,
    model_version=7,
    issued_at=1,
    expires_at=2,
)


@pytest.mark.parametrize("length", [0, 1, 32, 63, 64, 65, 200])
def test_keyed_hash_is_hmac(length: int) -> None:
    for message in (b"", b"m", b"m" * 64, b"m" * 1000):
        expected = hmac.digest(b"k" * length, message, hashlib.sha256)
        assert KeyedHash(b"k" * length).digest(message) == expected
        for cut in (0, 1, len(message) // 2):
            assert KeyedHash(b"k" * length).begin(message[:cut]).digest(message[cut:]) == expected


def test_signing_what_is_canonical_already() -> None:
    payload = canonical({"b": 1, "a": "é", "c": [0.1, None]})
    assert sign_canonical(payload, KEY, "some+jws") == sign(payload, KEY, "some+jws")


def test_tokens_as_json() -> None:
    mint, key = TokenMint(b"p" * 32), PositionKey("dec_1", "home.top:1", 2)
    issued = mint.issue_all(key, creative_mark("c 1"), 1_800_000_000)
    assert json.loads(mint.issue_json(key, creative_mark("c 1"), 1_800_000_000)) == issued
    assert len({text[-20:] for text in issued.values()}) == len(FollowUp)
    for kind, text in issued.items():
        assert mint.read(text) == FollowUpToken(key, creative_mark("c 1"), kind, 1_800_000_000)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"stopped": ("A", "一")},
        {"pacing": {"k": 0.1, "l": 1e-7, "m": 1.0}, "experiment": "b" * 64},
        {"stopped": ("decision-goes-here", '"handle-goes-here"', "1111111111111111")},
    ],
)
def test_filled_permit_is_the_sealed_one(more: dict[str, Any]) -> None:
    permit = PERMIT.model_copy(update=more)
    form = PermitForm(permit, KEY)
    slots = (SlotRequest(slot_id="home-top", count=3), SlotRequest(slot_id="b.c:d_e"))
    for moment in (5, 1_800_000_000):
        blanks = {"decision_id": f"dec_{moment}", "handle": "h" * 22, "slots": slots}
        expected = permit.model_copy(update=blanks | {"issued_at": moment, "expires_at": moment + 300})
        made = form.fill(f"dec_{moment}", "h" * 22, slots, issued_at=moment, expires_at=moment + 300)
        assert made == seal(expected, KEY)
        assert open_document(made, PlacementPermit, key_ring(KEY.public)) == expected
