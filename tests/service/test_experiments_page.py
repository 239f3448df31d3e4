"""The commands of docs/experiments.md, run in their order by the people who are named there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from policies.loader import DOCUMENTS
from tests.evaluation.logs import made_log
from tests.service.test_changes import OTHER, in_force
from tests.service.test_policy_cli import Person
from tests.service.world import World

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "experiments.md").read_text(encoding="utf-8")


def test_the_pages_commands_work_in_their_order(
    furnished: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = (DOCUMENTS / "placement.yaml").read_text(encoding="utf-8")
    Path("own.yaml").write_text(own, encoding="utf-8")
    Path("narrower.yaml").write_text(OTHER, encoding="utf-8")
    Path("log.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in made_log(200)))
    people = {name: Person(furnished, name) for name in ("ada", "wei")}
    lines = re.findall(r"^(\w+)\$ reticent policy (.*)$", PAGE, re.MULTILINE)
    assert len(lines) == 10
    for name, command in lines:
        code, said = people[name].says(*shlex.split(command))
        assert code == 0, (command, said)
        if command.startswith("approve 2"):
            assert in_force(furnished) == OTHER
    assert in_force(furnished) == own
