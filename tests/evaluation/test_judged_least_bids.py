"""Policies are judged under the least bids that exchanges asked for; what cannot be is left out and counted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from cli.main import app
from cli.policy.judge import judge
from common.errors import InputError
from common.wire.messages import Creative, SlotRequest
from policies.evaluation.estimators import ESTIMATORS
from policies.evaluation.rows import LoggedCandidate, LogRow, log_rows
from policies.evaluation.targets import by_document, judgeable, seen_from, uniform
from policies.placement.assemble import inputs
from policies.placement.decide import decide, decision
from tests.placement.made import creative, policy

FLOOR = 400
CREATIVES = tuple(creative(f"c{i}").model_copy(update={"bid_micros": 200 * (i + 1)}) for i in range(4))
"""c0 offers 200, c3 800: the floor keeps c0 out."""
RATES = (0.8, 0.6, 0.4, 0.2)
SLOT = (SlotRequest(slot_id="a"),)
LOGGING = policy({"kind": "epsilon_greedy", "exploration": 0.8, "k": 4}, name="logging")
BEST = policy({"kind": "greedy"}, name="best")
N = 1200


def rates(creatives: Sequence[Creative]) -> list[float]:
    return [RATES[int(one.creative_id[1:])] for one in creatives]


def under_a_floor(number: int, rng: np.random.Generator) -> LogRow:
    """A turn of g under a least bid, with the one that could not take part logged too, as exchanges do."""
    told = inputs(CREATIVES, now=0, least_bids={"a": FLOOR})
    made = decision(LOGGING, CREATIVES, rates, SLOT, salt=f"d{number}", inputs=told)
    shown = made.placements[0].creative_id
    reward = 0.0 if shown is None else float(rng.random() < RATES[int(shown[1:])])
    (row,) = log_rows(made, f"d{number}", [reward], bids=told.bids, least_bids=told.least_bids)
    cheap = LoggedCandidate(id="c0", propensity=0.0, response=RATES[0], bid_micros=200)
    return LogRow.model_validate(row.model_dump() | {"candidates": (cheap, *row.candidates)})


@pytest.fixture(scope="module")
def log() -> list[LogRow]:
    rng = np.random.default_rng(7)
    return [under_a_floor(number, rng) for number in range(N)]


def test_a_policy_is_judged_among_those_who_could_take_part(log: list[LogRow]) -> None:
    """Greedy would show c1 (0.6) under the floor. 1,200 turns, four standard errors; the seed is fixed."""
    (placed,) = decide(BEST, CREATIVES, rates, SLOT, salt="x", inputs=inputs(CREATIVES, now=0, least_bids={"a": FLOOR}))
    assert placed.creative_id == "c1"
    sample = seen_from(log, by_document(BEST))
    for estimator in ESTIMATORS:
        found = estimator(sample)
        assert abs(found.value - 0.6) < 4 * found.stderr, found
    deaf = [row.model_copy(update={"least_bid_micros": 0}) for row in log]
    assert seen_from(deaf, by_document(BEST)).weights.sum() == 0, "the control: it would show what nobody could show"
    assert abs(ESTIMATORS[0](seen_from(deaf, uniform)).value - 0.4) > 0.05
    assert ESTIMATORS[0](seen_from(log, uniform)).value == pytest.approx(0.4, abs=0.05)


def test_who_offers_too_little_takes_no_place_of_the_pool(log: list[LogRow]) -> None:
    narrow = policy({"kind": "softmax", "temperature": 0.2, "k": 2})
    weights = by_document(narrow)(log[0].model_copy(update={"candidates": log[0].candidates[1:]}))
    assert sum(one > 0 for one in weights) == 2
    assert seen_from(log, by_document(narrow)).weights.mean() == pytest.approx(1, abs=0.15)


def test_without_bids_a_decision_is_left_out_and_counted(log: list[LogRow]) -> None:
    dark = [
        row.model_copy(update={"candidates": tuple(c.model_copy(update={"bid_micros": None}) for c in row.candidates)})
        for row in log[:100]
    ]
    free = [row.model_copy(update={"least_bid_micros": 0}) for row in log[200:300]]
    mixed = [*dark, *log[100:200], *free]
    verdict = judge(mixed, [("best", by_document(BEST))])
    assert (verdict.decisions, verdict.with_least_bid, verdict.left_out) == (200, 100, 100)
    assert judge(free, [("best", by_document(BEST))]).left_out == 0
    other = dark[0].model_copy(update={"turn": 1, "least_bid_micros": 0})
    assert judgeable([dark[0], other, log[100]]) == ([log[100]], 1), "turns of one decision hang together"
    with pytest.raises(InputError, match="every decision"):
        judge(dark, [("best", by_document(BEST))])
    with pytest.raises(InputError, match="without its bid"):
        seen_from(dark, by_document(BEST))


def test_a_log_in_which_somebody_below_the_floor_could_be_shown_is_none(log: list[LogRow]) -> None:
    row = next(one for one in log if one.shown == "c1").model_dump()
    for least in (401, 10_000):
        with pytest.raises(ValidationError, match="below the least bid"):
            LogRow.model_validate(row | {"least_bid_micros": least})
    assert LogRow.model_validate({k: v for k, v in row.items() if k != "least_bid_micros"}).least_bid_micros == 0


def test_the_report_says_both(log: list[LogRow], tmp_path: Path) -> None:
    dark = log[0].model_dump(mode="json")
    for candidate in dark["candidates"]:
        candidate["bid_micros"] = None
    path, out = tmp_path / "log.jsonl", tmp_path / "out.json"
    path.write_text("".join([json.dumps(dark), "\n", *(row.model_dump_json() + "\n" for row in log[1:200])]))
    said = CliRunner().invoke(app, ["policy", "evaluate", str(path), "-p", "uniform", "--json", str(out)])
    assert said.exit_code == 0, said.output
    assert "199 turns were asked for with a least bid: policies are judged under it" in said.output
    assert "left out: 1 decisions with a least bid and without the bids of all their candidates" in said.output
    verdict = json.loads(out.read_text())
    assert (verdict["with_least_bid"], verdict["left_out"]) == (199, 1)
