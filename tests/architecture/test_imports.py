"""The import contracts of pyproject.toml hold, and each of them bites when it is broken."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("common", "policies", "client", "server", "cli")
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=tree, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def copied_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = tmp_path_factory.mktemp("tree")
    shutil.copy(ROOT / "pyproject.toml", tree)
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tree


def test_every_contract_is_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("offender", "statement", "contract"),
    [
        ("client/offender.py", "import server", "layers"),
        ("server/offender.py", "from client import app", "layers"),
        ("common/offender.py", "import policies", "layers"),
        ("policies/offender.py", "import cli", "layers"),
        ("common/offender.py", "from flwr.app import Message", "flwr has"),
        ("client/offender.py", "def later():\n    import flwr", "flwr has"),
        ("server/offender.py", "import opacus.grad_sample", "opacus belongs"),
        ("client/offender.py", "from dp_accounting import pld", "dp_accounting belongs"),
        ("server/offender.py", "from cryptography.hazmat.primitives import hashes", "cryptography belongs"),
        ("server/offender.py", "import yaml", "YAML is read"),
        ("client/offender.py", "import socket", "only client.egress"),
        ("client/offender.py", "from urllib.request import urlopen", "only client.egress"),
        ("client/offender.py", "import httpx", "only client.egress"),
        ("common/offender.py", "import subprocess", "only client.egress"),
    ],
)
def test_a_forbidden_import_is_caught(copied_tree: Path, offender: str, statement: str, contract: str) -> None:
    module = copied_tree / offender
    module.write_text(statement + "\n", encoding="utf-8")
    try:
        result = lint_imports(copied_tree)
    finally:
        module.unlink()
    broken = [line for line in result.stdout.splitlines() if contract in line and " BROKEN" in line]
    assert result.returncode == 1, result.stdout + result.stderr
    assert broken, result.stdout


def test_the_door_itself_may_reach_the_network(copied_tree: Path) -> None:
    """The ban must not be so wide that client.egress, the one exception, is caught by it too."""
    door = copied_tree / "client" / "egress.py"
    before = door.read_text(encoding="utf-8") if door.exists() else None
    door.write_text("import httpx\nimport ssl\nfrom flwr.app import Message\n", encoding="utf-8")
    try:
        result = lint_imports(copied_tree)
    finally:
        door.unlink() if before is None else door.write_text(before, encoding="utf-8")
    assert not [line for line in result.stdout.splitlines() if " BROKEN" in line], result.stdout
