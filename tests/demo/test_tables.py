"""Your own table, from the command line: train, predict, and every way it can be wrong."""

from __future__ import annotations

import csv
import random
import re
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app

RUN = CliRunner()
TRUTH = 0.9


@pytest.fixture(scope="module")
def seed_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw = random.Random(3)
    path = tmp_path_factory.mktemp("seed") / "seed.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["v1", "v2", "v3", "y"])
        for _ in range(1500):
            v = [draw.randint(0, 9) for _ in range(3)]
            rows.writerow([*v, int(draw.random() < (TRUTH if v[1] > 4 else 1 - TRUTH))])
    return path


@pytest.fixture(scope="module")
def model(seed_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    result = RUN.invoke(app, ["train-csv", str(seed_table), "-d", "seed_v1v2v3", "-o", str(folder), "--rounds", "20"])
    assert result.exit_code == 0, result.output
    assert "ε =" in result.output
    assert "unit: one record" in result.output
    return folder


def test_predictions_follow_the_truth(seed_table: Path, model: Path) -> None:
    result = RUN.invoke(app, ["predict-csv", str(seed_table), "-m", str(model)])
    assert result.exit_code == 0, result.output
    found = [float(row["probability"]) for row in csv.DictReader(result.stdout.splitlines())]
    with seed_table.open() as file:
        high = [int(row["v2"]) > 4 for row in csv.DictReader(file)]
    assert len(found) == len(high) == 1500
    mean = {
        side: sum(p for p, h in zip(found, high, strict=True) if h is side) / high.count(side) for side in (True, False)
    }
    assert mean[True] > mean[False] + 0.1  # 0.25 to 0.45 in trials; the noise is real, so the bound is wide


def test_prediction_needs_no_label(tmp_path: Path, model: Path) -> None:
    table = tmp_path / "new.csv"
    table.write_text("v3,v2,v1\n1,9,1\n1,0,1\n")
    target = tmp_path / "out.csv"
    assert RUN.invoke(app, ["predict-csv", str(table), "-m", str(model), "-o", str(target)]).exit_code == 0
    first, second = (float(row["probability"]) for row in csv.DictReader(target.read_text().splitlines()))
    assert first > second


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("v1,v2,v3,y\n1,2,3,1\n1,2", "TruncatedFile"),
        ("v1,v2,y\n1,2,1\n", "UnknownColumn"),
        ("v1,v2,v3,y\n1,2,3,2\n", "InvalidLabel"),
        ("v1,v2,v3,y\n", "EmptyDevice"),
        ("v1,v2,v3,y\n" + "1,2,3,1\n" * 60, "OneClassData"),
    ],
)
def test_a_bad_table_is_named_and_nothing_is_lost(tmp_path: Path, model: Path, text: str, name: str) -> None:
    table = tmp_path / "bad.csv"
    table.write_text(text)
    before = sorted(path.name for path in model.iterdir())
    result = RUN.invoke(app, ["train-csv", str(table), "-d", "seed_v1v2v3", "-o", str(model)])
    assert result.exit_code == 1
    assert name in result.output
    assert "Traceback" not in result.output
    assert sorted(path.name for path in model.iterdir()) == before


def test_a_tampered_model_is_refused(tmp_path: Path, seed_table: Path, model: Path) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    arrays = broken / "model.safetensors"
    data = bytearray(arrays.read_bytes())
    data[-1] ^= 1
    arrays.write_bytes(data)
    result = RUN.invoke(app, ["predict-csv", str(seed_table), "-m", str(broken)])
    assert result.exit_code == 1
    assert "TamperedModel" in result.output


def test_a_folder_that_is_no_model_says_what_to_do(tmp_path: Path, seed_table: Path) -> None:
    result = RUN.invoke(app, ["predict-csv", str(seed_table), "-m", str(tmp_path)])
    assert result.exit_code == 1
    assert "train-csv" in result.output


def test_a_click_log_is_described_and_trained_with_history(tmp_path: Path) -> None:
    draw = random.Random(5)
    likes = {(u, b): draw.random() < 0.4 for u in range(30) for b in range(3)}
    lines = ["uid,ad,brand,ts,page,clicked"]
    for i in range(2400):
        u, b = draw.randrange(30), draw.randrange(3)
        click = int(draw.random() < (0.6 if likes[u, b] else 0.05))
        lines.append(f"u{u},{b * 10 + draw.randrange(3)},b{b},{1_700_000_000 + i * 600},home,{click}")
    table, description = tmp_path / "clicks.csv", tmp_path / "clicks.yaml"
    table.write_text("\n".join(lines) + "\n")
    drafted = RUN.invoke(app, ["describe-csv", str(table)])
    assert drafted.exit_code == 0, drafted.output
    description.write_text(drafted.stdout)
    trained = RUN.invoke(
        app,
        ["train-csv", str(table), "-d", str(description), "-o", str(tmp_path / "m"), "--profile", "non_private"],
    )
    assert trained.exit_code == 0, trained.output
    auc = {
        view: float(figure) for view, figure in re.findall(r"later +(personal|contextual) +([0-9.]+)", trained.output)
    }
    assert auc["personal"] > 0.75
    assert auc["personal"] > auc["contextual"] + 0.1
