"""The app bundle that Flower hands to every device holds all of the shared code and nothing else of the repository."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = "from flwr.cli.app import app; app()"
SIZE_BYTES_MAX = 4 * 2**20  # Flower refuses 10 MiB; ours should never come near


def test_the_bundle_is_the_four_packages(tmp_path: Path) -> None:
    tree = tmp_path / "reticent"
    for package in ("server", "client", "common", "policies", "cli", "tests"):
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".gitignore", "docker-compose.yml"):
        shutil.copy(ROOT / name, tree)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, "build", "--app", tree], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr

    (bundle,) = tmp_path.glob("*.fab")
    assert bundle.stat().st_size < SIZE_BYTES_MAX
    held = {name for name in zipfile.ZipFile(bundle).namelist() if not name.startswith(".info/")}
    code = {path for package in ("server", "client", "common", "policies") for path in (tree / package).rglob("*.py")}
    wanted = {str(path.relative_to(tree)) for path in code | set((tree / "policies").rglob("*.yaml"))}
    assert held == wanted | {"pyproject.toml"}
