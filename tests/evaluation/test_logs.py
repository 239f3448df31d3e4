"""From decisions of g to estimates: documents judged on logs against their exact values; files, errors, pictures."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from cli.main import app
from cli.policy.read import read_log
from common.errors import InputError, MalformedInput, OutOfRange
from common.wire.messages import SlotRequest
from policies.evaluation.diagnostics import diagnose
from policies.evaluation.estimators import ESTIMATORS, on_policy
from policies.evaluation.rows import LoggedCandidate, log_rows
from policies.evaluation.targets import as_logged, by_document, by_name, seen_from, uniform
from policies.placement.assemble import inputs
from policies.placement.assignment import offered, opened, without
from policies.placement.decide import decision
from policies.placement.document import PlacementPolicy
from policies.placement.lint import DENIED_ALWAYS
from tests.evaluation.logs import LOGGING, exact, made_log
from tests.placement.made import creative, policy

ROWS = made_log(4000)
TARGETS = [
    policy({"kind": "greedy"}),
    policy({"kind": "softmax", "temperature": 0.1, "k": 6}),
    policy({"kind": "epsilon_greedy", "exploration": 0.2, "k": 6}),
    policy({"kind": "thompson", "stddev": 0.1, "cells": 60, "k": 6}),
    policy({"kind": "thompson", "posterior": "beta", "prior_strength": 10, "cells": 60, "k": 6}),
    policy({"kind": "threshold", "score_min": 0.3}),
    policy({"kind": "softmax", "temperature": 0.1, "k": 6}, score={"calibration": {"slope": 2}, "floor": 0.05}),
]


@pytest.mark.statistical
@pytest.mark.parametrize("rules", TARGETS, ids=lambda p: p.strategy.kind)
def test_documents_are_judged_within_four_standard_errors_of_their_exact_value(rules: PlacementPolicy) -> None:
    """4,000 decisions of two positions; a seed that fails has probability 6e-5, and it is fixed."""
    truth = exact(rules)
    sample = seen_from(ROWS, by_document(rules))
    for estimator in ESTIMATORS:
        found = estimator(sample)
        assert abs(found.value - truth) < 4 * found.stderr, (found, truth)
        assert found.stderr < 0.1 * truth
    assert diagnose(sample).uncovered == 0
    assert diagnose(sample).warnings == ()


@pytest.mark.statistical
def test_a_slate_judged_without_its_earlier_turns_is_judged_wrongly() -> None:
    """Control: every turn as a decision of its own forgets that greedy would have shown other things before."""
    apart = [row.model_copy(update={"decision_id": f"{row.decision_id}/{row.turn}", "turn": 0}) for row in ROWS]
    rules = policy({"kind": "greedy"})  # its first choice is gone in many a second turn of the log
    found = ESTIMATORS[0](seen_from(apart, by_document(rules)))
    assert abs(found.value - exact(rules)) > 3 * found.stderr


def test_the_logging_document_reproduces_its_own_propensities() -> None:
    sample, own = seen_from(ROWS, by_document(LOGGING)), seen_from(ROWS, as_logged)
    assert sample.weights == pytest.approx(1, rel=1e-9)
    assert own.weights == pytest.approx(1)
    assert on_policy(own).value == pytest.approx(exact(LOGGING), abs=4 * on_policy(own).stderr)


def test_what_a_log_never_shows_is_said() -> None:
    narrow = made_log(300, logging=policy({"kind": "softmax", "temperature": 0.05, "k": 2}))
    whole = [
        row.model_copy(
            update={"candidates": (*row.candidates, LoggedCandidate(id="other", propensity=0.0, response=0.9))}
        )
        for row in narrow
    ]
    seen = diagnose(seen_from(whole, by_document(policy({"kind": "greedy"}))))
    assert seen.uncovered == 1
    assert any("never shown" in warning for warning in seen.warnings)


def test_targets_can_be_logged_by_name() -> None:
    named = [
        row.model_copy(
            update={
                "candidates": tuple(c.model_copy(update={"targets": {"same": c.propensity}}) for c in row.candidates)
            }
        )
        for row in ROWS[:100]
    ]
    assert seen_from(named, by_name("same")).weights == pytest.approx(1)
    with pytest.raises(InputError, match="no candidate has a target 'other'"):
        seen_from(named, by_name("other"))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda: seen_from([], uniform), InputError),
        (lambda: seen_from(ROWS[1:2], uniform), InputError),  # turn 0 is missing
        (lambda: seen_from([ROWS[0], ROWS[0]], uniform), InputError),
        (lambda: seen_from(ROWS[:2], lambda row: [1.0] * len(row.candidates)), OutOfRange),
        (lambda: seen_from(ROWS[:2], lambda row: [1.0]), OutOfRange),
    ],
)
def test_what_is_no_log_or_no_policy_is_refused(wrong: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        wrong()


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(row.model_dump_json() + "\n" for row in ROWS[:1200]))
    return path


def test_parquet_and_json_lines_say_the_same(log: Path, tmp_path: Path) -> None:
    records = [json.loads(line) for line in log.read_text().splitlines()]
    for record in records:
        for candidate in record["candidates"]:
            del candidate["targets"]  # Parquet knows no empty struct
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "log.parquet")
    assert read_log(tmp_path / "log.parquet") == read_log(log) == ROWS[:1200]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"propensity": 0.0}, "line 2: LogRow.propensity|line 2: .*propensity"),
        ({"propensity": float("nan")}, "line 2: .*propensity"),
        ({"reward": "a lot"}, "line 2: .*reward"),
        ({"shown": "nobody"}, "line 2"),
        ({"price": 1}, "line 2: .*price"),
        ({"candidates": []}, "line 2"),
        ({"shown": None, "reward": 1.0}, "line 2"),
    ],
)
def test_a_bad_row_is_named_by_its_line(change: dict[str, object], said: str, tmp_path: Path) -> None:
    good = json.loads(ROWS[0].model_dump_json())
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(MalformedInput, match=said):
        read_log(path)


@pytest.mark.parametrize(
    ("name", "content"), [("a.csv", b"x"), ("a.parquet", b"PAR1"), ("a.jsonl", b"\n"), ("a.jsonl", b"\xff{")]
)
def test_what_is_no_log_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError):
        read_log(tmp_path / name)
    with pytest.raises(InputError):
        read_log(tmp_path / "nothing" / "there.jsonl")


def run(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["policy", *map(str, arguments)])
    return done.exit_code, done.output + (done.stderr or "")


def test_evaluate_and_compare_print_tables_and_write_a_picture(log: Path, tmp_path: Path) -> None:
    document = tmp_path / "mine.yaml"
    rules = {"version": 1, "name": "mine", "eligibility": {"denied_categories": list(DENIED_ALWAYS)}}
    document.write_text(yaml.safe_dump(rules | {"strategy": {"kind": "greedy"}}))
    code, said = run("evaluate", log, "-p", document, "-p", "uniform", "--json", tmp_path / "out.json")
    assert code == 0, said
    for word in ("mine", "uniform", "SNIPS", "DR", "calibrated DM", "none: see below", "DM has no interval"):
        assert word in said
    assert "Difference" not in said
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["rows"] == 1200
    assert [one["policy"] for one in found["policies"]] == ["mine", "uniform"]
    assert all(set(one["direct"]) == {"estimator", "value", "bias"} for one in found["policies"])  # DM: a point
    assert all(e["estimator"] != "DM" for one in found["policies"] for e in one["estimates"])
    code, said = run("compare", log, "logged", document, "uniform", "--plot", tmp_path / "out.svg")
    assert code == 0, said
    assert "Difference to logged" in said
    assert "better" in said
    assert (tmp_path / "out.svg").read_bytes().startswith(b"<?xml")


def test_a_refusal_is_one_line_with_its_name(log: Path, tmp_path: Path) -> None:
    for arguments, word in (
        (("evaluate", log, "-p", "nothing"), "InputError"),
        (("evaluate", tmp_path / "no.jsonl", "-p", "uniform"), "InputError"),
        (("compare", log, "uniform", "uniform"), "named twice"),
        (("compare", log, "uniform", "logged", "--plot", tmp_path / "a.bmp"), "InputError"),
    ):
        code, said = run(*arguments)
        assert code == 1
        assert word in said
        assert "Traceback" not in said


def test_lint_names_what_is_wrong(tmp_path: Path) -> None:
    from policies.loader import PLACEMENTS

    code, said = run("lint", *sorted(PLACEMENTS.glob("*.yaml")))
    assert code == 0
    assert "social: " in said or "social version" in said
    bad = tmp_path / "bad.yaml"
    bad.write_text((PLACEMENTS / "social.yaml").read_text().replace("    - religion\n", ""))
    code, said = run("lint", bad)
    assert code == 1
    assert "denied_categories lacks religion" in said


def test_a_pool_smaller_than_the_loggers_is_the_decisions_and_is_not_filled_up() -> None:
    """On every turn that a narrow policy could have reached, its probabilities are those that g would draw by."""
    creatives = tuple(creative(f"c{i}") for i in range(6))
    slots = (SlotRequest(slot_id="a", count=3),)
    wide, narrow = (policy({"kind": "epsilon_greedy", "exploration": 0.9, "k": k}, name=f"k{k}") for k in (6, 3))
    told, compared = inputs(creatives, now=0), 0
    for number in range(200):
        made = decision(wide, creatives, lambda some: [0.5] * len(some), slots, salt=f"d{number}", inputs=told)
        rows = log_rows(made, f"d{number}", [0.0] * 3, bids=told.bids)
        table = opened(narrow, made.turns[0].choices, told)
        for row, turn in zip(rows, made.turns, strict=True):
            choices, probabilities = offered(narrow, table, "a", told)
            expected = {one.creative.creative_id: p for one, p in zip(choices, probabilities, strict=True)}
            found = dict(zip((c.id for c in row.candidates), by_document(narrow)(row), strict=True))
            assert {name: p for name, p in found.items() if p} == pytest.approx(expected)
            compared += row.turn > 0
            shown = next((one for one in choices if one.creative.creative_id == turn.placement.creative_id), None)
            if shown is None:
                break  # the narrow policy never comes here
            table = without(narrow, table, shown, told)
    assert compared > 50
