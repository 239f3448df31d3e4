"""Noised shares: unbiased rounding, a bound that holds for any input, shares that add up, sums that cannot wrap."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as float_arrays
from scipy.special import ive
from scipy.stats import norm

from common.errors import NonFiniteValue, PolicyError, ShapeMismatch
from common.privacy import distributed
from common.privacy.clipping import clip_update
from common.privacy.distributed import (
    MaskedShare,
    NoisedShare,
    decode_sum,
    modulus_bits,
    noise_share,
    round_within,
    rounding_room,
    skellam_tail,
    squared_norm,
    sum_limit,
)
from common.privacy.parameters import CohortParameters, UserDpParameters
from common.privacy.randomness import NoiseSource, SimulationNoise
from common.privacy.updates import ClippedUpdate, ModelDelta
from common.taxonomy import Mechanism, PrivacyUnit, TrustModel

ALPHA = 1e-9
COHORT = CohortParameters(devices_min=4, devices_max=4096, dropout_fraction_max=0.3, corrupt_fraction_max=0.05)


def parameters(levels: int = 1000, z: float = 3.0, norm_: float = 1.0) -> UserDpParameters:
    return UserDpParameters(clipping_norm=norm_, noise_multiplier=z, levels=levels)


def clipped(vector: object, norm_: float = 1.0) -> ClippedUpdate:
    return clip_update(ModelDelta(np.asarray(vector, np.float64)), norm_)


class AlwaysUp(NoiseSource):
    """An adversary's generator: every rounding goes up."""

    def __init__(self) -> None:
        super().__init__(bytes(32))

    def uniform(self, shape: int | tuple[int, ...]) -> np.ndarray:
        return np.full(shape, 1e-16)


# ── rounding ─────────────────────────────────────────────────────────────────────────────────────────────────────────

anything = st.floats(allow_nan=False, allow_infinity=False)
small = st.floats(-3, 3)


@given(
    vector=float_arrays(np.float64, st.integers(0, 60), elements=anything | small),
    levels=st.sampled_from([32, 100, 1000, 4096, 1 << 20]),
    bound=st.sampled_from([1e-9, 0.3, 1.0, 1e6]),
    forged=st.booleans(),
    up=st.booleans(),
)
@settings(max_examples=300)
def test_no_rounding_is_longer_than_its_bound(
    vector: np.ndarray, levels: int, bound: float, *, forged: bool, up: bool
) -> None:
    """A vector that merely claims to be clipped is held to the bound too."""
    assume(rounding_room_exists(levels, vector.size))
    update = ClippedUpdate(vector, bound) if forged else clipped(vector, bound)
    source = AlwaysUp() if up else SimulationNoise(1)
    whole = round_within(update, parameters(levels, norm_=bound), source)
    assert whole.dtype == np.int64
    assert sum(int(value) ** 2 for value in whole) <= levels**2


def rounding_room_exists(levels: int, length: int) -> bool:
    try:
        return rounding_room(levels, length) > 0
    except PolicyError:
        return False


@pytest.mark.parametrize("length", [1, 2, 361, 1 << 14, 1 << 17])
@pytest.mark.parametrize("source", [AlwaysUp(), SimulationNoise(3)], ids=["up", "seeded"])
def test_adversarial_directions_stay_within(length: int, source: NoiseSource) -> None:
    """Full length, spread evenly just below or above half a unit, just above an integer, on one axis, or growing."""
    rng = np.random.default_rng(5)
    levels = 1000
    shapes = [
        np.ones(length),
        np.full(length, 1 + 1e-9) * np.where(np.arange(length) % 2, 1, -1),
        np.eye(1, length)[0],
        np.sqrt(np.arange(1.0, length + 1)),
        rng.standard_normal(length),
        np.floor(rng.standard_normal(length) * 3) + 0.5,
    ]
    for shape in shapes:
        update = clipped(1e3 * shape / np.linalg.norm(shape))
        assert squared_norm(round_within(update, parameters(levels), source)) <= levels**2


def test_rounding_keeps_the_mean() -> None:
    """n = 20,000 roundings of 40 weights at full length; each mean within 6.1 standard errors; 40 tests at 1e-9."""
    rng = np.random.default_rng(1)
    update = clipped(rng.standard_normal(40) * 100)
    exact = update.vector * 1000 * (rounding_room(1000, 40) / 1000)
    source = SimulationNoise(4)
    drawn = np.stack([round_within(update, parameters(), source) for _ in range(20_000)])
    assert deviation(drawn, exact) < norm.isf(ALPHA / 2)
    assert abs(exact).sum() / abs(update.vector * 1000).sum() > 0.99  # the room costs less than 1 %


def test_short_and_whole_vectors_are_not_shortened() -> None:
    """A vector of length below the bound, and one that no rounding can lengthen, keep their mean without any loss."""
    source = SimulationNoise(4)
    short = clipped(np.linspace(-0.1, 0.1, 30))
    drawn = np.stack([round_within(short, parameters(), source) for _ in range(20_000)])
    assert deviation(drawn, short.vector * 1000) < norm.isf(ALPHA / 2)
    assert round_within(clipped([1.0]), parameters(), source).tolist() == [1000]
    for bound in (0.3, 0.7, 1.1, 4.9):  # whatever the last digit of bound / grid is
        assert round_within(clipped([bound], bound), parameters(norm_=bound), source).tolist() == [1000]
    assert round_within(clipped([-0.6, 0.8]), parameters(), source).tolist() == [-600, 800]
    assert round_within(clipped(np.zeros(3)), parameters(), source).tolist() == [0, 0, 0]
    assert round_within(clipped(np.zeros(0)), parameters(), source).size == 0


def deviation(drawn: np.ndarray, exact: np.ndarray) -> float:
    """The largest mean, in standard errors from what it should be."""
    fraction = exact - np.floor(exact)
    stddev = np.sqrt(np.maximum(fraction * (1 - fraction), 1e-4) / drawn.shape[0])
    return float(np.abs((drawn.mean(0) - exact) / stddev).max())


@pytest.mark.parametrize("broken", ["nearest", "floor", "retry"])
def test_control_biased_roundings_are_seen(broken: str) -> None:
    """Rounding to nearest, down, or again and again at full length until it is short enough."""
    rng = np.random.default_rng(1)
    exact = rng.standard_normal(400)
    exact *= 30 / np.linalg.norm(exact)
    source, drawn = SimulationNoise(5), []
    while len(drawn) < 20_000:
        below = np.floor(exact)
        up = {"nearest": exact - below > 0.5, "floor": np.zeros(400, bool)}.get(
            broken, source.uniform(400) < exact - below
        )
        whole = below + up
        if broken != "retry" or (whole**2).sum() <= 30**2 + 70:  # expected: 900 + 60
            drawn.append(whole)
    error = (np.stack(drawn).mean(0) - exact) @ (exact / np.linalg.norm(exact))
    assert abs(error) > norm.isf(ALPHA / 2) * 0.5 / math.sqrt(20_000)


def test_retries_are_rare() -> None:
    """Below 2^-20 each by Hoeffding: none in 5,000 roundings of the worst kind (fractions of one half)."""

    class Counting(SimulationNoise):
        calls = 0

        def uniform(self, shape: int | tuple[int, ...]) -> np.ndarray:
            self.calls += 1
            return super().uniform(shape)

    source = Counting(6)
    update = clipped(np.full(361, 100.0))
    for _ in range(5000):
        round_within(update, parameters(), source)
    assert source.calls == 5000


def test_room() -> None:
    assert rounding_room(1000, 361) == pytest.approx(997.3, abs=0.05)
    assert rounding_room(1000, 1 << 17) > 980
    with pytest.raises(PolicyError, match="16 levels are too coarse a grid for 1000 weights"):
        rounding_room(16, 1000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_is_refused(value: float) -> None:
    with pytest.raises(NonFiniteValue):
        round_within(ClippedUpdate(np.array([0.0, value]), 1.0), parameters(), SimulationNoise(1))


def test_another_clip_than_declared_is_refused() -> None:
    with pytest.raises(PolicyError, match="larger bound"):
        round_within(clipped([0.1], 2.0), parameters(norm_=1.0), SimulationNoise(1))
    assert round_within(clipped([0.1], 0.5), parameters(norm_=1.0), SimulationNoise(1)).tolist() == [100]


@given(st.lists(st.integers(-(2**62), 2**62), max_size=6))
def test_squared_norm_is_exact(values: list[int]) -> None:
    assert squared_norm(np.array(values, np.int64)) == sum(value * value for value in values)


# ── shares ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_share_has_a_segment_and_a_release_each() -> None:
    segments = [(clipped(np.zeros(5)), parameters(100, 2.0)), (clipped([3.0], 4.0), parameters(1000, 9.0, 4.0))]
    share = noise_share(segments, COHORT, 10, SimulationNoise(1))
    assert isinstance(share, NoisedShare)
    assert (share.vector.dtype, share.vector.shape) == (np.int64, (6,))
    first, second = share.releases
    assert (first.levels, first.dimension, first.noise_multiplier) == (100, 5, 2.0)
    assert (second.levels, second.dimension, second.noise_multiplier) == (1000, 1, 9.0)
    assert (first.mechanism, first.unit, first.trust) == (
        Mechanism.SKELLAM, PrivacyUnit.USER, TrustModel.DISTRIBUTED,
    )  # fmt: skip


@pytest.mark.parametrize("roster", [0, 3, 4097])
def test_a_roster_outside_the_cohort_is_refused(roster: int) -> None:
    with pytest.raises(PolicyError, match="4 to 4096 devices"):
        noise_share([(clipped([0.0]), parameters())], COHORT, roster, SimulationNoise(1))


def test_a_cohort_without_honest_survivors_is_refused() -> None:
    hopeless = CohortParameters.model_construct(
        **(COHORT.model_dump() | {"dropout_fraction_max": 0.6, "corrupt_fraction_max": 0.4})
    )
    with pytest.raises(PolicyError, match="no honest device"):
        noise_share([(clipped([0.0]), parameters())], hopeless, 10, SimulationNoise(1))
    with pytest.raises(PolicyError, match="no honest device"):
        modulus_bits([parameters()], hopeless)


def test_shares_are_frozen_and_final() -> None:
    share = noise_share([(clipped([0.0]), parameters())], COHORT, 10, SimulationNoise(1))
    masked = MaskedShare(np.zeros(2, np.uint8), share.releases, 16)
    for value, field in ((share, "vector"), (masked, "payload")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, field, None)
    assert NoisedShare.__final__  # type: ignore[attr-defined]
    assert MaskedShare.__final__  # type: ignore[attr-defined]


def test_sums_decode_to_their_units() -> None:
    """40 devices, noise 0: sums are exact to the quantisation bound, half a unit a device at most a whole one."""
    quiet = [parameters(1000, 0.0), parameters(500, 0.0, 4.0)]
    rng, source = np.random.default_rng(3), SimulationNoise(2)
    truth, total = np.zeros(9), np.zeros(9, np.int64)
    for _ in range(40):
        one, two = clipped(rng.standard_normal(7) / 9), clipped(rng.standard_normal(2), 4.0)
        total += noise_share([(one, quiet[0]), (two, quiet[1])], COHORT, 40, source).vector
        truth += np.concatenate([one.vector, two.vector])
    first, second = decode_sum(total, [(7, quiet[0]), (2, quiet[1])])
    assert np.abs(first - truth[:7]).max() < 40 / 1000
    assert np.abs(second - truth[7:]).max() < 40 * 4 / 500
    with pytest.raises(ShapeMismatch, match="sum of 8 numbers"):
        decode_sum(total, [(7, quiet[0]), (1, quiet[1])])


# ── modulus ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_bits() -> None:
    small_cohort = COHORT.model_copy(update={"devices_max": 100})
    assert modulus_bits([parameters(64, 1.0)], small_cohort) == 16
    assert modulus_bits([parameters(1000, 3.0)], COHORT) == 24
    assert modulus_bits([parameters(64, 1.0), parameters(1000, 3.0)], small_cohort) == 24
    assert modulus_bits([parameters(4096, 3.0)], COHORT) == 32
    with pytest.raises(PolicyError, match="more than 32 bits") as caught:
        modulus_bits([parameters(1 << 20, 3.0)], COHORT)
    levels, devices = (int(part.split()[0].rstrip(";")) for part in str(caught.value).split("≤ ")[1:])
    assert modulus_bits([parameters(levels, 3.0)], COHORT) == 32
    assert modulus_bits([parameters(1 << 20, 3.0)], COHORT.model_copy(update={"devices_max": devices - 50})) == 32


@given(
    devices=st.integers(4, 4096),
    levels=st.integers(16, 5000),
    z=st.floats(0, 50),
    dropout=st.floats(0, 0.45),
    corrupt=st.floats(0, 0.1),
)
def test_honest_sums_take_a_quarter_of_the_modulus(
    devices: int, levels: int, z: float, dropout: float, corrupt: float
) -> None:
    cohort = COHORT.model_copy(
        update={"devices_max": devices, "dropout_fraction_max": dropout, "corrupt_fraction_max": corrupt}
    )
    one = parameters(levels, z)
    modulus = 1 << modulus_bits([one], cohort)
    for roster in {4, devices // 2 + 2, devices}:
        if not 4 <= roster <= devices or cohort.honest_min(roster) < 1:
            continue
        limit = sum_limit([one], cohort, roster)
        assert 4 * limit <= modulus
        assert limit >= roster * levels


def test_a_wrapped_sum_is_seen_and_an_honest_one_is_not() -> None:
    """Aligned devices at full length: the declared roster fits; twice or thrice as many wrap into the other half."""
    one = parameters(1000, 3.0)
    cohort = COHORT.model_copy(update={"devices_max": 4000})
    modulus, limit = 1 << modulus_bits([one], cohort), sum_limit([one], cohort, 4000)
    for devices, seen in ((4000, False), (2800, False), (8_100, True), (12_300, True)):
        noise = SimulationNoise(9).skellam(one.share_variance(cohort.honest_min(4000)) * devices, 200)
        total = devices * 1000 + noise
        centred = (total + modulus // 2) % modulus - modulus // 2
        assert bool((np.abs(centred) > limit).any()) is seen


@pytest.mark.parametrize("variance", [0.5, 9.0, 400.0, 1e4])
def test_the_tail_bound_holds_and_is_not_far_off(variance: float) -> None:
    bound = skellam_tail(variance)
    k = np.arange(math.ceil(bound), math.ceil(bound) * 2 + 200).astype(float)
    assert 2 * float(ive(k, variance).sum()) < 2.0**-88
    nearer = np.arange(math.ceil(bound * 0.9), math.ceil(bound) * 2).astype(float)
    assert 2 * float(ive(nearer, variance).sum()) > 2.0**-100
    assert bound < 12 * math.sqrt(variance) + 40
    assert skellam_tail(0.0) == 0
    assert distributed.LENGTH_MAX == 1 << 24
