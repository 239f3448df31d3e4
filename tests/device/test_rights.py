"""Rights of a data subject from the device: asked, acknowledged, kept; and what an erasure leaves."""

from __future__ import annotations

import io
import zipfile

import pytest

from client.device import OWNER
from client.rights import Rights
from common.crypto.signing import SigningKey
from common.errors import DeviceErased, InputError, TrustError
from common.taxonomy import AgeBand, Purpose, RequestKind, RequestStatus, Task
from common.wire.documents import seal
from common.wire.requests import RequestAcknowledgement
from policies.budget import PlannedRelease
from policies.consent import Refusal
from policies.releases import segments_of
from tests.device.conftest import Household


def test_access_is_acknowledged_kept_and_delivered(agreed: Household) -> None:
    rights = Rights(agreed.agent)
    asked = rights.ask(RequestKind.ACCESS)
    assert asked.status is RequestStatus.COMPLETED
    assert asked.due_at > asked.received_at
    assert agreed.node.requests.of(OWNER) == [asked]
    assert rights.status(asked.request_id).status is RequestStatus.COMPLETED
    names = zipfile.ZipFile(io.BytesIO(rights.package(asked.request_id))).namelist()
    assert names


def test_objection_and_restriction_reach_the_next_standing(agreed: Household) -> None:
    rights = Rights(agreed.agent)
    rights.ask(RequestKind.OBJECTION)
    standing = agreed.agent.standing()
    assert standing.objection
    assert isinstance(agreed.node.gate.permits(OWNER, Purpose.PLACE_PERSONALISED), Refusal)
    rights.ask(RequestKind.RESTRICTION)
    assert agreed.agent.standing().restricted
    rights.ask(RequestKind.RESTRICTION, lift=True)
    assert not agreed.agent.standing().restricted


def test_a_pending_request_can_be_taken_back(agreed: Household) -> None:
    rights = Rights(agreed.agent)
    rights.ask(RequestKind.RECTIFICATION, age_band=AgeBand.MINOR)
    pending = rights.ask(RequestKind.RECTIFICATION, age_band=AgeBand.ADULT)
    assert pending.open
    assert rights.cancel(pending.request_id).status is RequestStatus.CANCELLED


def test_erasure_empties_the_device_and_keeps_the_ledgers_tombstone(agreed: Household) -> None:
    node = agreed.node
    policy = node.policies.policies.privacy_budget
    planned = [PlannedRelease(one.kind, one.use) for one in segments_of(policy, Task.TRAIN, 100)]
    node.ledger.settle([node.ledger.reserve([OWNER], planned, cause="run/1/1")[OWNER]])  # type: ignore[list-item]
    spent, key = node.ledger.epsilon(OWNER), node.credentials.signing_key(OWNER)
    handle = str(agreed.agent.handle)
    assert spent > 0
    asked = Rights(agreed.agent).ask(RequestKind.ERASURE)
    assert asked.status is RequestStatus.COMPLETED
    assert asked.acknowledgement.count(".") == 2
    with pytest.raises(DeviceErased):
        node.vault.read(OWNER)
    assert agreed.agent.handle is None
    for path in node.directory.rglob("*"):
        if path.is_file():
            assert handle.encode() not in path.read_bytes(), path.name
    assert node.ledger.epsilon(OWNER) == spent, "the budget is not refilled"
    # Enrolling again goes on with the same identity, so the service knows the tombstone too.
    node.vault.start_again(OWNER)
    assert agreed.enrol() != handle
    again = node.credentials.signing_key(OWNER)
    assert again is not None
    assert key is not None
    assert again.kid == key.kid
    assert node.ledger.epsilon(OWNER) == spent


def test_after_an_erasure_the_acknowledgement_is_still_answered(agreed: Household) -> None:
    asked = Rights(agreed.agent).ask(RequestKind.ERASURE)
    again = Rights(agreed.agent).status(asked.request_id)
    assert again.status is RequestStatus.COMPLETED
    assert "signature" not in agreed.wire.requests[-1].headers


def test_a_forged_acknowledgement_erases_nothing_here(agreed: Household) -> None:
    """The control: somebody between device and service answers in its place."""
    forged = RequestAcknowledgement(
        request_id="dsr_forged_0001",
        request=RequestKind.ERASURE,
        status=RequestStatus.COMPLETED,
        law="GDPR",
        controller="nobody",
        received_at=1,
        due_at=2,
    )
    jws = seal(forged, SigningKey.generate())
    agreed.wire.change = lambda path, body: f'{{"acknowledgement": "{jws}"}}'.encode() if path == "/v1/dsr" else body
    with pytest.raises(TrustError):
        Rights(agreed.agent).ask(RequestKind.ERASURE)
    assert agreed.node.vault.read(OWNER)
    assert agreed.node.requests.of(OWNER) == []


def test_another_kind_of_acknowledgement_is_not_this_ones(agreed: Household) -> None:
    asked = Rights(agreed.agent).ask(RequestKind.ACCESS)
    answer = f'{{"acknowledgement": "{asked.acknowledgement}"}}'.encode()
    agreed.wire.change = lambda path, body: answer if path == "/v1/dsr" else body
    with pytest.raises(TrustError, match="another request"):
        Rights(agreed.agent).ask(RequestKind.ERASURE)
    assert agreed.node.vault.read(OWNER)


def test_a_request_of_another_device_is_not_ours_to_ask_about(agreed: Household) -> None:
    with pytest.raises(InputError, match="no request of that id"):
        Rights(agreed.agent).status("dsr_0000000000")
