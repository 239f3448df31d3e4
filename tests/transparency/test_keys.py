"""Key succession: pins follow documents that a pinned key has signed, and nothing else."""

from __future__ import annotations

import pytest

from common.crypto.signing import SigningKey, canonical, key_ring, sign
from common.errors import TrustError, UnknownSigner
from common.wire.keys import SUCCESSION_TYP, follow, open_succession, seal_succession

FIRST, SECOND, THIRD, STRANGER = (SigningKey.generate() for _ in range(4))
ONE = seal_succession(FIRST, SECOND.public, number=2, not_before=10)
TWO = seal_succession(SECOND, THIRD.public, number=3, not_before=20)


def test_a_chain_is_followed_in_any_order() -> None:
    expected = {FIRST.kid, SECOND.kid, THIRD.kid}
    assert set(follow(key_ring(FIRST.public), [ONE, TWO])) == expected
    assert set(follow(key_ring(FIRST.public), [TWO, ONE])) == expected
    assert set(follow(key_ring(SECOND.public), [TWO, ONE])) == {SECOND.kid, THIRD.kid}
    assert set(follow(key_ring(FIRST.public), [TWO])) == {FIRST.kid}


def test_a_stranger_adds_nothing() -> None:
    forged = seal_succession(STRANGER, STRANGER.public, number=2, not_before=0)
    assert set(follow(key_ring(FIRST.public), [forged])) == {FIRST.kid}
    assert follow({}, [ONE, TWO]) == {}
    with pytest.raises(UnknownSigner):
        open_succession(forged, key_ring(FIRST.public))


def test_a_succession_names_its_own_signer_and_its_own_key() -> None:
    """A trusted key cannot be made to vouch in another's name, nor for a key under a wrong id."""
    honest = {"kind": "key_succession", "number": 2, "old_kid": FIRST.kid, "not_before": 0}
    for wrong in (
        honest | {"old_kid": SECOND.kid, "new_kid": THIRD.kid, "new_x": THIRD.public.x},
        honest | {"new_kid": SECOND.kid, "new_x": THIRD.public.x},
        honest | {"new_kid": SECOND.kid},
        honest | {"new_kid": SECOND.kid, "new_x": SECOND.public.x, "more": 1},
        honest | {"new_kid": SECOND.kid, "new_x": SECOND.public.x, "number": 1},
    ):
        with pytest.raises(TrustError):
            open_succession(sign(canonical(wrong), FIRST, SUCCESSION_TYP), key_ring(FIRST.public))


def test_another_kind_of_document_is_no_succession() -> None:
    payload = {
        "kind": "key_succession",
        "number": 2,
        "old_kid": FIRST.kid,
        "new_kid": SECOND.kid,
        "new_x": SECOND.public.x,
        "not_before": 0,
    }
    with pytest.raises(TrustError):
        open_succession(sign(canonical(payload), FIRST, "catalogue+jws"), key_ring(FIRST.public))
    assert open_succession(sign(canonical(payload), FIRST, SUCCESSION_TYP), key_ring(FIRST.public))
