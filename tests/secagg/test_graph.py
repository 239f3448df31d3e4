"""Figures of the graph: against exact oracles, at every size, and against a server that picks who drops out."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from common.errors import PolicyError
from common.privacy.parameters import CohortParameters
from common.secagg import graph
from common.secagg.graph import GRINDING_BITS, Plan, check_cohort, neighbours, plan
from tests.secagg.sessions import COHORT

SIZES = (65, 100, 130, 257, 500, 1024)


def tail(population: int, marked: int, drawn: int, values: range) -> Fraction:
    ways = sum(math.comb(marked, x) * math.comb(population - marked, drawn - x) for x in values)
    return Fraction(ways, math.comb(population, drawn))


@pytest.mark.parametrize("size", SIZES)
def test_tails_are_as_declared_and_tight(size: int) -> None:
    found = plan(size, COHORT)
    corrupt, surviving = COHORT.corrupt_max(size), COHORT.survivors_min(size) - 1
    secrets = size * tail(size - 1, corrupt, found.degree, range(found.threshold, found.degree + 1))
    assert secrets <= Fraction(1, 2 ** (COHORT.security_bits + GRINDING_BITS))
    one_less = size * tail(size - 1, corrupt, found.degree, range(found.threshold - 1, found.degree + 1))
    assert one_less > Fraction(1, 2 ** (COHORT.security_bits + GRINDING_BITS))
    starved = size * tail(size - 1, surviving, found.degree, range(found.neighbours_min))
    assert starved <= Fraction(1, 2**COHORT.correctness_bits)
    assert found.threshold <= found.neighbours_min <= found.degree < size - 1


@pytest.mark.parametrize("size", [3, 4, 7, 64, *SIZES])
def test_the_graph_is_regular_symmetric_and_without_loops(size: int) -> None:
    found = plan(size, COHORT)
    rows = neighbours(found, b"seed")
    assert rows.shape == (size, found.degree)
    adjacent = np.zeros((size, size), bool)
    np.put_along_axis(adjacent, rows, True, axis=1)
    assert (adjacent.sum(axis=1) == found.degree).all()
    assert (adjacent == adjacent.T).all()
    assert not adjacent.diagonal().any()
    assert (np.diff(rows, axis=1) > 0).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_declared_eigenvalue_is_the_graphs_own(size: int) -> None:
    found = plan(size, COHORT)
    adjacent = np.zeros((size, size))
    np.put_along_axis(adjacent, neighbours(found, b"any"), 1, axis=1)
    spectrum = np.sort(np.abs(np.linalg.eigvalsh(adjacent)))
    offsets, bound = graph._offsets(size, found.degree)
    assert offsets == found.offsets
    assert spectrum[-1] == pytest.approx(found.degree)
    assert spectrum[-2] == pytest.approx(bound, abs=2e-3)
    assert spectrum[-2] <= bound


@pytest.mark.parametrize("size", SIZES)
def test_no_split_is_consistent_with_the_mixing_lemma(size: int) -> None:
    """Every part that the lemma allows is smaller than what each honest survivor's neighbours force on it."""
    found = plan(size, COHORT)
    honest = COHORT.honest_min(size)
    ratio = graph._offsets(size, found.degree)[1] / found.degree
    smallest_component = found.neighbours_min - found.threshold + 2
    for part in range(smallest_component, honest // 2 + 1):
        assert part * (honest - part) > ratio**2 * (size - part) * (size - honest + part)


def components(adjacent: np.ndarray, alive: np.ndarray) -> list[set[int]]:
    left, found = set(np.flatnonzero(alive)), []
    while left:
        reached, edge = set(), {left.pop()}
        while edge:
            reached |= edge
            edge = {int(j) for i in edge for j in np.flatnonzero(adjacent[i] & alive)} - reached
        left -= reached
        found.append(reached)
    return found


def cut(size: int, found: Plan, rows: np.ndarray, start: int, part: int) -> tuple[np.ndarray, bool]:
    """Grow ``part`` devices around one, drop all their outside neighbours; who is alive, and whether devices accept."""
    inside, edge = {start}, [start]
    while len(inside) < part:
        scores = np.zeros(size)
        for i in inside:
            scores[rows[i]] += 1
        scores[list(inside)] = -1
        inside.add(int(scores.argmax()))
        edge.append(start)
    outside = {int(j) for i in inside for j in rows[i]} - inside
    alive = np.ones(size, bool)
    alive[list(outside)] = False
    accepted = alive.sum() >= found.survivors_min and alive[rows[alive]].sum(axis=1).min() >= found.neighbours_min
    return alive, bool(accepted)


def consecutive(size: int, degree: int) -> np.ndarray:
    steps = np.r_[1 : degree // 2 + 1]
    return np.sort((np.arange(size)[:, None] + np.r_[steps, -steps][None]) % size, axis=1)


def test_a_server_that_drops_a_boundary_cuts_a_ring_of_consecutive_neighbours() -> None:
    """The control: with the graph of Bell et al. the same check lets the server learn two sums instead of one."""
    size = 500
    found = plan(size, COHORT)
    rows = consecutive(size, found.degree)
    alive = np.ones(size, bool)
    half = found.degree // 2
    alive[0:half] = alive[200 : 200 + half] = False
    assert alive.sum() >= found.survivors_min
    assert alive[rows[alive]].sum(axis=1).min() >= found.neighbours_min - 1
    adjacent = np.zeros((size, size), bool)
    np.put_along_axis(adjacent, rows, True, axis=1)
    assert len(components(adjacent, alive)) == 2


@pytest.mark.parametrize("part", [1, 2, 5, 12, 30, 60])
def test_a_server_that_drops_a_boundary_of_ours_is_refused(part: int) -> None:
    size = 500
    found = plan(size, COHORT)
    rows = neighbours(found, b"seed")
    for start in (0, 17, 401):
        _, accepted = cut(size, found, rows, start, part)
        assert not accepted


def test_whatever_is_accepted_is_connected_even_without_corrupt_devices() -> None:
    """100 random survivor sets at the bound, each with a random set of corrupt devices removed from the graph."""
    size = 257
    found = plan(size, COHORT)
    rng = np.random.default_rng(1)
    adjacent = np.zeros((size, size), bool)
    np.put_along_axis(adjacent, neighbours(found, b"seed"), True, axis=1)
    for _ in range(100):
        alive = np.zeros(size, bool)
        alive[rng.permutation(size)[: found.survivors_min]] = True
        alive[rng.permutation(size)[: COHORT.corrupt_max(size)]] = False
        assert len(components(adjacent, alive)) == 1


def test_the_order_depends_on_every_advert_and_on_nothing_else() -> None:
    found = plan(130, COHORT)
    one = neighbours(found, b"a")
    np.testing.assert_array_equal(one, neighbours(found, b"a"))
    assert (one != neighbours(found, b"b")).any()


def test_neighbours_are_uniform() -> None:
    """Of 4,000 seeds, how often is device 1 a neighbour of device 0? Binomial(4000, k/(n-1)); |z| > 5 has odds 6e-7."""
    found = plan(70, COHORT)
    hits = sum(1 in neighbours(found, str(seed).encode())[0] for seed in range(4000))
    rate = found.degree / 69
    assert abs(hits - 4000 * rate) < 5 * math.sqrt(4000 * rate * (1 - rate))


def test_small_rosters_are_complete_and_need_no_chance() -> None:
    for size in range(3, 65):
        found = plan(size, COHORT)
        assert found.degree == size - 1
        assert COHORT.corrupt_max(size) < found.threshold <= COHORT.survivors_min(size) - 1 == found.neighbours_min
        assert 2 * found.survivors_min > size + COHORT.corrupt_max(size)


def cohort(**figures: float) -> CohortParameters:
    base = {"devices_min": 10, "devices_max": 2000, "dropout_fraction_max": 0.3, "corrupt_fraction_max": 0.1}
    return CohortParameters.model_validate(base | figures)


@pytest.mark.parametrize(
    ("figures", "named"),
    [
        ({"corrupt_fraction_max": 0.45}, "corrupt_fraction_max must be below 0.4"),
        ({"dropout_fraction_max": 0.45}, "corrupt_fraction_max must be below 0.1"),
        ({"devices_min": 3000}, "devices_min 3000 is above devices_max 2000"),
    ],
)
def test_an_infeasible_cohort_is_refused_and_the_figure_named(figures: dict[str, float], named: str) -> None:
    with pytest.raises(PolicyError, match=named):
        check_cohort(cohort(**figures))


def test_one_infeasible_size_is_refused() -> None:
    with pytest.raises(PolicyError, match="10 devices with at least 6 survivors"):
        plan(10, cohort(dropout_fraction_max=0.4, corrupt_fraction_max=0.2))
    with pytest.raises(PolicyError, match="no threshold"):
        plan(3, cohort(dropout_fraction_max=0.4, corrupt_fraction_max=0.0))


def test_a_harsh_cohort_is_met_by_counting_alone() -> None:
    """Where chance is not allowed to help, the threshold is above every corrupt device and nobody can be starved."""
    harsh = cohort(dropout_fraction_max=0.3, corrupt_fraction_max=0.38, security_bits=128, correctness_bits=64)
    check_cohort(harsh)
    for size in (65, 66, 71, 100):
        found = plan(size, harsh)
        assert found.threshold > harsh.corrupt_max(size) >= found.corrupt_neighbours_max
        assert found.degree - (size - found.survivors_min) >= found.neighbours_min
