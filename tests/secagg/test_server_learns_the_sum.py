"""What a server can compute from a whole transcript: the sum of the honest survivors, and nothing else.

The simulator argument, made executable. A server with some corrupt devices *peels* every masked vector: it removes all
masks whose seeds it was given or can reconstruct. In a correct build what is left of an honest survivor is its vector
plus masks with other honest survivors only, and these connect all of them; so, the masks being uniform, the leftovers
are uniform among those with the right sum, whatever the vectors were. A simulator that knows the sum alone draws the
same. The tests check each step on real transcripts, and the same checks catch builds with a step left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest

from common.secagg import device, masking
from common.secagg.masking import centred, expand, unpack
from common.secagg.pairwise import mask_seed, private_key
from common.secagg.states import Shared
from common.taxonomy import Stage
from tests.secagg.sessions import Session, sum_of, terms_of, vectors_of

COUNT, LENGTH, BITS, LARGEST = 24, 2_000, 16, 20
DROPPED, CORRUPT = {0, 5, 9}, {2, 7}
HONEST = sorted(set(range(COUNT)) - DROPPED - CORRUPT)


@dataclass
class Transcript:
    session: Session
    before_mask: dict[int, Shared]
    late: dict[int, bytes]


def play(vectors: Mapping[int, np.ndarray], *, seed: str = "simulator", session: str = "a") -> Transcript:
    """A session in which the dropped devices' masked vectors arrive too late, as a curious server would arrange."""
    played = Session(terms_of(length=LENGTH, bits=BITS, session=session), COUNT, seed=seed)
    played.advertise()
    played.share()
    before = dict(played.states)
    late = {i: device.mask(before[i], played.roster, played.deliveries[i], vectors[i])[1] for i in DROPPED}
    played.mask(vectors, gone=DROPPED)
    played.confirm()
    played.reveal()
    found = played.server.finish(LARGEST * COUNT)
    np.testing.assert_array_equal(found.vector, sum_of(vectors, set(range(COUNT)) - DROPPED))
    return Transcript(played, before, late)


def peel(seen: Transcript, index: int, payload: bytes) -> np.ndarray:
    """A masked vector without the masks that the server and the corrupt devices know, after the session."""
    roster = seen.session.roster
    words = unpack(payload, LENGTH, BITS).copy()
    if index not in DROPPED:
        words -= expand(seen.before_mask[index].self_seed, LENGTH, BITS)
    own = private_key(seen.before_mask[index].masking_secret)
    for other in roster.neighbours(index):
        if index in DROPPED or other in DROPPED or other in CORRUPT:
            low, high = min(index, other), max(index, other)
            mask = expand(mask_seed(own, roster.masking_keys[other], roster.digest, low, high), LENGTH, BITS)
            words = words - mask if index == low else words + mask
    return words


def looks_uniform(words: np.ndarray) -> bool:
    """Chi-square of 256 values of the high byte over n = 2,000: mean 255, deviation 22.6; above 420 has odds 1e-10.

    Power: a vector within ±20 fills two bytes of 256 and scores about 254,000.
    """
    counts = np.bincount(words.astype(np.int64) >> 8 & 0xFF, minlength=256)
    return bool(((counts - len(words) / 256) ** 2 / (len(words) / 256)).sum() < 420)


def vectors() -> dict[int, np.ndarray]:
    return vectors_of(COUNT, LENGTH, LARGEST, seed=3)


def test_single_leftovers_and_partial_sums_are_uniform_and_the_whole_is_the_sum() -> None:
    chosen = vectors()
    seen = play(chosen)
    left = {i: peel(seen, i, seen.session.payloads[i]) for i in HONEST}
    assert all(looks_uniform(words) for words in left.values())
    rng = np.random.default_rng(4)
    for _ in range(50):  # proper, non-empty subsets
        part = rng.permutation(HONEST)[: rng.integers(1, len(HONEST))]
        assert looks_uniform(np.sum([left[i] for i in part], axis=0, dtype=np.uint16))
    whole = np.sum([left[i] for i in HONEST], axis=0, dtype=np.uint16)
    np.testing.assert_array_equal(centred(whole, BITS), sum_of(chosen, HONEST))


def test_a_late_vector_of_a_dropped_device_stays_masked() -> None:
    seen = play(vectors())
    for index, payload in seen.late.items():
        assert looks_uniform(peel(seen, index, payload))


def test_a_simulator_that_knows_the_sum_alone_makes_the_same_transcript() -> None:
    """Same coins, other vectors with the same sum: every message but the masked vectors is the same, bit by bit, and
    no masked vector, leftover or difference between the two worlds tells them apart from uniform.
    """
    real = vectors()
    ideal = {i: np.zeros(LENGTH, np.int64) for i in range(COUNT)}
    ideal[HONEST[0]] = sum_of(real, HONEST)
    ideal |= {i: real[i] for i in CORRUPT}
    one, two = play(real), play(ideal)
    for field in ("adverts", "shares", "deliveries", "survivors", "own_confirmations", "confirmations", "reveals"):
        assert getattr(one.session, field) == getattr(two.session, field), field
    other = play(ideal, seed="other coins")
    for i in HONEST:
        assert looks_uniform(unpack(one.session.payloads[i], LENGTH, BITS))
        assert looks_uniform(peel(one, i, one.session.payloads[i]))
        assert looks_uniform(peel(other, i, other.session.payloads[i]))
        assert looks_uniform(
            unpack(one.session.payloads[i], LENGTH, BITS) - unpack(other.session.payloads[i], LENGTH, BITS)
        )


def test_the_same_device_keys_in_two_sessions_give_independent_masks() -> None:
    """Even a device whose entropy repeated is protected by the session in every seed (all but its own mask)."""
    one, two = play(vectors(), session="a"), play(vectors_of(COUNT, LENGTH, LARGEST, seed=8), session="b")
    for i in HONEST:
        a = peel(one, i, one.session.payloads[i])
        b = peel(two, i, two.session.payloads[i])
        assert looks_uniform(a - b)


def bad(monkeypatch: pytest.MonkeyPatch, name: str, build: Callable[..., object]) -> None:
    monkeypatch.setattr(device, name, build)


def test_control_no_self_mask_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it, a vector that comes late is bare once the masking key of its 'dropped' device is reconstructed."""
    played = Session(terms_of(length=LENGTH, bits=BITS), COUNT)
    played.advertise()
    played.share()
    before = dict(played.states)
    real = expand

    def none_for_self(seed: bytes, length: int, bits: int) -> np.ndarray:
        own = any(state.self_seed == seed for state in before.values())
        return np.zeros(length, masking.word_type(bits)) if own else real(seed, length, bits)

    monkeypatch.setattr(device, "expand", none_for_self)
    chosen = vectors()
    late = {i: device.mask(before[i], played.roster, played.deliveries[i], chosen[i])[1] for i in DROPPED}
    left = peel(Transcript(played, before, late), 0, late[0])
    assert not looks_uniform(left)
    np.testing.assert_array_equal(centred(left, BITS), chosen[0])


def test_control_seeds_that_forget_the_session_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = mask_seed
    monkeypatch.setattr(device, "mask_seed", lambda own, peer, binding, low, high: real(own, peer, b"", low, high))
    left = []
    for session in ("a", "b"):
        played = Session(terms_of(length=LENGTH, bits=BITS, session=session), COUNT)
        played.advertise()
        played.share()
        before = dict(played.states)
        chosen = vectors_of(COUNT, LENGTH, LARGEST, seed=len(left))
        payload = device.mask(before[3], played.roster, played.deliveries[3], chosen[3])[1]
        left.append(unpack(payload, LENGTH, BITS) - expand(before[3].self_seed, LENGTH, BITS))
    assert not looks_uniform(left[0] - left[1])


def test_control_seeds_of_32_bits_are_found_by_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for 32 bits with 12, so that the search takes a second: one masked vector falls to exhaustive search."""
    real = expand

    def folded(seed: bytes) -> bytes:
        return hashlib.sha256(bytes([seed[0], seed[1] & 0x0F])).digest()

    monkeypatch.setattr(device, "expand", lambda seed, length, bits: real(folded(seed), length, bits))
    played = Session(terms_of(length=LENGTH, bits=BITS), 3)
    played.advertise()
    played.share()
    before = dict(played.states)
    chosen = vectors_of(3, LENGTH, LARGEST)
    payload = device.mask(before[0], played.roster, played.deliveries[0], chosen[0])[1]
    words = unpack(payload, LENGTH, BITS)
    own = private_key(before[0].masking_secret)
    for other in (1, 2):  # say the server knows the pairwise masks
        seed = mask_seed(own, played.roster.masking_keys[other], played.roster.digest, 0, other)
        words = words - real(folded(seed), LENGTH, BITS)
    candidates = (hashlib.sha256(bytes([a, b])).digest() for a in range(256) for b in range(16))
    found = [seed for seed in candidates if not looks_uniform(words - real(seed, LENGTH, BITS))]
    assert found == [folded(before[0].self_seed)]


def test_vectors_do_not_reach_any_other_message() -> None:
    """Only the masked payload depends on a device's vector: all else is fixed before the vector is looked at."""
    one, two = play(vectors()), play({i: vector[::-1].copy() for i, vector in vectors().items()})
    assert one.session.reveals == two.session.reveals
    assert one.session.payloads != two.session.payloads
    assert Stage.MASK in Stage
