"""The device's word: every request about its own subject is signed, and no bearer token is left anywhere."""

from __future__ import annotations

import json
import re

import pytest

from client.device import OWNER
from client.egress import NAMELESS, HttpTransport, Signer
from common.crypto import http_signing
from common.crypto.signing import SigningKey
from common.errors import MalformedInput, ServiceUnreachable
from common.taxonomy import FollowUp, Role
from common.wire.messages import DocumentRequest, FollowUpReport
from common.wire.paths import STANDING
from tests.device.conftest import Household

BEARER = re.compile(f"rtk_({'|'.join(Role)})_".encode())
"""What a key of the service begins with. ``rtk_`` alone comes up in the base64 of signatures once in a few thousand."""
COVERED = {'"@method"', '"@target-uri"', '"content-digest"', '"idempotency-key"'}


def test_what_speaks_for_the_subject_is_signed_and_the_rest_names_nobody(agreed: Household) -> None:
    agreed.agent.standing()
    agreed.agent.withdraw()
    handle, key = str(agreed.agent.handle), agreed.node.credentials.signing_key(OWNER)
    assert key is not None
    kinds = {}
    for request in agreed.wire.requests:
        signed = "signature-input" in request.headers
        kinds[request.url.path] = signed
        assert "authorization" not in request.headers
        named = key.public.x if request.url.path == "/v1/subjects" else handle
        assert (f'keyid="{named}"' in request.headers.get("signature-input", "")) is signed
    assert kinds == {
        "/v1/subjects": True,
        "/v1/consents": True,
        STANDING: True,
        "/v1/consents/withdraw": True,
    }


def test_writing_requests_carry_a_fresh_idempotency_key_that_is_covered(agreed: Household) -> None:
    agreed.agree()
    posts = [request for request in agreed.wire.requests if request.url.path == "/v1/consents"]
    keys = [request.headers["idempotency-key"] for request in posts]
    assert len(set(keys)) == len(keys) == 2
    assert all('"idempotency-key"' in request.headers["signature-input"] for request in posts)


def test_the_signature_verifies_with_the_enrolled_key_and_with_no_other(agreed: Household) -> None:
    key, other = agreed.node.credentials.signing_key(OWNER), SigningKey.generate()
    assert key is not None
    request = agreed.wire.requests[-1]
    arguments = {
        "headers": [(name, value) for name, value in request.headers.items()],
        "body": request.content,
        "now": agreed.clock(),
    }
    good = http_signing.verify(request.method, str(request.url), keys=lambda _: key.public, **arguments)  # type: ignore[arg-type]
    assert good.keyid == agreed.agent.handle
    with pytest.raises(Exception, match="does not verify"):
        http_signing.verify(request.method, str(request.url), keys=lambda _: other.public, **arguments)  # type: ignore[arg-type]


def test_another_key_than_the_enrolled_one_gets_no_answer(agreed: Household) -> None:
    agreed.node.credentials.keep(OWNER, identity=SigningKey.generate())
    with pytest.raises(MalformedInput, match=r"refused \(401"):
        agreed.agent.standing()


def test_no_bearer_token_is_in_any_file_of_the_device(agreed: Household) -> None:
    held = json.loads((agreed.node.directory / "credentials.json").read_text())
    assert set(held["devices"][OWNER]) == {"identity", "certificate", "retired_until"}
    for path in agreed.node.directory.rglob("*"):
        if path.is_file():
            assert not BEARER.search(path.read_bytes()), path
    assert BEARER.search(b"rtk_app_backend_")  # control


@pytest.mark.parametrize(
    "message", [DocumentRequest(document="keys"), FollowUpReport(token="t" * 40, follow_up=FollowUp.CLICK)]
)
def test_documents_and_follow_ups_are_never_signed(agreed: Household, message: object) -> None:
    """A follow-up brings its own credential; a signature beside it would say whose device saw the ad."""
    assert isinstance(message, NAMELESS)
    with pytest.raises(MalformedInput) if isinstance(message, FollowUpReport) else pytest.MonkeyPatch.context():
        agreed.agent.send(message)
    assert "signature" not in agreed.wire.requests[-1].headers
    assert str(agreed.agent.handle) not in repr(agreed.wire.requests[-1].headers)


def test_no_answer_is_an_error_of_ours(agreed: Household) -> None:
    agreed.wire.cut = True
    with pytest.raises(ServiceUnreachable):
        agreed.agent.standing()
    assert isinstance(agreed.connect(Signer("h" * 20, SigningKey.generate())), HttpTransport)


def test_a_signature_adds_handle_time_and_a_nonce_and_nothing_else(agreed: Household) -> None:
    agreed.agent.withdraw()
    request = agreed.wire.requests[-1]
    named = {"host", "accept", "accept-encoding", "connection", "user-agent", "content-type", "content-length"}
    assert set(request.headers) - named == {"idempotency-key", "content-digest", "signature-input", "signature"}
    assert request.headers["user-agent"].startswith("python-httpx/")
    covered, *parameters = request.headers["signature-input"].split(";")
    assert set(covered.removeprefix("sig=(").removesuffix(")").split()) == COVERED
    handle = re.escape(str(agreed.agent.handle))
    forms = [r"created=\d{10}", f'keyid="{handle}"', r'nonce="[\w-]{22}"', 'tag="reticent-device-v1"']
    assert len(parameters) == len(forms)
    assert all(re.fullmatch(form, found) for form, found in zip(forms, sorted(parameters), strict=True)), parameters


def test_an_enrolment_says_no_more_under_its_signature(agreed: Household) -> None:
    """The key id is the public key that the body brings anyway; there is no handle yet."""
    (request,) = [one for one in agreed.wire.requests if one.url.path == "/v1/subjects"]
    ((_, keyid),) = re.findall(r'(keyid)="([^"]+)"', request.headers["signature-input"])
    assert keyid == json.loads(request.content)["public_key"]
    assert str(agreed.agent.handle) not in repr(request.headers)


def test_no_nonce_is_used_twice(agreed: Household) -> None:
    for _ in range(5):
        agreed.agent.standing()
    inputs = [request.headers.get("signature-input", "") for request in agreed.wire.requests]
    nonces = re.findall(r'nonce="([\w-]+)"', " ".join(inputs))
    assert len(nonces) == len(set(nonces)) == 7
