"""What the log speaks of, held to it: receipts, charges, publications, proofs, files."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.evidence.verify import verify_bundle
from common.taxonomy import (
    Tampering,
)
from common.wire import evidence as names
from tests.evidence.bundles import Made, changed, files, lines, packed, resealed

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
