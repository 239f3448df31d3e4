"""A reviewer can read every line through which anything leaves a device in ten minutes, and the tools agree."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from client.egress import OUTBOUND
from policies import loader

ROOT = Path(__file__).resolve().parents[2]
DOOR = ROOT / "client" / "egress.py"


@pytest.mark.parametrize(
    ("path", "lines_max"),
    [
        ("client/egress.py", 250),
        ("common/wire/messages.py", 250),
        ("common/wire/subject.py", 100),
        ("common/wire/pick.py", 100),
        ("policies/forms.py", 60),
        ("policies/documents/egress.yaml", 60),
    ],
)
def test_the_files_to_read_are_short(path: str, lines_max: int) -> None:
    assert len((ROOT / path).read_text().splitlines()) <= lines_max


def test_the_reviewers_path_names_every_file_that_holds_an_outbound_message_or_a_step_of_the_door() -> None:
    path = (ROOT / "docs" / "privacy-review.md").read_text()
    homes = {f"{kind.__module__.replace('.', '/')}.py" for kind in OUTBOUND}
    for file in homes | {"client/egress.py", "policies/forms.py", "policies/documents/egress.yaml"}:
        assert f"({'../'}{file})" in path, file


def test_every_outbound_message_is_declared_once_and_nothing_else_is() -> None:
    declared = [rule.message for rule in loader.load(prove=False).policies.egress.messages]
    kinds = [kind.model_fields["kind"].default for kind in OUTBOUND]
    assert sorted(declared) == sorted(kinds)


def imported(source: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return found


def test_the_door_can_name_nothing_of_the_device() -> None:
    ours = {name for name in imported(DOOR.read_text()) if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in ours} == {"common", "policies", "numpy", "flwr", "httpx"}


def test_the_steps_of_the_door_are_numbered_as_in_the_architecture() -> None:
    text = DOOR.read_text()
    places = [text.index(f"({step})", text.index("def _release")) for step in range(1, 8)]
    assert places == sorted(places)


def test_nothing_else_on_the_device_transmits() -> None:
    senders = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "client").rglob("*.py")
        if {name.split(".")[0] for name in imported(path.read_text())} & {"httpx", "flwr", "requests", "socket", "http"}
    }
    assert senders == {"client/egress.py", "client/app.py"}
