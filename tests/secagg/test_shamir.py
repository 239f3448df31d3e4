"""Secret sharing: field axioms, reconstruction from any threshold of shares, and independence below it."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.secagg import shamir
from common.secagg.shamir import combine, split


def times(a: int, b: int) -> int:
    """Carry-less multiplication modulo the field's polynomial: the oracle, without tables."""
    product = 0
    for bit in range(16):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(31, 15, -1):
        if product >> bit & 1:
            product ^= 0x1100B << (bit - 16)
    return product


def symbols(shares: list[bytes]) -> np.ndarray:
    return np.stack([np.frombuffer(share, "<u2") for share in shares])


@given(st.integers(0, 65535), st.integers(0, 65535))
def test_tables_multiply_like_polynomials(a: int, b: int) -> None:
    exponential, logarithm = shamir._tables()
    assert exponential[logarithm[a] + logarithm[b]] == times(a, b)


def test_the_generator_is_primitive() -> None:
    exponential, _ = shamir._tables()
    assert len(set(exponential[:65_535].tolist())) == 65_535


@given(st.integers(1, 40), st.integers(0, 30), st.binary(min_size=64, max_size=64), st.randoms())
def test_any_threshold_of_shares_gives_the_secret(threshold: int, more: int, secret: bytes, random: object) -> None:
    count = threshold + more
    shares = split(secret, threshold=threshold, count=count, entropy=os.urandom)
    chosen = np.array(random.sample(range(1, count + 1), threshold))  # type: ignore[attr-defined]
    assert combine(chosen, symbols([shares[i - 1] for i in chosen])) == secret
    everything = np.arange(1, count + 1)
    assert combine(everything, symbols(shares)) == secret


def test_shares_are_points_of_a_polynomial() -> None:
    threshold, count = 3, 5
    coefficients = bytes(range(1, 9))
    shares = split(b"\x05\x00\x07\x01", threshold=threshold, count=count, entropy=lambda size: coefficients[:size])
    low, high = np.frombuffer(coefficients, "<u2").reshape(2, 2)
    for x, share in enumerate(shares, start=1):
        for column, secret in enumerate((0x0005, 0x0107)):
            value = secret ^ times(int(low[column]), x) ^ times(int(high[column]), times(x, x))
            assert np.frombuffer(share, "<u2")[column] == value


def test_fewer_shares_are_consistent_with_every_secret() -> None:
    """For each of 300 other secrets there is exactly one share at the missing point that would complete them to it."""
    secret, other = b"\x12\x34", np.arange(0, 65_536, 219, dtype=np.uint16)
    shares = symbols(split(secret, threshold=3, count=4, entropy=os.urandom))
    exponential, logarithm = shamir._tables()
    points = np.array([1, 2, 3])
    w = shamir.weights(points)
    for value in other:
        partial = int(value)
        for i in (0, 1):
            partial ^= times(int(w[i]), int(shares[i, 0]))
        inverse = exponential[65_535 - logarithm[w[2]]]
        completing = np.array([[shares[0, 0]], [shares[1, 0]], [times(partial, int(inverse))]], np.uint16)
        assert combine(points, completing) == int(value).to_bytes(2, "little")


def test_fewer_shares_are_uniform_whatever_the_secret() -> None:
    """n = 20,000 pairs of shares below a threshold of 3, for two secrets; chi-square of 256 low bytes of each share
    and of their exclusive or. Each statistic has mean 255, deviation 22.6; above 400 has odds 2e-8, six times.
    """
    for secret in (bytes(2), b"\xff\xff"):
        drawn = np.stack([symbols(split(secret, threshold=3, count=2 + 1, entropy=os.urandom)) for _ in range(20_000)])
        for view in (drawn[:, 0, 0], drawn[:, 1, 0], drawn[:, 0, 0] ^ drawn[:, 1, 0]):
            counts = np.bincount(view & 0xFF, minlength=256)
            assert ((counts - 20_000 / 256) ** 2 / (20_000 / 256)).sum() < 400


def test_a_threshold_of_one_less_is_caught_by_the_same_statistic() -> None:
    """Control: with threshold 1 the 'shares' are the secret."""
    drawn = np.stack([symbols(split(bytes(2), threshold=1, count=2, entropy=os.urandom)) for _ in range(2_000)])
    counts = np.bincount(drawn[:, 0, 0] & 0xFF, minlength=256)
    assert ((counts - 2_000 / 256) ** 2 / (2_000 / 256)).sum() > 400


@pytest.mark.parametrize(("length", "threshold", "count"), [(3, 1, 2), (2, 0, 2), (2, 3, 2), (2, 1, 70_000)])
def test_impossible_sharings_are_refused(length: int, threshold: int, count: int) -> None:
    with pytest.raises(ValueError, match="cannot share"):
        split(bytes(length), threshold=threshold, count=count, entropy=os.urandom)


def test_every_pair_of_points_interpolates() -> None:
    shares = symbols(split(b"\xab\xcd", threshold=2, count=12, entropy=os.urandom))
    for a, b in itertools.combinations(range(12), 2):
        assert combine(np.array([a + 1, b + 1]), shares[[a, b]]) == b"\xab\xcd"
