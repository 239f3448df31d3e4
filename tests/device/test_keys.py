"""Key succession on a device: newer keys are learnt from a pinned one, and from nothing else."""

from __future__ import annotations

import json

import pytest

from client.device import OWNER
from client.standing import learn_keys
from common.crypto.signing import SigningKey, signer_of
from common.errors import TrustError, UnknownSigner
from common.taxonomy import Purpose
from common.wire.documents import seal
from common.wire.keys import seal_succession
from policies.consent import Permit
from server.api.services import build_services
from server.transparency.keys import rotate
from tests.device.conftest import Household
from tests.service.world import World


def publish(home: Household, *successions: str) -> None:
    """The service's key set names these successions."""

    def change(path: str, body: bytes) -> bytes:
        if path != "/.well-known/jwks.json":
            return body
        named = [{"kty": "OKP", "succession": jws} for jws in successions]
        return json.dumps({"keys": [*json.loads(body)["keys"], *named]}).encode()

    home.wire.change = change


def test_documents_of_a_successor_verify_and_old_receipts_still_do(agreed: Household) -> None:
    old, new = agreed.world.services.signer, SigningKey.generate()
    standing = seal(agreed.agent.standing(), new)
    publish(agreed, seal_succession(old, new.public, number=2, not_before=int(agreed.clock())))
    with pytest.raises(UnknownSigner):
        agreed.node.gate.heard(OWNER, standing)
    assert agreed.agent.trusting(lambda _keys: agreed.node.gate.heard(OWNER, standing))
    assert set(agreed.node.server_keys) == {old.kid, new.kid}
    assert agreed.node.gate.receipts(OWNER)
    assert isinstance(agreed.node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Permit)


def test_a_chain_is_followed_in_any_order(agreed: Household) -> None:
    first, second, third = agreed.world.services.signer, SigningKey.generate(), SigningKey.generate()
    chain = [
        seal_succession(first, second.public, number=2, not_before=1),
        seal_succession(second, third.public, number=3, not_before=2),
    ]
    publish(agreed, *reversed(chain))
    assert agreed.agent.follow_keys()
    assert set(agreed.node.server_keys) == {first.kid, second.kid, third.kid}
    assert not agreed.agent.follow_keys(), "nothing new the second time"


def test_a_key_that_no_pinned_key_names_is_never_learnt(agreed: Household) -> None:
    """The control: somebody who owns the way to the service publishes a key set of their own."""
    thief, theirs = SigningKey.generate(), SigningKey.generate()
    publish(agreed, seal_succession(thief, theirs.public, number=2, not_before=1))
    assert not agreed.agent.follow_keys()
    standing = agreed.agent.standing()
    with pytest.raises(UnknownSigner):
        agreed.agent.trusting(lambda _keys: agreed.node.gate.heard(OWNER, seal(standing, theirs)))
    assert len(agreed.node.server_keys) == 1


def test_a_succession_that_was_changed_adds_nothing(agreed: Household) -> None:
    jws = seal_succession(agreed.world.services.signer, SigningKey.generate().public, number=2, not_before=1)
    head, payload, signature = jws.split(".")
    publish(agreed, f"{head}.{payload}.{signature[::-1]}")
    with pytest.raises(TrustError):
        agreed.agent.follow_keys()
    assert len(agreed.node.server_keys) == 1
    assert not learn_keys(agreed.node, agreed.connect)


def test_the_services_own_rotation_is_followed(agreed: Household) -> None:
    services = agreed.world.services
    before = services.signer
    rotate(services.database, services.log, services.settings.signing_key)
    restarted = World(build_services(services.settings, clock=agreed.clock), agreed.clock)
    agreed.wire.service = restarted.http
    try:
        assert restarted.services.signer.kid != before.kid
        standing = agreed.agent.standing()
        assert standing.permits(Purpose.TRAIN_LOCAL, agreed.clock())
        agreed.agree()
    finally:
        restarted.close()
    signers = {signer_of(jws) for (jws,) in agreed.node.gate._connection.execute("SELECT jws FROM receipts")}
    assert signers == {before.kid, restarted.services.signer.kid}
    assert isinstance(agreed.node.gate.permits(OWNER, Purpose.TRAIN_LOCAL), Permit)
