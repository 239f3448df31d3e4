"""The transparency log in a running installation: every entry with what it records, proofs over HTTP, keys, erasure."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from common.crypto import keyfile
from common.crypto.signing import SigningKey, key_ring
from common.errors import ContractError, InputError, InvalidCheckpoint, InvalidProof, MalformedInput
from common.taxonomy import LogKind, Role
from common.transparency import tree
from common.transparency.checkpoint import open_checkpoint
from common.transparency.history import History
from common.transparency.judge import Evidence, judge
from common.wire.documents import open_document
from common.wire.keys import follow
from common.wire.log import check_log_proof, proves_document
from common.wire.messages import Catalogue
from server.api.services import announce, build_services, initialise
from server.settings import Settings
from server.storage import Database, open_database
from server.transparency.keys import publish_first, published, rotate
from server.transparency.push import push_to_file, push_to_url
from server.transparency.service import TransparencyLog
from tests.service.world import World, catalogue

ROOT = Path(__file__).resolve().parents[2]


def history(log: TransparencyLog) -> History:
    return History([b"".join(entry.leaf.encode() + b"\n" for entry in log.each())])


def kinds(world: World) -> list[LogKind]:
    return [entry.leaf.kind for entry in world.services.log.each()]


def grow(world: World, count: int, subject: str | None = None) -> list[int]:
    log = world.services.log
    with world.services.database.write() as session:
        return [log.append(session, LogKind.CONTROL, {"n": n}, actor="admin", subject=subject) for n in range(count)]


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_was_published_is_in_the_log_from_the_first_day(any_world: World) -> None:
    found = kinds(any_world)
    assert found[0] is LogKind.KEY
    assert found.count(LogKind.POLICY) == len(any_world.services.policies.digests)
    assert {LogKind.NOTICE, LogKind.CATALOGUE, LogKind.MODEL} <= set(found)
    before = any_world.services.log.size()
    announce(any_world.services)
    any_world.services.catalogues.publish(catalogue().creatives)  # the same again is no publication
    assert any_world.services.log.size() == before


def test_a_changed_policy_is_logged_when_the_service_starts(world: World, tmp_path: Path) -> None:
    from dataclasses import replace

    from policies.loader import DOCUMENTS

    shutil.copytree(DOCUMENTS, tmp_path / "own")
    document = tmp_path / "own" / "retention.yaml"
    document.write_text(document.read_text("utf-8") + "# a word more\n", "utf-8")
    changed = build_services(replace(world.services.settings, policies=tmp_path / "own"), clock=world.clock)
    announce(changed)
    (entry,) = [e for e in changed.log.each() if e.leaf.seq >= world.services.log.size() - 1]
    assert entry.opening is not None
    record = json.loads(entry.opening.record)
    assert (record["document"], record["text"][-14:]) == ("retention", "# a word more\n")
    changed.database.close()


def fail_after(_seq: int) -> None:
    raise RuntimeError


def test_an_entry_is_there_with_what_it_records_or_not_at_all(any_world: World) -> None:
    services = any_world.services
    before = services.log.size()
    with pytest.raises(RuntimeError), services.database.write() as session:
        fail_after(services.log.append(session, LogKind.CONTROL, {"a": 1}, actor="admin"))
    assert services.log.size() == before
    with pytest.raises(MalformedInput), services.database.write() as session:
        services.log.append(session, LogKind.CONTROL, {"a": float("nan")}, actor="admin")
    (seq,) = grow(any_world, 1)
    assert seq == before


def test_time_never_runs_back(any_world: World) -> None:
    log, services = any_world.services.log, any_world.services
    grow(any_world, 1)
    note = open_checkpoint(log.checkpoint(), services.keys).checkpoint
    any_world.clock.advance(-10_000)
    (seq,) = grow(any_world, 1)
    assert log.entry(seq).leaf.time >= note.time
    assert judge(history(log), Evidence(own=[open_checkpoint(log.checkpoint(), services.keys)])).findings == ()


def test_every_proof_of_every_size_verifies(any_world: World) -> None:
    log = any_world.services.log
    grow(any_world, 40)
    size = log.size()
    roots = {at: log.root(at) for at in range(size + 1)}
    frontier = tree.Frontier()
    for entry in log.each():
        assert entry.leaf_hash == tree.leaf_hash(entry.leaf.encode())
        assert frontier.root() == roots[frontier.size]
        frontier.append(entry.leaf_hash)
    for at in range(1, size + 1):
        for seq in {0, at // 2, at - 1}:
            found = log.inclusion(seq, at)
            tree.verify_inclusion(found.leaf_hash, seq, at, found.path, roots[at])
        told = log.consistency(at)
        tree.verify_consistency(at, size, told.path, old_root=roots[at], new_root=roots[size])
    for wrong in (size + 1, -1):
        with pytest.raises(ContractError):
            log.root(wrong)


def test_checkpoints_are_signed_when_there_is_something_new(any_world: World) -> None:
    log = any_world.services.log
    first = log.checkpoint()
    assert log.checkpoint() == first
    (seq,) = grow(any_world, 1)
    assert log.checkpoint(covering=seq - 1) == first
    second = log.checkpoint()
    assert second != first == log.checkpoints()[0].note
    grow(any_world, 3)
    between = log.checkpoint_at(seq + 2)
    assert between == log.checkpoint_at(seq + 2)
    assert open_checkpoint(between.note, any_world.services.keys).checkpoint.root == log.root(seq + 2)
    own = [open_checkpoint(stored.note, any_world.services.keys) for stored in log.checkpoints()]
    assert judge(history(log), Evidence(own=own)).findings == ()


def test_writers_at_once_make_one_log(any_world: World) -> None:
    """Eight threads append and sign; numbers have no gap, and every checkpoint fits."""
    services, failed = any_world.services, []

    def write(name: int) -> None:
        try:
            for number in range(10):
                with services.database.write() as session:
                    services.log.append(session, LogKind.CONTROL, {"by": name, "n": number}, actor="admin")
                services.log.checkpoint()
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failed.append(error)

    before = services.log.size()
    threads = [threading.Thread(target=write, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = history(services.log)
    assert len(found) == before + 80
    own = [open_checkpoint(stored.note, services.keys) for stored in services.log.checkpoints()]
    assert judge(found, Evidence(own=own)).findings == ()


_APPEND = """
import sys
from dataclasses import replace
from pathlib import Path
from common.crypto import keyfile
from common.taxonomy import LogKind
from server.storage import open_database
from server.transparency.service import TransparencyLog

database = open_database(sys.argv[1])
log = TransparencyLog(database, keyfile.load(Path(sys.argv[2])))
for number in range(15):
    with database.write() as session:
        log.append(session, LogKind.CONTROL, {"n": number}, actor="admin")
database.close()
"""


def test_processes_at_once_make_one_log(any_world: World) -> None:
    settings, before = any_world.services.settings, any_world.services.log.size()
    command = [sys.executable, "-c", _APPEND, settings.database_url, str(settings.signing_key)]
    writers = [subprocess.Popen(command, cwd=ROOT) for _ in range(2)]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    found = history(any_world.services.log)
    assert (len(found), found.tree.root(len(found))) == (before + 30, any_world.services.log.root())


# ── erasure ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_erasure_leaves_every_proof_and_nothing_personal(any_world: World) -> None:
    services, subject = any_world.services, "q3Yx0mVbS1uJ7eHcKf2nPw"
    seqs = grow(any_world, 5, subject)
    other = grow(any_world, 1, "another")[0]
    note, before = services.log.checkpoint(), [services.log.entry(seq) for seq in seqs]
    with services.database.write() as session:
        assert services.log.erase(session, subject) == 5
        assert services.log.erase(session, subject) == 0
        assert services.log.about(session, subject) == []
    root = open_checkpoint(note, services.keys).checkpoint.root
    for seq, was in zip(seqs, before, strict=True):
        now = services.log.entry(seq)
        assert (now.leaf, now.opening) == (was.leaf, None)
        found = services.log.inclusion(seq)
        tree.verify_inclusion(now.leaf_hash, seq, found.size, found.path, root)
        assert check_log_proof(services.log.proof(seq), services.keys).root == root
        assert subject not in now.leaf.encode().decode()
    assert services.log.entry(other).opening is not None
    with services.database.read() as session:
        rows = session.connection().execute(text("SELECT * FROM log_record")).all()
    assert all(subject not in str(row) for row in rows)
    assert all(was.opening is not None and was.opening.salt not in [row.salt for row in rows] for was in before)


# ── proofs that go with documents ────────────────────────────────────────────────────────────────────────────────────


def test_a_receipt_comes_with_a_proof_that_its_holder_can_check(any_world: World) -> None:
    device = any_world.consenting()
    event = any_world.services.consent.history(device.handle)[0]
    assert event.log_seq is not None
    proof, keys = any_world.services.log.proof(event.log_seq), key_ring(any_world.services.signer.public)
    assert check_log_proof(proof, keys).size == proof.size
    assert proves_document(proof, event.receipt)
    assert not proves_document(proof, event.receipt + "x")
    record = proof.record or ""
    for changes in (
        {"index": proof.index - 1},
        {"leaf": proof.leaf.replace("consent", "control")},
        {"path": proof.path[:-1]},
        {"record": record[:-1] + ',"more":1}'},
        {"salt": base64.b64encode(bytes(32)).decode()},
        {"size": proof.size + 1},
    ):
        with pytest.raises(InvalidProof):
            check_log_proof(proof.model_copy(update=changes), keys)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_rotation_keeps_old_documents_and_pins_follow(any_world: World) -> None:
    services = any_world.services
    old, path = services.signer.public, services.settings.signing_key
    receipt = any_world.services.consent.history(any_world.consenting().handle)[0].receipt
    note, jws = services.log.checkpoint(), services.catalogues.current().jws
    stored = rotate(services.database, services.log, path)
    assert keyfile.load(path).kid == stored.key.kid != old.kid
    assert not path.with_name(path.name + ".next").exists()

    fresh = World(build_services(services.settings, clock=any_world.clock), any_world.clock)
    assert fresh.services.signer.kid == stored.key.kid
    assert open_checkpoint(note, fresh.services.keys).kid == old.kid
    assert open_checkpoint(fresh.services.log.checkpoint(), services.keys).kid == stored.key.kid  # a running worker's
    assert open_document(jws, Catalogue, fresh.services.keys)
    assert fresh.services.catalogues.opened() is not None
    fresh.services.registry.verified()
    assert fresh.services.consent.verify(receipt).genuine

    listed = fresh.http.get("/.well-known/jwks.json").json()["keys"]
    assert [(key["kid"], key["status"]) for key in listed] == [(stored.key.kid, "active"), (old.kid, "retired")]
    pins = follow(key_ring(old), [key["succession"] for key in listed if "succession" in key])
    assert set(pins) == {old.kid, stored.key.kid}
    assert kinds(fresh)[-1] is LogKind.KEY
    fresh.close()


@pytest.mark.parametrize("cut", ["before the database", "after the database"])
def test_a_rotation_that_was_cut_off_is_taken_up_again(
    any_world: World, cut: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    services, path = any_world.services, any_world.services.settings.signing_key
    waiting = path.with_name(path.name + ".next")
    if cut == "before the database":
        keyfile.save(SigningKey.generate(), waiting)
        left = keyfile.load(waiting).kid
        assert signer_of_a_start(services.settings) == services.signer.kid  # nothing was published yet
        assert rotate(services.database, services.log, path).key.kid == left
        return
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("cut")))
        with pytest.raises(OSError, match="cut"):
            rotate(services.database, services.log, path)
    assert waiting.exists()
    assert signer_of_a_start(services.settings) == published(services.database)[-1].key.kid
    assert not waiting.exists()


def signer_of_a_start(settings: Settings) -> str:
    services = build_services(settings)
    services.database.close()
    return services.signer.kid


def test_a_key_that_is_not_the_published_one_does_not_start(world: World) -> None:
    services = world.services
    with pytest.raises(MalformedInput, match="not the one"):
        publish_first(services.database, services.log, SigningKey.generate().public)
    services.settings.signing_key.unlink()
    keyfile.save(SigningKey.generate(), services.settings.signing_key)
    with pytest.raises(MalformedInput, match="not the one"):
        rotate(services.database, services.log, services.settings.signing_key)


# ── checkpoints for others ───────────────────────────────────────────────────────────────────────────────────────────


def test_pushed_checkpoints_grow_and_are_never_rewritten(world: World, tmp_path: Path) -> None:
    services, file = world.services, tmp_path / "witness.jsonl"
    assert push_to_file(services.log, services.keys, file) == services.log.size()
    assert push_to_file(services.log, services.keys, file) == 0
    held = file.read_bytes()
    grow(world, 3)
    assert push_to_file(services.log, services.keys, file) == 3
    assert file.read_bytes().startswith(held)
    hashes = b"".join(base64.b64decode(json.loads(line)["leaves"]) for line in file.read_text().splitlines())
    assert hashes == history(services.log).tree.leaves


def test_a_rewritten_log_is_not_pushed_over_what_was_kept(world: World, tmp_path: Path) -> None:
    services, file = world.services, tmp_path / "witness.jsonl"
    push_to_file(services.log, services.keys, file)
    held = file.read_bytes()
    rewrite_last(services.database)
    with pytest.raises(InvalidCheckpoint):
        push_to_file(services.log, services.keys, file)
    assert file.read_bytes() == held
    other = TransparencyLog(services.database, services.signer, origin="another-log")
    with pytest.raises(InvalidCheckpoint):
        push_to_file(other, services.keys, file)
    file.write_text("something else\n")
    with pytest.raises(MalformedInput):
        push_to_file(services.log, services.keys, file)


def rewrite_last(database: Database) -> None:
    """What an operator does who drops the newest entry and forgets that somebody else keeps checkpoints."""
    with database.write() as session:
        connection = session.connection()
        last = connection.execute(text("SELECT max(seq) FROM log_entry")).scalar_one()
        connection.execute(text("DELETE FROM log_record WHERE seq = :last"), {"last": last})
        connection.execute(text("DELETE FROM log_entry WHERE seq = :last"), {"last": last})
        connection.execute(text("DELETE FROM log_checkpoint WHERE size > :last"), {"last": last})


def test_a_checkpoint_is_posted_to_whoever_takes_it(world: World) -> None:
    taken: list[bytes] = []

    def take(request: httpx.Request) -> httpx.Response:
        taken.append(request.content)
        return httpx.Response(201)

    push_to_url(
        world.services.log, "https://witness.example/", client=httpx.Client(transport=httpx.MockTransport(take))
    )
    assert taken == [world.services.log.checkpoint().encode()]
    refusing = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(500)))
    with pytest.raises(InputError, match="500"):
        push_to_url(world.services.log, "https://witness.example/", client=refusing)


# ── over HTTP ────────────────────────────────────────────────────────────────────────────────────────────────────────


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
