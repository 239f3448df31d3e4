"""The evidence bundle of a real installation: genuine as made, and every change to it found, named and placed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.evidence.verify import verify_bundle
from common.taxonomy import (
    LogKind,
    Tampering,
)
from common.wire import evidence as names
from server.evidence.bundle import write_bundle
from tests.evidence.bundles import Made, changed, files, lines


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
