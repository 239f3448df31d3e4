"""The log over HTTP: checkpoints and proofs for everybody, entries and exports for people in office."""

from __future__ import annotations

import base64
import csv
import io
import json
from pathlib import Path

import pytest

from common.taxonomy import LogKind, Role
from common.transparency import tree
from common.transparency.checkpoint import open_checkpoint
from server.api.services import announce, build_services, initialise
from server.settings import Settings
from server.storage import open_database
from tests.service.log_parts import kinds
from tests.service.world import World

ROOT = Path(__file__).resolve().parents[2]


def test_checkpoint_and_proofs_are_for_everybody(furnished: World) -> None:
    note = furnished.http.get("/v1/log/checkpoint")
    assert note.headers["content-type"].startswith("text/plain")
    checkpoint = open_checkpoint(note.text, furnished.services.keys).checkpoint
    again = furnished.http.get("/v1/log/checkpoint", headers={"if-none-match": note.headers["etag"]})
    assert again.status_code == 304
    query = {"seq": 3, "size": checkpoint.size}
    found = furnished.http.get("/v1/log/proof/inclusion", params=query).json()
    path = [base64.b64decode(step) for step in found["path"]]
    tree.verify_inclusion(base64.b64decode(found["leaf_hash"]), 3, checkpoint.size, path, checkpoint.root)
    told = furnished.http.get("/v1/log/proof/consistency", params={"old": 5, "new": checkpoint.size}).json()
    path = [base64.b64decode(step) for step in told["path"]]
    old = base64.b64decode(told["old_root"])
    tree.verify_consistency(5, checkpoint.size, path, old_root=old, new_root=checkpoint.root)
    for wrong in ({"seq": 10_000}, {"seq": -1}, {"seq": 2**70}, {"seq": "x"}, {}):
        assert furnished.http.get("/v1/log/proof/inclusion", params=wrong).status_code == 422
    assert furnished.http.get("/v1/log/proof/consistency", params={"old": 9, "new": 3}).status_code == 422


def test_events_page_by_page_and_each_read_is_an_entry(furnished: World) -> None:
    headers = furnished.key(Role.AUDITOR)
    seen, where = list[int](), "/v1/audit/events?limit=5"
    until = furnished.services.log.size()
    while where and (not seen or seen[-1] < until):
        answer = furnished.http.get(where, headers=headers)
        assert answer.status_code == 200, answer.text
        seen += [event["seq"] for event in answer.json()["events"]]
        where = answer.links.get("next", {}).get("url", "")
    assert seen == list(range(len(seen)))
    assert kinds(furnished)[-1] is LogKind.PRIVILEGED_READ
    chosen = furnished.http.get("/v1/audit/events", params={"kind": "catalogue"}, headers=headers).json()["events"]
    assert {event["kind"] for event in chosen} == {"catalogue"}
    for role in (Role.ADMIN, Role.APP_BACKEND, Role.ADVERTISER):
        assert furnished.http.get("/v1/audit/events", headers=furnished.key(role)).status_code == 403


@pytest.mark.parametrize("form", ["jsonl", "csv", "pdf", "bundle"])
def test_exports(furnished: World, form: str, tmp_path: Path) -> None:
    device = furnished.consenting()
    with furnished.services.database.write() as session:
        furnished.services.log.append(session, LogKind.CONTROL, {"a": 1}, actor="=HYPERLINK(1)")
    headers = furnished.key(Role.PRIVACY_OFFICER)
    answer = furnished.http.get("/v1/audit/export", params={"format": form, "locale": "zh-CN"}, headers=headers)
    assert answer.status_code == 200
    assert f".{'zip' if form == 'bundle' else form}" in answer.headers["content-disposition"]
    size = furnished.services.log.size()
    if form == "jsonl":
        first, *rest = [json.loads(line) for line in answer.text.splitlines()]
        assert open_checkpoint(first["checkpoint"], furnished.services.keys).checkpoint.size == len(rest) == size
        assert device.handle in answer.text
    elif form == "csv":
        rows = list(csv.DictReader(io.StringIO(answer.text)))
        assert len(rows) == size
        assert [row["actor"] for row in rows if "HYPERLINK" in row["actor"]] == ["'=HYPERLINK(1)"]
    elif form == "pdf":
        from pypdf import PdfReader

        found = "".join(page.extract_text() for page in PdfReader(io.BytesIO(answer.content)).pages)
        assert "透明日志" in found
        assert "policy" in found
    else:
        from cli.evidence.verify import verify_bundle

        (tmp_path / "b.zip").write_bytes(answer.content)
        report = verify_bundle(tmp_path / "b.zip", furnished.services.signer.public)
        assert (report.findings, report.complete, report.entries) == ([], True, size)


def test_an_installation_that_was_only_migrated_announces_itself_when_it_starts(settings: Settings) -> None:
    from dataclasses import replace

    from server import migrations

    database = open_database(f"sqlite:///{settings.state_dir}/other.db")
    migrations.migrate(database)
    database.close()
    moved = replace(settings, database_url=f"sqlite:///{settings.state_dir}/other.db")
    services = build_services(moved)
    assert services.log.size() == 0
    announce(services)
    assert services.log.entry(0).leaf.kind is LogKind.KEY
    services.database.close()
    initialise(moved).database.close()


def test_a_bundle_of_each_kind_of_database_verifies(any_world: World, tmp_path: Path) -> None:
    from cli.evidence.verify import verify_bundle
    from server.evidence.bundle import bundle_stream

    any_world.consenting()
    (tmp_path / "b.zip").write_bytes(b"".join(bundle_stream(any_world.services)))
    report = verify_bundle(tmp_path / "b.zip", any_world.services.signer.public)
    assert (report.findings, report.gaps, report.entries) == ([], [], any_world.services.log.size())
    assert report.counts["receipts"] > 3
