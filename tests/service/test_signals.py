"""Signals over HTTP: decoded without being repeated, heeded by decisions and checks, and the strictest wins."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from common.errors import MalformedInput
from common.signals.rules import DisclosedVendors, GpcSubsection, SignalRules, VendorRule
from common.taxonomy import Purpose, Role
from server.api.services import build_services
from server.settings import Settings
from tests.service.test_decisions import assert_contextual
from tests.service.world import APP, Clock, Device, World

FILE: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "signals" / "vectors" / "own.json").read_text(encoding="utf-8")
)
TEXTS = {vector["name"]: str(vector["text"]) for vector in FILE["vectors"]}
GIVEN, CALIFORNIA = TEXTS["all purposes, vendor 7"], TEXTS["California, nothing opted out"]


@pytest.fixture(scope="module")
def configured(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A furnished installation that is vendor 7, at the time of the vectors; shared, each test brings its people."""
    clock = Clock(float(FILE["now"]))
    folder = tmp_path_factory.mktemp("configured") / "state"
    shutil.copytree(blank, folder)
    known = replace(Settings.at(folder), signals=SignalRules(vendor=7))
    world = World(build_services(known, clock=clock), clock)
    world.furnish()
    yield world
    world.close()


def decode(world: World, role: Role = Role.PRIVACY_OFFICER, **signals: object) -> httpx.Response:
    return world.http.post("/v1/signals/decode", json=signals, headers=world.key(role))


def test_every_vector_over_http(configured: World) -> None:
    headers = configured.key(Role.APP_BACKEND)
    for vector in FILE["vectors"]:
        answer = configured.http.post("/v1/signals/decode", json={vector["kind"]: vector["text"]}, headers=headers)
        assert answer.status_code == 200, answer.text
        found = answer.json()
        opposed = {reason for finding in found["findings"] for reason in finding["opposes"].values()}
        assert opposed == set(vector["opposed"].values()), vector["name"]
        for purpose, reason in vector["opposed"].items():
            assert found["purposes"][purpose] == {"opposed": True, "reason": reason}
        assert (found["tcf"] is None) is (vector["kind"] != "tcf" or "fault" in vector)
        if len(vector["text"]) > 6:
            assert vector["text"] not in answer.text


def test_decoded_details(configured: World) -> None:
    found = decode(configured, tcf=GIVEN, gpp=CALIFORNIA, us_privacy="1YNN").json()
    assert (found["tcf"]["purposes"], found["tcf"]["vendor_consent"]) == ([1, 3, 4, 7, 9, 10], True)
    assert found["tcf"]["vendor_disclosed"] is True
    (section,) = found["gpp"]
    assert (section["number"], section["name"], section["gpc"], section["fault"]) == (8, "usca", False, None)
    assert section["answers"]["SaleOptOut"] == [2]
    assert [finding["signal"] for finding in found["findings"]] == ["gpp", "us_privacy", "tcf"]
    assert not any(standing["opposed"] for standing in found["purposes"].values())
    assert decode(configured).json()["findings"] == []


def test_a_purpose_falls_with_what_it_needs(configured: World) -> None:
    found = decode(configured, tcf=TEXTS["purpose 3 not consented"]).json()["purposes"]
    assert found["train.local"] == found["place.personalised"] == {"opposed": True, "reason": "no-consent"}
    assert found["measure.aggregate"]["opposed"] is False


def test_the_callers_own_header_is_not_decoded(configured: World) -> None:
    headers = configured.key(Role.PRIVACY_OFFICER) | {"sec-gpc": "1"}
    answer = configured.http.post("/v1/signals/decode", json={"us_privacy": "1YNN"}, headers=headers)
    assert [finding["signal"] for finding in answer.json()["findings"]] == ["us_privacy"]


def test_what_is_not_a_signal_is_a_problem_without_its_text(configured: World) -> None:
    for body in ({"tcf": 5}, {"secret": "string"}, {"gpc": "perhaps"}):
        answer = configured.http.post("/v1/signals/decode", json=body, headers=configured.key(Role.APP_BACKEND))
        assert (answer.status_code, answer.json()["title"]) == (422, "InvalidRequest")
        assert "secret" not in answer.text
        assert "perhaps" not in answer.text
    assert decode(configured, Role.ADMIN).status_code == 403


def test_signals_that_oppose_nothing_leave_the_grant_alone(configured: World) -> None:
    device = configured.consenting()
    signals = {"tcf": GIVEN, "gpp": CALIFORNIA, "us_privacy": "1YNN"}
    answer = configured.decide(device.handle, device.headers, signals=signals)
    assert answer["mode"] == "on_device"
    assert answer["privacy_signal"]["honoured"] is False
    assert [finding["opposes"] for finding in answer["privacy_signal"]["signals"]] == [{}, {}, {}]


def test_signals_never_grant(configured: World) -> None:
    device = configured.enrol()
    assert_contextual(configured.decide(device.handle, device.headers, signals={"tcf": GIVEN}), "consent-required")


OPPOSING = {
    "tcf": ("purpose 4 not consented", "no-consent"),
    "gpp": ("California, GPC inside", "opt-out"),
    "us_privacy": ("opted out", "sale-opt-out"),
}


def test_each_signal_is_heeded_and_shown(configured: World) -> None:
    device = configured.consenting()
    mild = {"tcf": GIVEN, "gpp": CALIFORNIA, "us_privacy": "1YNN"}
    for kind, (name, reason) in OPPOSING.items():
        answer = configured.decide(device.handle, device.headers, signals=mild | {kind: TEXTS[name]})
        assert_contextual(answer, "signal-opt-out")
        shown = answer["privacy_signal"]
        assert (shown["gpc"], shown["honoured"]) == (False, True)
        assert [f["opposes"].get("place.personalised") for f in shown["signals"] if f["opposes"]] == [reason]


@pytest.mark.parametrize("signals", [{"tcf": ""}, {"gpp": "DBAA"}, {"us_privacy": "1YN"}, {"tcf": GIVEN[:40]}])
def test_what_cannot_be_decoded_means_no(configured: World, signals: dict[str, str]) -> None:
    device = configured.consenting()
    answer = configured.decide(device.handle, device.headers, signals=signals)
    assert_contextual(answer, "signal-opt-out")
    assert answer["privacy_signal"]["honoured"] is True


def test_signals_without_form_are_malformed(configured: World) -> None:
    device = configured.consenting()
    for signals in ({"tcf": 1}, {"tcff": GIVEN}, [GIVEN], "1YNN", {"gpc": "maybe"}):
        answer = configured.decide(device.handle, device.headers, signals=signals)
        assert_contextual(answer, "malformed")
        assert answer["privacy_signal"]["gpc"] is True


def test_without_a_vendor_id_every_tc_string_opposes(furnished: World) -> None:
    device = furnished.consenting()
    answer = furnished.decide(device.handle, device.headers, signals={"tcf": GIVEN})
    assert_contextual(answer, "signal-opt-out")


def check(world: World, device: Device, header: str = "0", **signals: object) -> dict[str, Any]:
    body = {"handle": device.handle, "signals": signals}
    headers = world.key(Role.APP_BACKEND, APP) | {"sec-gpc": header}
    answer = world.http.post("/v1/consents/check", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.json()["purposes"])


def test_checks_heed_signals_by_purpose(configured: World) -> None:
    device = configured.consenting()
    assert all(verdict["permitted"] for verdict in check(configured, device, tcf=GIVEN).values())
    found = check(configured, device, tcf=TEXTS["purpose 10 not consented"])
    assert found.pop("train.contribute") == {"permitted": False, "reason": "signal-opt-out"}
    assert all(verdict["permitted"] for verdict in found.values())
    for refused in (check(configured, device, header="1"), check(configured, device, us_privacy="1YYN")):
        assert {verdict["reason"] for verdict in refused.values()} == {"signal-opt-out"}
        assert set(refused) == set(Purpose)


def test_repeated_gpc_headers(configured: World) -> None:
    device = configured.consenting()
    for values, mode in ((("0", "1"), "contextual"), (("0, 1",), "contextual"), (("0", "0"), "on_device")):
        headers = [("Sec-GPC", value) for value in values]
        body = {"handle": device.handle, "slots": [{"slot_id": "top"}]}
        answer = configured.http.post("/v1/decisions", json=body, headers=headers, auth=device.auth).json()
        assert answer["mode"] == mode
        if mode == "contextual":
            assert {finding["signal"] for finding in answer["privacy_signal"]["signals"]} == {"gpc"}


def test_gpc_support_is_published(world: World) -> None:
    answer = world.http.get("/.well-known/gpc.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"gpc": True, "lastUpdate": "2026-11-22"}
    again = world.http.get("/.well-known/gpc.json", headers={"if-none-match": answer.headers["etag"]})
    assert again.status_code == 304


def test_raw_strings_are_neither_stored_nor_logged(configured: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    device = configured.consenting()
    signals = {"tcf": GIVEN, "gpp": CALIFORNIA, "us_privacy": "1YNN"}
    answer = configured.decide(device.handle, device.headers, signals=signals)
    check(configured, device, **signals)
    decode(configured, **signals)
    with configured.services.database.read() as session:
        names = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'")).scalars().all()
        stored = str([session.execute(text(f'SELECT * FROM "{name}"')).all() for name in names])  # noqa: S608
    assert device.handle in stored
    for raw in (GIVEN, GIVEN.split(".")[0], CALIFORNIA, "1YNN"):
        assert raw not in stored + caplog.text + json.dumps(answer)


def test_settings_name_the_rules() -> None:
    assert Settings.from_env({}).signals == SignalRules()
    wanted = {
        "RETICENT_TCF_VENDOR_ID": "755",
        "RETICENT_TCF_DISCLOSED_VENDORS": "legacy",
        "RETICENT_GPP_GPC_SUBSECTION": "optional",
    }
    assert Settings.from_env(wanted).signals == SignalRules(755, DisclosedVendors.LEGACY, GpcSubsection.OPTIONAL)
    assert Settings.from_env({"RETICENT_TCF_VENDOR_ID": "unchecked"}).signals.vendor is VendorRule.UNCHECKED
    for value in ("0", "65536", "-1", "seven", "７", "1" * 5000):
        with pytest.raises(MalformedInput):
            Settings.from_env({"RETICENT_TCF_VENDOR_ID": value})
