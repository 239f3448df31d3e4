"""The real thing: the command line and a uvicorn process that answers on a socket."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from common.crypto.signing import SigningKey
from server.cli import model_app, server_app
from server.settings import Settings
from server.storage import open_database
from tests.ports import held_ports
from tests.service.http import DeviceAuth
from tests.service.world import catalogue, register_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("RETICENT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("RETICENT_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def call(app: object, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)  # type: ignore[arg-type]
    assert result.exit_code == code, result.output
    return result.output


def test_init_makes_private_keys_once_and_can_be_repeated(environment: Path) -> None:
    first = call(server_app, "init")
    assert call(server_app, "init") == first
    for secret in ("signing-key.json", "api-key-pepper"):
        assert stat.S_IMODE((environment / secret).stat().st_mode) == 0o600
    jwk = json.loads(call(server_app, "public-key"))
    assert jwk["kid"] in first
    assert "at revision" in call(server_app, "migrate")


def test_what_is_missing_is_said_by_name(environment: Path) -> None:
    for arguments in (["create-key", "--role", "admin"], ["public-key"], ["serve"]):
        assert "reticent server init" in call(server_app, *arguments, code=1)
    call(server_app, "init")
    assert "StorageUnavailable" not in call(model_app, "list")
    assert "NotFound" in call(model_app, "show", code=1)
    assert "enrols" in call(server_app, "create-key", "--role", "device", code=2)


def test_models_are_listed_shown_and_verified(environment: Path) -> None:
    call(server_app, "init")
    from server.api.services import build_services

    services = build_services(Settings.from_env())
    register_model(services)
    assert "hashed_logistic" in call(model_app, "list")
    shown = call(model_app, "show")
    assert "auc          0.85" in shown
    assert "ε = 4.5 at δ = 1e-05; unit: one record" in shown
    assert "no privacy" in shown
    assert "verifies" in call(model_app, "verify", "1")
    with services.database.engine.begin() as connection:
        connection.exec_driver_sql("""UPDATE model_version SET metrics = replace(metrics, '0.85', '0.99')""")
    assert "TamperedModel" in call(model_app, "verify", code=1)
    services.database.close()


def test_a_catalogue_file_is_published(environment: Path, tmp_path: Path) -> None:
    call(server_app, "init")
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_text(catalogue(3).model_dump_json(), encoding="utf-8")
    bad.write_text('{"creatives": [{"creative_id": "canary"}]}', encoding="utf-8")
    assert "version 1: 3 creatives." in call(server_app, "publish-catalogue", str(good))
    assert "version 1: 3 creatives, unchanged." in call(server_app, "publish-catalogue", str(good))
    output = call(server_app, "publish-catalogue", str(bad), code=1)
    assert "MalformedInput" in output
    assert "canary" not in output


@contextmanager
def serving(environment: Path) -> Iterator[str]:
    command = [sys.executable, "-c", "from server.cli import server_app; server_app()", "serve", "--port"]
    with held_ports() as (port,), (environment / "serve.log").open("w") as log:
        command.append(str(port))
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(2400):
                try:
                    if httpx.get(url + "/readyz", trust_env=False).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert process.poll() is None, (environment / "serve.log").read_text()
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(120)


def test_one_person_through_a_real_server(environment: Path) -> None:
    call(server_app, "init")
    backend = call(server_app, "create-key", "--role", "app_backend", "--app", "shop").strip()
    admin = {"authorization": f"Bearer {call(server_app, 'create-key', '--role', 'admin').strip()}"}
    with serving(environment) as url, httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        from server.api.services import build_services

        services = build_services(Settings.from_env())
        register_model(services)
        services.database.close()
        creatives = json.loads(catalogue().model_dump_json())
        assert http.put("/v1/catalog", json=creatives, headers=admin).status_code == 200
        key = SigningKey.generate()
        enrolment = {
            "public_key": key.public.x,
            "app_id": "shop",
            "age_band": "adult",
            "jurisdiction": "CN",
        }
        person = http.post("/v1/subjects", json=enrolment, auth=DeviceAuth(key, key.public.x)).json()
        own = DeviceAuth(key, person["handle"])
        asked = {"handle": person["handle"], "slots": [{"slot_id": "top"}]}
        shop = {"authorization": f"Bearer {backend}"}

        def mode() -> tuple[str, str | None]:
            slot = http.post("/v1/decisions", json=asked, headers=shop).json()["slots"][0]
            return slot["mode"], slot["reason"]

        assert mode() == ("contextual", "consent-required")
        notice = http.get("/v1/notices/current", params={"locale": "zh-CN"}).json()
        grant = {
            "handle": person["handle"],
            "notice_digest": notice["digest"],
            "decisions": {"train.local": "given", "place.personalised": "given"},
            "locale": "zh-CN",
            "surface": "onboarding",
        }
        assert http.post("/v1/consents", json=grant, auth=own).status_code == 201
        assert mode() == ("on_device", None)
        gone = {"handle": person["handle"], "purposes": "all"}
        assert http.post("/v1/consents/withdraw", json=gone, auth=own).status_code == 200
        assert mode() == ("contextual", "consent-withdrawn")
    log = (environment / "serve.log").read_text()
    for secret in (person["handle"], backend):
        assert secret not in log


def test_settings_come_from_the_environment() -> None:
    plain = Settings.from_env({})
    assert plain.database_url.startswith("sqlite:////")
    full = Settings.from_env(
        {
            "RETICENT_STATE_DIR": "/srv/state",
            "RETICENT_DATABASE_URL": "postgresql://db/reticent",
            "RETICENT_SIGNING_KEY": "/run/secrets/key",
            "RETICENT_API_KEY_PEPPER": "/run/secrets/pepper",
            "RETICENT_FEATURE_SPEC": "/srv/spec.json",
            "RETICENT_POLICIES": "",
            "RETICENT_CONTROLLER": "Example Ltd.",
        }
    )
    assert (full.signing_key, full.pepper) == (Path("/run/secrets/key"), Path("/run/secrets/pepper"))
    assert (full.feature_spec, full.policies, full.controller) == (Path("/srv/spec.json"), None, "Example Ltd.")
    database = open_database(full.database_url)
    assert database.engine.dialect.driver == "psycopg"
    database.close()
