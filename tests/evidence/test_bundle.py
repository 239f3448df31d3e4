"""The evidence bundle of a real installation: genuine as made, and every change to it found, named and placed."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.evidence.command import NOT_COMPLETE, NOT_GENUINE, verify
from cli.evidence.trust import read_key
from cli.evidence.verify import Report, verify_bundle
from common.crypto.signing import PublicKey, SigningKey
from common.errors import InputError, InvalidCheckpoint, MalformedInput, UnknownSigner
from common.privacy.parameters import MechanismUse
from common.taxonomy import LogKind, Mechanism, NeighbouringRelation, PrivacyUnit, ReleaseKind, Tampering, TrustModel
from common.transparency.checkpoint import verifier_key
from common.wire import evidence as names
from common.wire.evidence import EvidenceManifest, FileDigest, open_evidence, seal_manifest
from policies.budget import PlannedRelease
from server.api.services import build_services, initialise
from server.evidence.bundle import write_bundle
from server.settings import Settings
from server.transparency.keys import rotate
from server.transparency.push import push_to_file
from tests.service.world import Clock, World

USE = MechanismUse(
    mechanism=Mechanism.SKELLAM,
    noise_multiplier=2.72,
    unit=PrivacyUnit.USER,
    relation=NeighbouringRelation.ADD_REMOVE,
    trust=TrustModel.DISTRIBUTED,
    sampling_rate=1.0,
    count=1,
    levels=1000,
    dimension=10,
)


class Made:
    """One installation, its bundle, and what somebody else kept."""

    def __init__(self, folder: Path) -> None:
        clock = Clock()
        self.world = World(initialise(Settings.at(folder / "state"), clock=clock), clock)
        self.world.furnish()
        self.devices = [self.world.consenting() for _ in range(4)]
        self.witness = folder / "witness.jsonl"
        push_to_file(self.services.log, self.services.keys, self.witness)
        clock.advance(100)
        for number in range(3):
            self._charge(number)
        self.world.withdraw(self.devices[0])
        push_to_file(self.services.log, self.services.keys, self.witness)
        self.bundle = folder / "evidence.zip"
        with self.bundle.open("wb") as file:
            self.done = write_bundle(self.services, file)

    @property
    def services(self):  # type: ignore[no-untyped-def]
        return self.world.services

    @property
    def key(self) -> PublicKey:
        return self.services.signer.public  # type: ignore[no-any-return]

    def _charge(self, number: int) -> None:
        planned = [PlannedRelease(ReleaseKind.TRAINING_UPDATE, USE)]
        self.services.ledger.reserve(f"run-{number}", f"cause-{number}", planned, [b"i%031d" % number, b"j" * 32])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    found = Made(tmp_path_factory.mktemp("evidence"))
    yield found
    found.world.close()


def files(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path: Path, contents: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in contents.items():
            archive.writestr(name, data)
    return path


def resealed(contents: dict[str, bytes], key: SigningKey, origin: str = "reticent-log") -> dict[str, bytes]:
    """What whoever holds the signing key does: a list that fits the changed files."""
    listed = {
        name: FileDigest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
        for name, data in contents.items()
        if name != names.MANIFEST
    }
    manifest = EvidenceManifest(origin=origin, made_at=1, entries=1, files=listed)
    return contents | {names.MANIFEST: seal_manifest(manifest, key).encode()}


def lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def changed(made: Made, tmp_path: Path, name: str, change: Callable[[list[bytes]], list[bytes]]) -> Report:
    """The verdict after a change by somebody without the key, and the same after one by somebody with it."""
    contents = files(made.bundle)
    contents[name] = b"".join(change(lines(contents[name])))
    report = verify_bundle(packed(tmp_path / "changed.zip", contents), made.key)
    sealed = verify_bundle(packed(tmp_path / "sealed.zip", resealed(contents, made.services.signer)), made.key)
    assert [found.where for found in sealed.findings] == [found.where for found in report.findings]
    return report


def test_a_bundle_as_made_is_genuine_and_complete(made: Made) -> None:
    report = verify_bundle(made.bundle, made.key, [made.witness])
    assert (report.findings, report.gaps) == ([], [])
    assert report.entries == report.covered == made.services.log.size()
    assert report.counts["receipts"] == made.done.receipts > 16
    assert report.counts["charges"] == 3
    assert report.counts["proofs"] > 20
    assert report.kept == 2


def test_it_needs_the_key_and_nothing_else(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RETICENT_STATE_DIR", str(tmp_path / "nothing"))
    alone = tmp_path / "elsewhere.zip"
    alone.write_bytes(made.bundle.read_bytes())
    assert verify_bundle(alone, made.key).genuine
    assert list(tmp_path.iterdir()) == [alone]


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────

ROW = 11


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        (Tampering.EDIT, lambda rows: [*rows[:ROW], rows[ROW].replace(b'"actor":"', b'"actor":"x'), *rows[ROW + 1 :]]),
        (Tampering.DELETION, lambda rows: [*rows[:ROW], *rows[ROW + 1 :]]),
        (Tampering.REORDERING, lambda rows: [*rows[:ROW], rows[20], *rows[ROW + 1 : 20], rows[ROW], *rows[21:]]),
        (Tampering.TRUNCATION, lambda rows: rows[:ROW]),
        (Tampering.BACK_DATING, lambda rows: [*rows[:ROW], rows[ROW - 1], *rows[ROW:]]),
        (
            Tampering.BACK_DATING,
            lambda rows: [*rows[:ROW], rows[ROW].replace(b":18000000", b":17999999"), *rows[ROW + 1 :]],
        ),
    ],
)
def test_the_first_bad_row_of_the_log_is_named(
    made: Made, tmp_path: Path, kind: Tampering, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    report = changed(made, tmp_path, names.LEAVES, change)
    assert (report.findings[0].kind, report.findings[0].row, report.findings[0].last) == (kind, ROW, None)
    assert report.findings[0].where == names.LEAVES
    assert len(report.findings) == 1


@pytest.mark.parametrize(
    ("kind", "statements"),
    [
        (Tampering.EDIT, ["UPDATE log_entry SET actor = 'admin:somebody' WHERE seq = 11"]),
        (Tampering.BACK_DATING, ["UPDATE log_entry SET time = time - 1000 WHERE seq = 11"]),
        (Tampering.DELETION, ["DELETE FROM log_record WHERE seq = 11", "DELETE FROM log_entry WHERE seq = 11"]),
        (
            Tampering.REORDERING,
            [
                "UPDATE log_record SET seq = 1000 + seq WHERE seq IN (11, 14)",
                "UPDATE log_entry SET seq = CASE seq WHEN 11 THEN -14 ELSE -11 END WHERE seq IN (11, 14)",
                "UPDATE log_entry SET seq = -seq WHERE seq < 0",
                "UPDATE log_record SET seq = CASE seq WHEN 1011 THEN 14 ELSE 11 END WHERE seq > 1000",
            ],
        ),
    ],
)
def test_a_row_that_was_changed_in_the_database_is_named(
    tmp_path: Path, kind: Tampering, statements: list[str]
) -> None:
    """By somebody who can write to the database and has no key: the next bundle says so, and the service goes on."""
    made = Made(tmp_path)
    with made.services.database.engine.connect() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        raw.execute("PRAGMA foreign_keys=OFF")
        for statement in statements:
            raw.execute(statement)
        raw.execute("PRAGMA foreign_keys=ON")
    with made.bundle.open("wb") as file:
        write_bundle(made.services, file)
    report = verify_bundle(made.bundle, made.key)
    found = report.findings[0]
    assert (found.kind, found.where, found.row, found.last) == (kind, names.LEAVES, ROW, None)
    made.world.close()


def test_a_record_that_does_not_fit_is_named(made: Made, tmp_path: Path) -> None:
    def refused(rows: list[bytes]) -> list[bytes]:
        row = next(at for at, line in enumerate(rows) if b'"state":"given"' in line)
        return [*rows[:row], rows[row].replace(b'"state":"given"', b'"state":"refused"'), *rows[row + 1 :]]

    report = changed(made, tmp_path, names.RECORDS, refused)
    (finding,) = report.findings
    assert (finding.kind, finding.where) == (Tampering.EDIT, names.RECORDS)
    assert b'"state":"given"' in lines(files(made.bundle)[names.RECORDS])[finding.row]


def test_a_history_rewritten_with_the_key_shows_against_the_witness(tmp_path: Path) -> None:
    """The operator drops a withdrawal from the database, signs anew and makes a flawless bundle of it."""
    made = Made(tmp_path)
    database, log = made.services.database, made.services.log
    from sqlalchemy import text

    gone = next(e.leaf.seq for e in log.each((LogKind.CONSENT,)) if e.opening and b"withdrawn" in e.opening.record)
    kept = [entry for entry in log.each() if entry.leaf.seq >= gone]
    with database.write() as session:
        for statement in (
            "DELETE FROM log_record WHERE seq >= :low",
            "DELETE FROM log_entry WHERE seq >= :low",
            "DELETE FROM log_checkpoint WHERE size > :low",
        ):
            session.connection().execute(text(statement), {"low": gone})
        session.connection().execute(
            text("DELETE FROM consent_state WHERE seq IN (SELECT seq FROM consent_event WHERE log_seq >= :low)"),
            {"low": gone},
        )
        session.connection().execute(text("DELETE FROM consent_event WHERE log_seq >= :low"), {"low": gone})
        for entry in kept[1:]:
            if entry.opening is not None and entry.leaf.kind is not LogKind.CONSENT:
                log.append(session, entry.leaf.kind, json.loads(entry.opening.record), actor=entry.leaf.actor)
    forged = tmp_path / "forged.zip"
    with forged.open("wb") as file:
        write_bundle(made.services, file)
    assert verify_bundle(forged, made.key).genuine  # in itself it is flawless
    report = verify_bundle(forged, made.key, [made.witness])
    (finding,) = report.findings
    assert finding.kind in {Tampering.FORK, Tampering.TRUNCATION}
    assert finding.row == gone
    made.world.close()


# ── what the log speaks of ───────────────────────────────────────────────────────────────────────────────────────────


def test_a_receipt_that_was_changed_swapped_or_made_up(made: Made, tmp_path: Path) -> None:
    def bent(rows: list[bytes]) -> list[bytes]:
        record = json.loads(rows[5])
        record["jws"] = json.loads(rows[6])["jws"]
        return [*rows[:5], json.dumps(record).encode() + b"\n", *rows[6:]]

    (finding,) = changed(made, tmp_path, names.RECEIPTS, bent).findings
    assert (finding.kind, finding.where, finding.row) == (Tampering.EDIT, names.RECEIPTS, 5)

    def made_up(rows: list[bytes]) -> list[bytes]:
        return [*rows, json.dumps(json.loads(rows[0]) | {"seq": 2}).encode() + b"\n"]

    (finding,) = changed(made, tmp_path, names.RECEIPTS, made_up).findings
    assert (finding.kind, finding.row) == (Tampering.FORGERY, made.done.receipts)

    def unlogged(rows: list[bytes]) -> list[bytes]:
        head, _, signature = json.loads(rows[0])["jws"].split(".")
        body = base64.urlsafe_b64encode(b'{"receipt_id":"rcp_x"}').rstrip(b"=").decode()
        return [*rows, json.dumps({"receipt_id": "x", "seq": None, "jws": f"{head}.{body}.{signature}"}).encode()]

    (finding,) = changed(made, tmp_path, names.RECEIPTS, unlogged).findings
    assert finding.kind is Tampering.FORGERY


def test_a_receipt_that_is_missing_is_a_gap_and_no_forgery(made: Made, tmp_path: Path) -> None:
    contents = files(made.bundle)
    contents[names.RECEIPTS] = b"".join(lines(contents[names.RECEIPTS])[:-1])
    report = verify_bundle(packed(tmp_path / "less.zip", resealed(contents, made.services.signer)), made.key)
    assert report.genuine
    assert not report.complete
    assert [(gap.where, gap.count) for gap in report.gaps] == [(names.RECEIPTS, 1)]


@pytest.mark.parametrize(
    ("kind", "row", "change"),
    [
        (Tampering.EDIT, 1, lambda rows: [rows[0], rows[1].replace(b'"devices": 2', b'"devices": 1'), rows[2]]),
        (Tampering.DELETION, 1, lambda rows: [rows[0], rows[2]]),
        (Tampering.TRUNCATION, 2, lambda rows: rows[:2]),
        (Tampering.REORDERING, 1, lambda rows: [rows[0], rows[0], rows[1], rows[2]]),
        (Tampering.EDIT, 2, lambda rows: [*rows[:2], b"[]\n"]),
    ],
)
def test_charges_are_held_to_the_log(
    made: Made, tmp_path: Path, kind: Tampering, row: int, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    (finding,) = changed(made, tmp_path, names.CHARGES, change).findings
    assert (finding.kind, finding.where, finding.row) == (kind, names.CHARGES, row)


@pytest.mark.parametrize(
    "name", [f"{names.POLICIES}retention.yaml", f"{names.CATALOGUES}1.jws", f"{names.MODELS}1.jws"]
)
def test_published_documents_are_held_to_the_log(made: Made, tmp_path: Path, name: str) -> None:
    (finding,) = changed(made, tmp_path, name, lambda rows: [*rows, b"\n# more\n"]).findings
    assert (finding.kind, finding.where) == (Tampering.EDIT, name)


@pytest.mark.parametrize("name", [names.INCLUSION, names.CONSISTENCY])
def test_proofs_are_checked(made: Made, tmp_path: Path, name: str) -> None:
    def bent(rows: list[bytes]) -> list[bytes]:
        record = json.loads(rows[0])
        record["path"][0] = base64.b64encode(bytes(32)).decode()
        return [json.dumps(record).encode() + b"\n", *rows[1:]]

    (finding,) = changed(made, tmp_path, name, bent).findings
    assert (finding.where, finding.row) == (name, 0)


def test_a_notice_that_was_reworded(made: Made, tmp_path: Path) -> None:
    name = next(name for name in files(made.bundle) if name.startswith(names.NOTICES))
    (finding,) = changed(made, tmp_path, name, lambda rows: [rows[0].replace(b'"title":"', b'"title":"x')]).findings
    assert (finding.kind, finding.where) == (Tampering.EDIT, name)


def test_files_that_come_or_go_are_noticed(made: Made, tmp_path: Path) -> None:
    contents = files(made.bundle)
    extra = verify_bundle(packed(tmp_path / "more.zip", contents | {"audits/mine.json": b"{}"}), made.key)
    assert [(f.kind, f.where) for f in extra.findings] == [(Tampering.FORGERY, "audits/mine.json")]
    less = {name: data for name, data in contents.items() if name != names.README}
    report = verify_bundle(packed(tmp_path / "less.zip", less), made.key)
    assert (report.genuine, report.complete) == (True, False)
    words = verify_bundle(packed(tmp_path / "words.zip", contents | {names.README: b"trust me"}), made.key)
    assert [(f.kind, f.where) for f in words.findings] == [(Tampering.EDIT, names.README)]


def test_checkpoints_that_were_never_signed(made: Made, tmp_path: Path) -> None:
    def bent(rows: list[bytes]) -> list[bytes]:
        return [rows[0].replace(b"time 1", b"time 2"), *rows[1:]]

    report = changed(made, tmp_path, names.CHECKPOINTS, bent)
    assert (report.findings[0].kind, report.findings[0].where) == (Tampering.FORGERY, names.CHECKPOINTS)


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_key_trusts_nothing(made: Made, tmp_path: Path) -> None:
    stranger = SigningKey.generate()
    report = verify_bundle(made.bundle, stranger.public)
    assert {found.kind for found in report.findings} == {Tampering.FORGERY}
    contents = resealed(files(made.bundle), stranger)  # sealed by a stranger: not for whoever asks with the right key
    assert not verify_bundle(packed(tmp_path / "theirs.zip", contents), made.key).genuine
    assert not verify_bundle(packed(tmp_path / "theirs.zip", contents), stranger.public).genuine
    with pytest.raises(UnknownSigner):
        verify_bundle(made.bundle, stranger.public, [made.witness])


def test_after_a_rotation_the_old_key_and_the_new_one_verify_it(tmp_path: Path) -> None:
    made = Made(tmp_path)
    old = made.key
    rotate(made.services.database, made.services.log, made.services.settings.signing_key)
    fresh = build_services(made.services.settings, clock=made.world.clock)
    with made.bundle.open("wb") as file:
        write_bundle(fresh, file)
    for key in (old, fresh.signer.public):
        report = verify_bundle(made.bundle, key, [made.witness])
        assert (report.findings, report.gaps, report.keys) == ([], [], 2)
    contents = files(made.bundle)
    listed = json.loads(contents[names.KEYS])
    intruder = SigningKey.generate().public
    listed.append(listed[1] | {"number": 3, "kid": intruder.kid, "x": intruder.x})
    contents[names.KEYS] = json.dumps(listed).encode()
    report = verify_bundle(packed(tmp_path / "keys.zip", resealed(contents, fresh.signer)), fresh.signer.public)
    assert [(found.kind, found.where, found.row) for found in report.findings] == [(Tampering.FORGERY, names.KEYS, 2)]
    fresh.database.close()
    made.world.close()


def test_keys_as_people_have_them(made: Made, tmp_path: Path) -> None:
    x, jwk = made.key.x, {"kty": "OKP", "crv": "Ed25519", "kid": made.key.kid, "x": made.key.x}
    (tmp_path / "key.json").write_text(json.dumps(jwk))
    for text in (x, json.dumps(jwk), str(tmp_path / "key.json"), verifier_key("reticent-log", made.key)):
        assert read_key(text).kid == made.key.kid
    for text in ("", "A" * 42, "{}", "{", "a+b+c", json.dumps({"x": 5}), "x" * 9000):
        with pytest.raises(MalformedInput):
            read_key(text)


# ── erasure ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_after_an_erasure_everything_else_still_verifies(tmp_path: Path) -> None:
    made = Made(tmp_path)
    gone = made.devices[1].handle
    with made.services.database.write() as session:
        made.services.consent.forget(session, gone)
        erased = made.services.log.erase(session, gone)
    with made.bundle.open("wb") as file:
        write_bundle(made.services, file)
    report = verify_bundle(made.bundle, made.key, [made.witness])
    assert (report.findings, report.complete) == ([], True)
    assert [(gap.where, gap.count) for gap in report.gaps] == [(names.RECORDS, erased)]
    assert all(gone.encode() not in data for data in files(made.bundle).values())
    made.world.close()


def test_without_personal_data_no_handle_is_in_it(made: Made, tmp_path: Path) -> None:
    target = io.BytesIO()
    write_bundle(made.services, target, personal=False)
    (tmp_path / "public.zip").write_bytes(target.getvalue())
    report = verify_bundle(tmp_path / "public.zip", made.key, [made.witness])
    assert (report.findings, report.complete) == ([], True)
    contents = files(tmp_path / "public.zip")
    for device in made.devices:
        assert all(device.handle.encode() not in data for data in contents.values())


# ── hostile archives ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_bundle_is_refused(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no file"):
        verify_bundle(tmp_path / "none.zip", made.key)
    (tmp_path / "text.zip").write_text("hello")
    with pytest.raises(MalformedInput):
        verify_bundle(tmp_path / "text.zip", made.key)
    for name in ("../outside", "/etc/passwd", "a/b/c", "log\\leaves", ""):
        with pytest.raises(MalformedInput):
            verify_bundle(packed(tmp_path / "names.zip", {name or "./x": b""}), made.key)
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("keys.json", b"[]")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("keys.json", b"[]")
    with pytest.raises(MalformedInput):
        verify_bundle(tmp_path / "twice.zip", made.key)


def test_an_empty_archive_proves_nothing(made: Made, tmp_path: Path) -> None:
    report = verify_bundle(packed(tmp_path / "empty.zip", {}), made.key)
    assert not report.genuine


def test_no_truncated_archive_passes(made: Made, tmp_path: Path) -> None:
    data = made.bundle.read_bytes()
    for cut in range(0, len(data), len(data) // 37):
        (tmp_path / "cut.zip").write_bytes(data[:cut])
        with pytest.raises(MalformedInput):
            verify_bundle(tmp_path / "cut.zip", made.key)


def test_no_flipped_byte_passes(made: Made, tmp_path: Path) -> None:
    """Flips in the archive's own directory may change names or times that mean nothing: then the files are the same."""
    data, before = made.bundle.read_bytes(), files(made.bundle)
    for at in range(0, len(data), 1009):
        (tmp_path / "bit.zip").write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        try:
            report = verify_bundle(tmp_path / "bit.zip", made.key)
        except MalformedInput:
            continue
        assert not (report.genuine and report.complete) or files(tmp_path / "bit.zip") == before, at


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_tells_genuine_from_complete(
    made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(made.bundle, made.key.x, [made.witness], as_json=False) == 0
    assert "everything that is here is what was signed" in " ".join(capsys.readouterr().out.split())
    contents = files(made.bundle)
    less = {name: data for name, data in contents.items() if name != names.README}
    assert verify(packed(tmp_path / "less.zip", less), made.key.x, [], as_json=False) == NOT_COMPLETE
    assert names.README in capsys.readouterr().out
    contents[names.LEAVES] = b"".join(lines(contents[names.LEAVES])[1:])
    assert verify(packed(tmp_path / "bad.zip", contents), made.key.x, [], as_json=True) == NOT_GENUINE
    told = json.loads(capsys.readouterr().out)
    assert (told["genuine"], told["findings"][0]["kind"], told["findings"][0]["row"]) == (False, "deletion", 0)


def test_a_witness_file_that_was_bent_is_refused(made: Made, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in made.witness.read_text().splitlines()]
    rows[0]["leaves"] = base64.b64encode(bytes(len(base64.b64decode(rows[0]["leaves"])))).decode()
    bent = tmp_path / "bent.jsonl"
    bent.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidCheckpoint, match="do not lead"):
        verify_bundle(made.bundle, made.key, [bent])
    plain = tmp_path / "checkpoint.txt"
    plain.write_text(made.services.log.checkpoints()[0].note)
    assert verify_bundle(made.bundle, made.key, [plain]).genuine


def test_the_manifest_is_of_its_own_kind(made: Made) -> None:
    sealed = files(made.bundle)[names.MANIFEST].decode()
    assert open_evidence(sealed, made.services.keys).entries == made.done.entries
    assert replace(made.done, entries=0) != made.done
