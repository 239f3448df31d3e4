"""Sealed records and derived keys."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from common.crypto.aead import OVERHEAD_BYTES, Aead, NotAuthentic, generate_key
from common.crypto.kdf import derive, fingerprint

KEY = bytes(range(32))


@given(st.binary(max_size=300), st.binary(max_size=40))
def test_round_trip(plaintext: bytes, associated: bytes) -> None:
    sealed = Aead(KEY).seal(plaintext, associated)
    assert len(sealed) == len(plaintext) + OVERHEAD_BYTES
    assert Aead(KEY).open(sealed, associated) == plaintext


def test_the_sealed_form_is_the_documented_one() -> None:
    sealed = Aead(KEY).seal(b"secret", b"place")
    assert sealed[0] == 1
    assert AESGCM(KEY).decrypt(sealed[1:13], sealed[13:], b"\x01place") == b"secret"


def test_every_flipped_bit_is_noticed() -> None:
    sealed = Aead(KEY).seal(b"secret", b"place")
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(NotAuthentic):
            Aead(KEY).open(bytes(changed), b"place")


@pytest.mark.parametrize("length", [0, 1, 12, OVERHEAD_BYTES - 1, OVERHEAD_BYTES, OVERHEAD_BYTES + 5])
def test_truncation_is_noticed(length: int) -> None:
    sealed = Aead(KEY).seal(b"secret", b"place")
    with pytest.raises(NotAuthentic):
        Aead(KEY).open(sealed[:length], b"place")


def test_another_key_or_place_does_not_open() -> None:
    sealed = Aead(KEY).seal(b"secret", b"place")
    with pytest.raises(NotAuthentic):
        Aead(KEY).open(sealed, b"other place")
    with pytest.raises(NotAuthentic):
        Aead(generate_key()).open(sealed, b"place")


def test_nonces_differ() -> None:
    aead = Aead(KEY)
    assert len({aead.seal(b"", b"")[1:13] for _ in range(1000)}) == 1000


@pytest.mark.parametrize("length", [0, 16, 31, 33])
def test_keys_have_32_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Aead(bytes(length))


def test_derived_keys_are_fixed_and_apart() -> None:
    # RFC 5869 by hand: PRK = HMAC(0^32, key); T1 = HMAC(PRK, info | 0x01)
    import hashlib
    import hmac

    prk = hmac.digest(bytes(32), KEY, hashlib.sha256)
    expected = hmac.digest(prk, b"reticent/kdf/v1/vault" + b"\x01", hashlib.sha256)
    assert derive(KEY, "vault") == expected
    assert derive(KEY, "vault") != derive(KEY, "tag")
    assert derive(KEY, "vault", length=16) == expected[:16]


def test_fingerprints_need_the_key() -> None:
    assert fingerprint(KEY, b"event") == fingerprint(KEY, b"event")
    assert fingerprint(KEY, b"event") != fingerprint(generate_key(), b"event")
    assert len(fingerprint(KEY, b"")) == 16
