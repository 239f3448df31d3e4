"""The transparency log in a running installation: every entry with what it records, proofs over HTTP, keys, erasure."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlalchemy import text

from common.crypto.signing import key_ring
from common.errors import ContractError, InvalidProof, MalformedInput
from common.taxonomy import LogKind
from common.transparency import tree
from common.transparency.checkpoint import open_checkpoint
from common.transparency.judge import Evidence, judge
from common.wire.log import check_log_proof, proves_document
from server.api.services import announce, build_services
from tests.service.log_parts import grow, history, kinds
from tests.service.world import World, catalogue

ROOT = Path(__file__).resolve().parents[2]


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
