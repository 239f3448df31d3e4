"""The sum is exactly that of the survivors for every way to drop out within the bound; beyond it there is no sum."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import OutOfStage, SumOutOfRange, TooFewSurvivors
from common.privacy.parameters import CohortParameters
from common.secagg.graph import plan
from common.taxonomy import Stage
from tests.secagg.sessions import COHORT, STAGES, Session, sum_of, terms_of, vectors_of

LEAVING = (Stage.SHARE, Stage.MASK, Stage.CONFIRM, Stage.REVEAL)


@st.composite
def scenes(draw: st.DrawFn) -> tuple[int, int, int, dict[Stage, set[int]], int]:
    count = draw(st.integers(3, 36))
    length = draw(st.integers(1, 33))
    bits = draw(st.sampled_from((16, 24, 32)))
    order = draw(st.permutations(range(count)))
    leaving = order[: draw(st.integers(0, count - COHORT.survivors_min(count)))]
    gone: dict[Stage, set[int]] = {}
    for device in leaving:
        gone.setdefault(draw(st.sampled_from(LEAVING)), set()).add(device)
    return count, length, bits, gone, draw(st.integers(0, 2**32))


@given(scenes())
@settings(max_examples=40)
def test_the_sum_of_survivors_is_exact(scene: tuple[int, int, int, dict[Stage, set[int]], int]) -> None:
    count, length, bits, gone, seed = scene
    largest = 2 ** (bits - 2) // count
    vectors = vectors_of(count, length, largest, seed)
    session = Session(terms_of(length=length, bits=bits, session=str(seed)), count, seed=str(seed))
    found = session.run(vectors, gone, limit=largest * count)
    survivors = set(range(count)) - gone.get(Stage.SHARE, set()) - gone.get(Stage.MASK, set())
    assert set(found.survivors) == survivors
    assert found.identities == tuple(session.roster.identities[i] for i in found.survivors)
    np.testing.assert_array_equal(found.vector, sum_of(vectors, survivors))
    assert found.vector.dtype == np.int64


@pytest.mark.parametrize("stage", LEAVING)
@pytest.mark.parametrize("count", [3, 10, 60, 130])
def test_exact_at_the_very_bound_of_each_stage(stage: Stage, count: int) -> None:
    vectors = vectors_of(count, 5, 1000)
    gone = set(range(count - COHORT.survivors_min(count)))
    found = Session(terms_of(length=5, bits=24), count).run(vectors, {stage: gone}, limit=1000 * count)
    expected = set(range(count)) - (gone if stage in (Stage.SHARE, Stage.MASK) else set())
    np.testing.assert_array_equal(found.vector, sum_of(vectors, expected))


@pytest.mark.parametrize("size", [130, 200])
def test_a_regular_graph_with_drop_outs_everywhere(size: int) -> None:
    assert plan(size, COHORT).degree < size - 1
    vectors = vectors_of(size, 17, 500)
    gone = {stage: set(range(i * 9, i * 9 + 9)) for i, stage in enumerate(LEAVING)}
    found = Session(terms_of(length=17, bits=24), size).run(vectors, gone, limit=500 * size)
    np.testing.assert_array_equal(found.vector, sum_of(vectors, range(18, size)))


@pytest.mark.parametrize("stage", LEAVING[:3])
def test_one_drop_out_too_many_ends_the_session_without_a_sum(stage: Stage) -> None:
    count = 20
    gone = set(range(count - COHORT.survivors_min(count) + 1))
    session = Session(terms_of(length=4), count)
    with pytest.raises(TooFewSurvivors):
        session.run(vectors_of(count, 4, 9), {stage: gone}, limit=1000)
    assert_ended(session)


def test_too_few_shares_at_the_end_give_no_sum() -> None:
    count = 20
    session = Session(terms_of(length=4), count)
    with pytest.raises(TooFewSurvivors, match="shares"):
        session.run(vectors_of(count, 4, 9), {Stage.REVEAL: set(range(15))}, limit=1000)
    assert_ended(session)


def test_too_few_devices_make_no_roster() -> None:
    session = Session(terms_of(length=4), 2)
    with pytest.raises(TooFewSurvivors, match="2 devices of 3"):
        session.advertise()
    assert_ended(session)


def test_a_sum_beyond_what_honest_devices_can_send_is_refused() -> None:
    session = Session(terms_of(length=4, bits=16), 5)
    with pytest.raises(SumOutOfRange):
        session.run(vectors_of(5, 4, 9), {}, limit=3)
    assert_ended(session)


def test_an_aborted_session_stays_ended() -> None:
    session = Session(terms_of(length=4), 5)
    session.advertise()
    session.server.abort()
    assert_ended(session)


def test_extreme_coordinates_survive_packing() -> None:
    for bits in (16, 24, 32):
        half = 2 ** (bits - 1)
        vectors = {0: np.array([half - 1, -half, 0, -1]), 1: np.array([0, 0, 0, 0]), 2: np.array([0, 0, -1, 1])}
        found = Session(terms_of(length=4, bits=bits), 3).run(vectors, {}, limit=half)
        assert found.vector.tolist() == [half - 1, -half, -1, 0]


def test_nobody_drops_out_where_none_may() -> None:
    cohort = CohortParameters(devices_min=3, devices_max=9, dropout_fraction_max=0, corrupt_fraction_max=0)
    vectors = vectors_of(5, 3, 9)
    found = Session(terms_of(length=3, cohort=cohort), 5).run(vectors, {}, limit=45)
    np.testing.assert_array_equal(found.vector, sum_of(vectors, range(5)))


def assert_ended(session: Session) -> None:
    """Nothing can be added, closed or finished, and what was summed is gone."""
    server = session.server
    assert server.stage is None
    closing = (
        server.close_adverts,
        server.close_shares,
        server.close_masked,
        server.close_confirmations,
        lambda: server.finish(1),
        lambda: server.add_masked(0, b""),
        lambda: server.add_advert(session.adverts[0]),
    )
    for call in closing:
        with pytest.raises(OutOfStage):
            call()
    assert len(STAGES) == 5
