"""Masks and packing: the stream cipher's own vectors, round trips, and every bit of a seed matters."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from common.errors import DtypeMismatch, MalformedInput, OutOfRange, ShapeMismatch
from common.secagg.bitmap import bits_of, pack_bits, unpack_bits
from common.secagg.masking import centred, expand, pack, to_words, unpack
from common.secagg.pairwise import has_low_order, load_public, private_key, public_bytes

BITS = (16, 24, 32)


def test_expansion_is_chacha20_of_rfc_8439() -> None:
    """RFC 8439 appendix A.1, test vector 1 (key and nonce zero, block 0) and the block after it (vector 2)."""
    blocks = bytes.fromhex(
        "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7"
        "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586"
        "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed"
        "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f"
    )
    assert expand(bytes(32), 32, 32).tobytes() == blocks
    assert expand(bytes(32), 64, 16).tobytes() == blocks
    assert expand(bytes(32), 32, 24).tobytes() == blocks


def test_agreement_is_x25519_of_rfc_7748() -> None:
    """RFC 7748 §6.1."""
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    agreed = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert public_bytes(alice).hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert private_key(alice).exchange(load_public(public_bytes(bob))) == agreed
    assert private_key(bob).exchange(load_public(public_bytes(alice))) == agreed


@given(st.sampled_from(BITS), st.integers(1, 50), st.randoms())
def test_packing_round_trips(bits: int, length: int, random: object) -> None:
    half = 2 ** (bits - 1)
    values = [random.randint(-half, half - 1) for _ in range(length)]  # type: ignore[attr-defined]
    vector = np.array(values, np.int64)
    data = pack(to_words(vector, length, bits), bits)
    assert len(data) == length * bits // 8
    np.testing.assert_array_equal(centred(unpack(data, length, bits), bits), vector)
    np.testing.assert_array_equal(centred(unpack(np.frombuffer(data, np.uint8), length, bits), bits), vector)


@pytest.mark.parametrize(
    ("vector", "error"),
    [
        (np.zeros(3), DtypeMismatch),
        (np.array([np.nan, 0.0, 0.0]), DtypeMismatch),
        (np.zeros(3, np.int32), DtypeMismatch),
        ([0, 0, 0], DtypeMismatch),
        (np.zeros(4, np.int64), ShapeMismatch),
        (np.zeros((3, 1), np.int64), ShapeMismatch),
        (np.array([0, 0, 2**15]), OutOfRange),
        (np.array([0, 0, -(2**15) - 1]), OutOfRange),
        (np.array([0, 0, -(2**63)]), OutOfRange),
    ],
)
def test_a_vector_that_does_not_fit_is_refused(vector: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        to_words(vector, 3, 16)


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (bytes(5), ShapeMismatch),
        (bytes(7), ShapeMismatch),
        (b"", ShapeMismatch),
        (np.zeros(6, np.float32), DtypeMismatch),
        (np.full(6, np.nan), DtypeMismatch),
        (np.zeros((2, 3), np.uint8), ShapeMismatch),
        (np.zeros(3, np.uint16), DtypeMismatch),
    ],
)
def test_a_payload_of_another_form_is_refused(payload: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        unpack(payload, 3, 16)


def test_every_bit_of_a_seed_changes_the_mask() -> None:
    """No seed is folded: the control folds 256 bits to 32 by exclusive or, as Flower's SecAgg+ does, and is caught."""

    def folded(seed: bytes) -> bytes:
        word = np.bitwise_xor.reduce(np.frombuffer(seed, "<u4"))
        return hashlib.sha256(int(word).to_bytes(4, "little")).digest()

    assert collisions(lambda seed: expand(seed, 8, 32).tobytes()) == 0
    assert collisions(lambda seed: expand(folded(seed), 8, 32).tobytes()) > 0


def collisions(mask: object) -> int:
    """Equal masks among a seed, all with one bit flipped, and all with the same bit of two 32-bit words flipped."""
    seed = hashlib.sha256(b"seed").digest()
    number = int.from_bytes(seed, "big")
    flips = [0, *(1 << i for i in range(256)), *(1 << i | 1 << (i + 32) for i in range(224))]
    masks = [mask((number ^ flip).to_bytes(32, "big")) for flip in flips]  # type: ignore[operator]
    return len(masks) - len(set(masks))


@pytest.mark.parametrize("bits", BITS)
def test_masks_look_uniform(bits: int) -> None:
    """n = 65,536 coordinates; chi-square of the low and the high byte: mean 255, deviation 22.6; > 400: odds 1e-8."""
    words = expand(hashlib.sha256(b"uniform").digest(), 65_536, bits).astype(np.int64)
    for byte in (words & 0xFF, words >> (bits - 8) & 0xFF):
        counts = np.bincount(byte, minlength=256)
        assert ((counts - 256) ** 2 / 256).sum() < 400


@given(arrays(np.bool_, st.integers(1, 70)))
def test_bitmaps_round_trip(members: np.ndarray) -> None:
    data = pack_bits(members)
    np.testing.assert_array_equal(unpack_bits(data, len(members), "set"), members)
    assert bits_of(np.flatnonzero(members), len(members)) == data


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x00\x04", b"\xff\xff", b"\x00\x00\x00"])
def test_a_bitmap_has_one_spelling(data: bytes) -> None:
    with pytest.raises(MalformedInput):
        unpack_bits(data, 10, "set")


@pytest.mark.parametrize(
    "key",
    [
        bytes(32),
        b"\x01" + bytes(31),
        bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        (2**255 - 20).to_bytes(32, "little"),
        (2**255 - 19).to_bytes(32, "little"),
        (2**255 - 18).to_bytes(32, "little"),
    ],
)
def test_points_of_low_order_are_known(key: bytes) -> None:
    assert has_low_order(key)
    assert not has_low_order(public_bytes(b"\x05" * 32))
    with pytest.raises(ValueError, match="shared key"):
        private_key(b"\x05" * 32).exchange(load_public(key))
