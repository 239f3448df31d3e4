"""Dockerfile and docker-compose.yml are sound, as far as can be told without an engine."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
EDGES = ("edge-1", "edge-2", "edge-3")
JOBS = {"migrate", "furnish", "train"}
PASSWORD = {"RETICENT_DATABASE_PASSWORD": "for-this-test-only"}


def run(tool: str, *arguments: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    found = shutil.which(tool, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{tool} has no wheel for this platform")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RETICENT_")}
    return subprocess.run([found, *arguments], env=clean | env, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    shown = run("docker-compose", "--profile", "*", "-f", COMPOSE, "config", "--format", "json", **PASSWORD)
    assert shown.returncode == 0, shown.stderr
    return dict(json.loads(shown.stdout))


@pytest.fixture(scope="module")
def services(whole: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return dict(whole["services"])


def test_the_dockerfile_passes_its_linter() -> None:
    result = run("hadolint", ROOT / "Dockerfile")
    assert result.returncode == 0, result.stdout


def test_a_bad_dockerfile_does_not(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && pip install torch\n", encoding="utf-8")
    assert run("hadolint", bad).returncode == 1


def test_the_dockerfile_runs_as_a_number_and_needs_no_new_builder() -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    instructions = [line.split() for line in text.splitlines() if line[:1].isalpha()]
    assert {words[1] for words in instructions if words[0] == "FROM"} == {"python:3.11-slim"}
    assert [words[1] for words in instructions if words[0] == "USER"] == ["10001:10001"]
    assert not [token for token in ("--mount", "<<", "# syntax") if token in text]


def test_the_compose_file_fits_the_specification() -> None:
    result = run("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert result.returncode == 0, result.stdout


def test_the_compose_file_passes_its_linter() -> None:
    result = run("compose-lint", "check", COMPOSE)
    assert result.returncode == 0, result.stdout


def test_a_careless_compose_file_does_not(tmp_path: Path) -> None:
    careless = tmp_path / "docker-compose.yml"
    careless.write_text("services: {x: {image: 'y:1', privileged: true}}\n", encoding="utf-8")
    assert run("compose-lint", "check", careless).returncode == 1


def test_no_password_has_a_default() -> None:
    result = run("docker-compose", "-f", COMPOSE, "config", "-q")
    assert result.returncode != 0
    assert "RETICENT_DATABASE_PASSWORD" in result.stderr


def test_one_service_builds_the_image_and_the_others_use_it(services: dict[str, dict[str, Any]]) -> None:
    ours = {name: service for name, service in services.items() if name != "database"}
    assert len([service for service in ours.values() if "build" in service]) == 1
    assert len({service["image"] for service in ours.values()}) == 1


def test_every_container_is_confined(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not service.get("privileged"), name


def test_only_the_service_is_published_and_only_on_loopback(services: dict[str, dict[str, Any]]) -> None:
    published = {name: service["ports"] for name, service in services.items() if service.get("ports")}
    assert set(published) == {"api"}
    assert {port["host_ip"] for port in published["api"]} == {"127.0.0.1"}


def test_each_edge_has_a_volume_of_its_own(services: dict[str, dict[str, Any]]) -> None:
    volumes = {name: {mount["source"] for mount in services[name]["volumes"]} for name in EDGES}
    assert all(len(sources) == 1 for sources in volumes.values())
    assert len(set.union(*volumes.values())) == len(EDGES)
    others = {
        mount["source"]
        for name, service in services.items()
        if name not in EDGES
        for mount in service.get("volumes", ())
    }
    assert not others & set.union(*volumes.values()), "a device's volume is mounted elsewhere too"


def test_an_edge_knows_no_secret_of_the_server(services: dict[str, dict[str, Any]]) -> None:
    for name in EDGES:
        assert "for-this-test-only" not in json.dumps(services[name]), name
    assert "for-this-test-only" in json.dumps(services["migrate"]), "the control: whoever needs it has it"


def test_an_edge_has_no_way_out_but_the_fleet(whole: dict[str, Any]) -> None:
    assert whole["networks"]["fleet"]["internal"] is True
    assert {tuple(whole["services"][name]["networks"]) for name in EDGES} == {("fleet",)}


def test_what_runs_on_is_watched(services: dict[str, dict[str, Any]]) -> None:
    lasting = {name for name in services if name not in JOBS}
    assert {name for name in lasting if "test" in services[name].get("healthcheck", {})} == lasting
