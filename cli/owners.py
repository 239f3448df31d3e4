"""Simulated owners of virtual devices: they give or refuse consent, signed like any other. Simulation only.

It also plays the enrolment authority, which certifies devices to each other for secure aggregation: in a deployment
that is somebody whom the server's operator cannot make invent devices.

The demonstration's owners ask the real service instead. Where no service runs (bench, tables from the command line),
the operator of the simulation signs for them, and every report of such a run says that its people are simulated.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Sequence
from pathlib import Path

from client.credentials import Enrolment
from client.device import Node
from client.settings import Settings
from common.crypto.signing import SigningKey
from common.secagg.certificate import issue_certificate
from common.taxonomy import AgeBand, ConsentState, Purpose
from common.wire.documents import seal
from common.wire.messages import ConsentReceipt
from policies.notices import read_notices

DAY_S = 86_400
CERTIFIED_DAYS = 365
TRAINING = (Purpose.TRAIN_LOCAL, Purpose.TRAIN_CONTRIBUTE)


def consent_for_all(
    directories: Sequence[Path],
    key: SigningKey,
    *,
    purposes: Sequence[Purpose] = TRAINING,
    refusing_share: float = 0.0,
) -> int:
    """Every simulated owner decides about the purposes; nodes come to trust the simulation's key.

    Args:
        directories: nodes.
        key: the simulation's signing key.
        purposes: what is asked.
        refusing_share: share of owners who refuse everything, drawn by device name.

    Returns:
        How many owners gave consent.
    """
    given = 0
    for directory in directories:
        with Node.open(directory, Settings(simulation=True)) as node:
            rules = node.policies.policies.purposes
            current = read_notices(rules)[-1][1]
            node.pin(keys=[key.public], notices=[notice.digest for notice in current])
            receipts = []
            for device in node.vault.devices():
                refuses = _draw(device) < refusing_share
                state = ConsentState.REFUSED if refuses else ConsentState.GIVEN
                given += not refuses
                handle = secrets.token_urlsafe(16)
                for purpose in purposes:
                    receipt = _receipt(handle, purpose, state, current[0].digest, rules.validity_days_default)
                    receipts.append((device, seal(receipt, key)))
            node.gate.store_receipts(receipts)
    return given


def certify_all(directories: Sequence[Path], authority: SigningKey) -> None:
    """Have the simulated enrolment authority certify every device that is not, and every node trust it."""
    not_after = time.time() + CERTIFIED_DAYS * DAY_S
    for directory in directories:
        with Node.open(directory, Settings(simulation=True), prove=False) as node:
            known = authority.public.kid in {one.kid for one in node.authorities}
            node.pin(authorities=[authority.public])
            held, enrolments = node.credentials, dict[str, Enrolment]()
            for device in node.vault.devices():
                if known and held.identity(device) is not None:
                    continue
                identity = held.signing_key(device) or SigningKey.generate()
                certificate = issue_certificate(authority, identity.public.raw, not_after)
                enrolments[device] = Enrolment(identity, certificate)
            if enrolments:
                held.keep_many(enrolments)


def _draw(device: str) -> float:
    return int.from_bytes(hashlib.blake2b(device.encode(), digest_size=8).digest(), "big") / 2.0**64


def _receipt(handle: str, purpose: Purpose, state: ConsentState, notice: str, days: int) -> ConsentReceipt:
    now = int(time.time())
    return ConsentReceipt(
        receipt_id=f"sim_{secrets.token_urlsafe(12)}",
        handle=handle,
        purpose=purpose,
        state=state,
        age_band=AgeBand.ADULT,
        notice_digest=notice,
        event_time=now,
        valid_until=now + days * DAY_S,
        locale="en",
        jurisdiction="DE",
        controller="simulation",
    )
