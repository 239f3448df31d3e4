"""The bench of private picks: theory, measured share and the published table agree; a wrong theory would be seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import private_pick as bench
from common.privacy.top_m import TopM

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("size", [4, 8, 16])
def test_shares_are_those_of_theory_and_of_the_published_table(size: int) -> None:
    rates = bench.people(6000, size, 3)
    for epsilon, published in zip(bench.EPSILONS, bench.PUBLISHED[size], strict=True):
        mechanism = bench.best_of_all(rates, epsilon)
        share, error = bench.kept(rates, mechanism)
        assert abs(share - bench.theory(rates, mechanism)) <= 1e-9 + 6 * error
        assert share == pytest.approx(published, abs=0.02)


def test_the_theory_of_another_mechanism_does_not_fit() -> None:
    rates = bench.people(6000, 8, 3)
    share, error = bench.kept(rates, TopM(candidates=8, chosen=2, epsilon=1.0))
    for wrong in (TopM(candidates=8, chosen=3, epsilon=1.0), TopM(candidates=8, chosen=2, epsilon=1.1)):
        assert abs(share - bench.theory(rates, wrong)) > 6 * error


def test_g_on_the_posterior_never_loses_against_context_where_the_pick_itself_does() -> None:
    found = bench.informed(8000, 1.0, 3, chosen=2)
    assert found["pick itself"] < found["context"] <= found["g on E[Y | pick]"] < found["on the device"]


def test_fresh_draws_give_the_best_away_and_a_kept_one_does_not() -> None:
    found = bench.recovered(4000, (1, 50), 3)
    assert found["fresh draws"][50] > 0.85
    assert found["kept answer"][50] == pytest.approx(0.28, abs=0.005)


def test_the_page_says_what_the_stored_run_measured() -> None:
    stored = json.loads((ROOT / "bench" / "results" / "private_pick.json").read_text())
    page = (ROOT / "docs" / "private-pick.md").read_text()
    for size in bench.SIZES:
        rows = [row for row in stored["shares"] if row["candidates"] == size]
        cells = " | ".join(f"{row['kept']:.2f} ({row['chosen']})".removeprefix("0") for row in rows)
        assert f"| {size} | {cells} |" in page
    for row in stored["informed"]:
        if row["chosen"] == 1:
            assert (
                f"{row['share of the gain over context']:.2f}".removeprefix("0") + f" at ε = {row['epsilon']:g}" in page
            )
