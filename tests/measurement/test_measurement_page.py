"""docs/measurement.md: its Python runs as written, its commands are commands, its addresses are ours."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter
from starlette.routing import Match

from common.taxonomy import PrivacyUnit, Purpose
from policies.invariants import epsilon_of_everything
from policies.loader import load
from server.measurement.routes import router
from server.rounds.training_config import TrainingConfig

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "measurement.md").read_text("utf-8")
COMMANDS = [line.strip() for line in re.findall(r"^    (\S.*)$", PAGE, re.MULTILINE)]


def known(routes: APIRouter, url: str) -> bool:
    scope = {"type": "http", "method": "GET", "path": urlsplit(url).path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in routes.routes)


def test_its_python_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "docs/measurement.md", "exec"), {})  # noqa: S102 - our own page


def test_its_commands_are_commands() -> None:
    assert len(COMMANDS) == 7
    counts = load(None, prove=False).policies.privacy_budget.releases.placement_counts
    assert counts is not None
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    for command in COMMANDS:
        match shlex.split(command):
            case ["flwr", "run", ".", "--run-config", given]:
                values = tomllib.loads("\n".join(shlex.split(given, posix=False)))
                assert set(values) <= set(declared)
                assert TrainingConfig.from_run_config(values).measure_day == "2026-11-21"
            case ["curl", "-H", "authorization: Bearer $KEY", url]:
                assert known(router, url.removeprefix("$URL")), url
            case ["reticent", "device", "group", name]:
                assert name in counts.groups
            case ["python", "-m", module]:
                assert find_spec(module) is not None
            case _:
                raise AssertionError(command)


def test_its_figures_are_those_of_the_documents_and_of_the_last_run() -> None:
    policy = load(None, prove=False).policies.privacy_budget
    cost = epsilon_of_everything(policy, PrivacyUnit.USER, Purpose.MEASURE_AGGREGATE)
    assert f"ε = {cost:.2f}" in PAGE
    daily, weekly = json.loads((ROOT / "bench" / "results" / "measurement.json").read_text())
    assert f"± {daily['noise_clicks']:.0f}" in PAGE
    assert f"noise carried {daily['rows_of_too_few_shown']} over" in PAGE
    for found, name in ((daily, "c0"), (daily, "c1"), (weekly, "c0"), (weekly, "c1")):
        row = found["campaigns"][name]
        assert f"{row['coverage']['clicks']:.1%}, {row['coverage']['click_rate']:.1%}".replace("%", " %") in PAGE
    pacing = json.loads((ROOT / "bench" / "results" / "pacing.json").read_text())
    assert max(row["overspend_max"] for row in pacing["controller"].values()) == 0
    worst = max(row["overspend_max"] for row in pacing["no margin"].values())
    assert f"the worst by {worst:.0%}".replace("%", " %") in PAGE
