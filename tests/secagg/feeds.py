"""What the tests of bad messages share: sessions brought to a stage, and altered messages."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from common.crypto.signing import SigningKey
from common.secagg.certificate import issue_certificate
from tests.secagg.sessions import Session, identity_of, sum_of, terms_of, vectors_of

COUNT, LENGTH = 12, 4
OTHER = hashlib.sha256(b"another session").hexdigest()
VECTORS = vectors_of(COUNT, LENGTH, 100)
GONE = COUNT - 1

Feed = Callable[[Session], object]


def change(message: Any, **changes: object) -> Any:  # noqa: ANN401 - any message
    return message.model_copy(update=changes)


def at(session: Session, stage: str) -> None:
    """Bring a fresh session to where a stage's messages are due; device GONE is silent from stage mask on."""
    order = ("advertise", "share", "mask", "confirm", "reveal")
    steps = (
        session.advertise,
        session.share,
        lambda: session.mask(VECTORS, gone={GONE}),
        session.confirm,
        session.reveal,
    )
    for name, step in zip(order, steps, strict=True):
        if name == stage:
            return
        step()


def complete(session: Session, stage: str) -> None:
    order = ("advertise", "share", "mask", "confirm", "reveal")
    for name in order[order.index(stage) :]:
        if name == "mask":
            session.mask(VECTORS, gone={GONE})
        else:
            getattr(session, name)()
    found = session.server.finish(100 * COUNT)
    np.testing.assert_array_equal(found.vector, sum_of(VECTORS, range(GONE)))


def new(seed: str = "bad") -> Session:
    return Session(terms_of(length=LENGTH, bits=24), COUNT, seed=seed)


DONOR = new("donor")
DONOR.run(VECTORS, {}, 100 * COUNT)  # same devices, same session name, other keys
STRANGER = SigningKey(b"\x55" * 32)


def certified(authority: SigningKey, not_after: float) -> bytes:
    return issue_certificate(authority, identity_of(0)[0].public.raw, not_after)
