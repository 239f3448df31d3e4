"""NaN, infinity and other values that are none, in every field of every message of every stage: a named error each."""

from __future__ import annotations

import json

import pytest

from common.errors import MalformedInput
from common.privacy.parameters import UserDpParameters
from common.taxonomy import Task
from common.wire.base import Message
from common.wire.codec import decode, encode
from common.wire.secagg import MaskedMeasurement, MaskedUpdateHeader
from tests.secagg.feeds import DONOR, LENGTH

_HEADER = {
    "session": DONOR.terms.session,
    "index": 0,
    "run_id": "run-1",
    "round_number": 1,
    "spec_digest": "0" * 64,
    "base_digest": "0" * 64,
    "length": LENGTH,
    "bits": 24,
    "releases": (UserDpParameters(clipping_norm=1.0, noise_multiplier=4.0).release(LENGTH),),
}
MESSAGES: dict[str, Message] = {
    "advertise: advert": DONOR.adverts[0],
    "share: roster": DONOR.roster_message,
    "share: shares": DONOR.shares[0],
    "mask: delivery": DONOR.deliveries[0],
    "mask: update": MaskedUpdateHeader.model_validate(_HEADER | {"task": Task.TRAIN}),
    "mask: measurement": MaskedMeasurement.model_validate(_HEADER | {"task": Task.MEASURE}),
    "confirm: survivors": DONOR.survivors,
    "confirm: confirmation": DONOR.own_confirmations[0],
    "reveal: confirmations": DONOR.confirmations,
    "reveal: reveal": DONOR.reveals[0],
}
NO_NUMBERS = (float("nan"), float("inf"), -1, 2**70, 1.5, True, None)


@pytest.mark.parametrize("name", MESSAGES)
def test_what_is_no_number_is_refused_in_every_field(name: str) -> None:
    message = MESSAGES[name]
    body = json.loads(encode(message)[1:])
    for field in set(body) - {"kind"}:
        for value in NO_NUMBERS:
            spoilt = b"\x01" + json.dumps(body | {field: value}).encode()
            with pytest.raises(MalformedInput) as caught:
                decode(spoilt, type(message))
            assert str(value) not in str(caught.value).removeprefix(type(message).__name__), (field, value)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_control_as_they_were_sent_they_are_read(name: str) -> None:
    message = MESSAGES[name]
    assert decode(encode(message), type(message)) == message
