"""A reply that is not exactly what its round asked for is refused by name; the sum of the others is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as np_arrays

from common.errors import TooFewSurvivors
from common.privacy.parameters import MechanismUse, RecordDpParameters
from common.privacy.updates import GRID, GRID_LIMIT
from common.taxonomy import Masking, Profile
from common.wire.codec import encode
from common.wire.messages import TrainingContribution
from server.rounds.aggregation import Expected, ReplyFault, Tally, add_reply, mean_update

SPEC, BASE = "a" * 64, "b" * 64
PARAMETERS = RecordDpParameters(
    clipping_norm=1, noise_multiplier=2, sampling_rate=1, local_steps=1, expected_batch_size=8, learning_rate=0.1
)
RELEASE = PARAMETERS.release(Profile.RECORD_LOCAL)
EXPECTED = Expected(
    run_id="run-1",
    round_number=2,
    spec_digest=SPEC,
    base_digest=BASE,
    length=3,
    release=RELEASE,
    masking=Masking.NONE,
    contributions_max=10,
)


def header(**changes: object) -> TrainingContribution:
    values: dict[str, object] = {
        "run_id": "run-1",
        "round_number": 2,
        "spec_digest": SPEC,
        "base_digest": BASE,
        "length": 3,
        "contributions": 2,
        "release": RELEASE,
        "masking": Masking.NONE,
    }
    return TrainingContribution.model_validate(values | changes)


def vector(*values: int) -> dict[str, np.ndarray]:
    return {"update": np.array(values, np.int64)}


def add(tally: Tally, node: int = 7, body: bytes | None = None, arrays: dict | None = None) -> ReplyFault | None:
    return add_reply(
        tally,
        EXPECTED,
        node_id=node,
        body=encode(header()) if body is None else body,
        arrays=vector(1, 2, 3) if arrays is None else arrays,
    )


def test_a_good_reply_is_added() -> None:
    tally = Tally.start(3)
    assert add(tally) is None
    assert (tally.contributions, tally.nodes, tally.total.tolist()) == (2, {7}, [1, 2, 3])
    assert np.array_equal(mean_update(tally, 2), np.array([1, 2, 3]) * GRID / 2)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"run_id": "run-2"}, ReplyFault.FOREIGN_RUN),
        ({"round_number": 1}, ReplyFault.WRONG_ROUND),
        ({"round_number": 3}, ReplyFault.WRONG_ROUND),
        ({"spec_digest": "c" * 64}, ReplyFault.SPEC),
        ({"base_digest": "c" * 64}, ReplyFault.DIGEST),
        ({"length": 4}, ReplyFault.SHAPE),
        ({"contributions": 0}, ReplyFault.CONTRIBUTIONS),
        ({"contributions": 11}, ReplyFault.CONTRIBUTIONS),
        ({"release": RELEASE.model_copy(update={"noise_multiplier": 1.0})}, ReplyFault.MECHANISM),
        ({"release": RELEASE.model_copy(update={"count": 2})}, ReplyFault.MECHANISM),
        ({"release": PARAMETERS.release(Profile.NON_PRIVATE)}, ReplyFault.MECHANISM),
    ],
)
def test_a_header_that_differs_is_refused_by_name(changes: dict[str, object], fault: ReplyFault) -> None:
    tally = Tally.start(3)
    assert add(tally, body=encode(header(**changes))) is fault
    assert tally.refused == {fault: 1}
    assert add(tally) is None  # and the others stand
    assert tally.contributions == 2


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({}, ReplyFault.MALFORMED),
        ({"update": np.zeros(3, np.int64), "examples": np.zeros(3, np.int64)}, ReplyFault.MALFORMED),
        (vector(1, 2), ReplyFault.SHAPE),
        ({"update": np.zeros((3, 1), np.int64)}, ReplyFault.SHAPE),
        ({"update": np.zeros(3, np.float64)}, ReplyFault.DTYPE),
        ({"update": np.array([1.0, np.nan, 0.0])}, ReplyFault.DTYPE),
        ({"update": np.zeros(3, np.int32)}, ReplyFault.DTYPE),
        (vector(2 * GRID_LIMIT + 1, 0, 0), ReplyFault.RANGE),
        (vector(0, -2 * GRID_LIMIT - 1, 0), ReplyFault.RANGE),
        (vector(np.iinfo(np.int64).min, 0, 0), ReplyFault.RANGE),
    ],
)
def test_a_vector_that_differs_is_refused_by_name(arrays: dict[str, np.ndarray], fault: ReplyFault) -> None:
    tally = Tally.start(3)
    assert add(tally, arrays=arrays) is fault
    assert not tally.total.any()
    assert tally.contributions == 0


@pytest.mark.parametrize("body", [b"", b"\x01", b"\x02{}", b"\x01{}", b"not a message", encode(header())[:-1]])
def test_undecodable_bytes_are_refused(body: bytes) -> None:
    assert add(Tally.start(3), body=body) is ReplyFault.MALFORMED


def test_a_second_reply_of_a_node_is_refused() -> None:
    tally = Tally.start(3)
    assert add(tally) is None
    assert add(tally) is ReplyFault.DUPLICATE
    assert add(tally, node=8) is None
    assert tally.total.tolist() == [2, 4, 6]


def test_a_sum_that_would_wrap_is_refused() -> None:
    tally = Tally.start(3)
    tally.total[:] = np.iinfo(np.int64).max - 1
    assert add(tally, arrays=vector(2, 0, 0)) is ReplyFault.OVERFLOW
    assert tally.total.tolist() == [np.iinfo(np.int64).max - 1] * 3


def test_too_few_survivors() -> None:
    tally = Tally.start(3)
    with pytest.raises(TooFewSurvivors, match="0 contributions arrived, at least 1"):
        mean_update(tally, 0)
    add(tally)
    with pytest.raises(TooFewSurvivors, match="2 contributions arrived, at least 3"):
        mean_update(tally, 3)


@given(
    st.lists(
        st.tuples(np_arrays(np.int64, 3, elements=st.integers(-GRID_LIMIT, GRID_LIMIT)), st.integers(1, 10)),
        min_size=1,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
def test_the_sum_is_exact_in_any_order(replies: list[tuple[np.ndarray, int]], order: object) -> None:
    totals = []
    for _ in range(2):
        tally = Tally.start(3)
        for node, (values, contributions) in enumerate(replies):
            body = encode(header(contributions=contributions))
            assert add(tally, node=node, body=body, arrays={"update": values}) is None
        totals.append(tally.total.tolist())
        order.shuffle(replies)  # type: ignore[attr-defined]
    exact = [sum(int(values[i]) for values, _ in replies) for i in range(3)]
    assert totals == [exact, exact]


def test_the_control_a_mechanism_use_equal_in_value_is_accepted() -> None:
    again = MechanismUse.model_validate_json(RELEASE.model_dump_json())
    assert add(Tally.start(3), body=encode(header(release=again))) is None
