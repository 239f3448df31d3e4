"""Keys, erasure, hostile archives and the command."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from cli.evidence.command import NOT_COMPLETE, NOT_GENUINE, verify
from cli.evidence.trust import read_key
from cli.evidence.verify import verify_bundle
from common.crypto import keyfile
from common.crypto.signing import SigningKey
from common.errors import InputError, InvalidCheckpoint, MalformedInput, UnknownSigner
from common.taxonomy import (
    Purpose,
    Tampering,
)
from common.transparency.checkpoint import verifier_key
from common.wire import evidence as names
from common.wire.documents import open_document, seal
from common.wire.evidence import open_evidence
from common.wire.messages import ConsentReceipt
from server.api.services import build_services, initialise
from server.evidence.bundle import write_bundle
from server.settings import Settings
from server.transparency import keys as keys_room
from server.transparency.keys import rotate
from tests.evidence.bundles import Made, files, lines, packed, resealed
from tests.service.world import Clock

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


def test_a_bomb_is_refused_before_it_is_unpacked(made: Made, tmp_path: Path) -> None:
    bomb = packed(tmp_path / "bomb.zip", files(made.bundle) | {names.LEAVES: bytes(64 * 1024 * 1024)})
    assert bomb.stat().st_size < 1024 * 1024
    with pytest.raises(MalformedInput, match="larger than"):
        verify_bundle(bomb, made.key)


def test_a_receipt_that_was_never_logged_is_no_older_one(made: Made, tmp_path: Path) -> None:
    """The operator signs a receipt after the fact and says that it is older than the log: its own time speaks."""
    contents = files(made.bundle)
    services = made.services
    genuine = services.consent.history(made.devices[1].handle)[0]
    receipt = open_document(genuine.receipt, ConsentReceipt, services.keys)
    forged = seal(
        receipt.model_copy(update={"receipt_id": "rcp_forged", "purpose": Purpose.TRAIN_LOCAL}), services.signer
    )
    line = json.dumps({"receipt_id": "rcp_forged", "seq": None, "jws": forged}).encode() + b"\n"
    changed = resealed(contents | {names.RECEIPTS: contents[names.RECEIPTS] + line}, services.signer)
    report = verify_bundle(packed(tmp_path / "x.zip", changed), made.key)
    assert [(one.kind, one.where) for one in report.findings] == [(Tampering.FORGERY, names.RECEIPTS)]


@pytest.mark.parametrize("name", [names.CHECKPOINTS, names.CHARGES, names.INCLUSION])
def test_nesting_without_end_is_a_finding_and_no_crash(made: Made, tmp_path: Path, name: str) -> None:
    changed = resealed(files(made.bundle) | {name: b"[" * 200_000 + b"\n"}, made.services.signer)
    assert not verify_bundle(packed(tmp_path / "x.zip", changed), made.key).genuine


def test_a_service_that_starts_while_the_key_is_rotated_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It finds the named key waiting and puts it in its place, before the rotation itself gets there."""
    services = initialise(Settings.at(tmp_path / "state"), clock=Clock())
    path, real = services.settings.signing_key, keys_room.key_repository.add

    def and_another_starts(session: object, key: object) -> None:
        real(session, key)  # type: ignore[arg-type]
        monkeypatch.setattr(Path, "replace", lambda self, to: (gone(self, to), gone(self, to))[1])

    gone = Path.replace
    monkeypatch.setattr(keys_room.key_repository, "add", and_another_starts)
    rotated = rotate(services.database, services.log, path)
    monkeypatch.undo()
    assert keyfile.load(path).kid == rotated.key.kid
    services.database.close()
