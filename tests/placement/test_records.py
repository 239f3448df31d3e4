"""A decision replays from its record: on another machine, after a round trip, and never after a change."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.errors import DigestMismatch
from common.wire.messages import Creative, SlotRequest
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Bid, Evidence, Inputs, Shown
from policies.placement.record import DecisionRecord, recorded, replay
from tests.placement.made import EVERY, NAMES, creative

ROOT = Path(__file__).resolve().parents[2]
DIGEST = "0" * 64
CATALOGUE = [creative(name, advertiser="x" if name < "c4" else "y") for name in NAMES]
INPUTS = Inputs(
    now=10_000.0,
    shown=(Shown("c1", "x", "x", "snacks", 9_000.0),),
    pacing={"y": 0.5},
    bids={name: Bid(1000 * i) for i, name in enumerate(NAMES)},
    evidence={"c2": Evidence(50, 10)},
    floors={"s0": 0.05},
    blocked_categories=frozenset({"tea"}),
    context={"page": "home"},
)


def made(rules: PlacementPolicy, scores: list[float], seed: str) -> DecisionRecord:
    by_name = dict(zip(NAMES, scores, strict=True))
    slots = [SlotRequest(slot_id="s0", count=2), SlotRequest(slot_id="s1")]

    def score(candidates: list[Creative]) -> list[float]:
        return [by_name[c.creative_id] for c in candidates]

    _, record = recorded(
        rules, CATALOGUE, score, slots, salt=seed, inputs=INPUTS, policy_digest=DIGEST, catalogue_version=1
    )
    return record


def again(record: DecisionRecord, rules: PlacementPolicy) -> object:
    return replay(record, rules, CATALOGUE, policy_digest=DIGEST, catalogue_version=1).placements


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), min_size=7, max_size=7), st.sampled_from(EVERY), st.text(max_size=5))
def test_a_record_replays_after_a_round_trip(scores: list[float], rules: PlacementPolicy, seed: str) -> None:
    record = made(rules, scores, seed)
    read = DecisionRecord.model_validate_json(record.model_dump_json())
    assert read == record
    assert again(read, rules) == record.placements


@pytest.mark.parametrize("rules", EVERY, ids=lambda p: p.strategy.kind)
def test_another_process_gives_the_same_answer(rules: PlacementPolicy, tmp_path: Path) -> None:
    """As a device would replay a service's decision: another interpreter, another hash seed, other catalogue order."""
    record = made(rules, [0.5, 0.4, 0.45, 0.2, 0.1, 0.35, 0.3], "seed")
    (tmp_path / "record.json").write_text(record.model_dump_json())
    (tmp_path / "policy.json").write_text(rules.model_dump_json())
    (tmp_path / "catalogue.json").write_text(json.dumps([c.model_dump() for c in reversed(CATALOGUE)]))
    code = (
        "import json, sys, pathlib as p; from policies.placement.record import *; from common.wire.messages import *\n"
        "d = p.Path(sys.argv[1]); r = DecisionRecord.model_validate_json((d / 'record.json').read_text())\n"
        "g = PlacementPolicy.model_validate_json((d / 'policy.json').read_text())\n"
        "c = [Creative.model_validate(x) for x in json.loads((d / 'catalogue.json').read_text())]\n"
        "replay(r, g, c, policy_digest=r.policy_digest, catalogue_version=1); print('same')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "same\n"


@pytest.mark.parametrize("rules", EVERY, ids=lambda p: p.strategy.kind)
def test_a_changed_record_does_not_replay(rules: PlacementPolicy) -> None:
    record = made(rules, [0.5, 0.4, 0.45, 0.2, 0.1, 0.35, 0.3], "seed")
    first = record.placements[0]
    others = sorted(set(record.predicted) - {p.creative_id for p in record.placements})
    from dataclasses import replace

    changes = [
        {"placements": (replace(first, creative_id=others[0]), *record.placements[1:])},
        {"placements": (replace(first, propensity=first.propensity / 2), *record.placements[1:])},
        {"placements": record.placements[1:]},
        {"predicted": {name: y for name, y in record.predicted.items() if name != others[0]}},
        {"policy_digest": "1" * 64},
        {"catalogue_version": 2},
    ]
    for change in changes:
        with pytest.raises(DigestMismatch):
            again(record.model_copy(update=change), rules)
