"""A decision on the device is kept sealed, replays from what was kept with it, and answers a retry with itself."""

from __future__ import annotations

import sqlite3
import zlib
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from client.agent import Equipment
from client.choosing import switch
from client.device import OWNER
from client.placing import again, opened_record
from client.store.decisions import KEPT_MAX, insert
from client.store.placed import KeptDecision
from common.crypto.signing import SigningKey
from common.errors import DigestMismatch, UnknownSigner, VaultCorrupt
from common.wire.documents import seal
from policies.placement.document import CapRule, CapScope
from policies.placement.protocol import Placement
from policies.placement.record import DecisionRecord
from tests.device.conftest import Household
from tests.device.placing import PAGE, capped, equipped, permit


@pytest.fixture
def equipment(agreed: Household) -> Equipment:
    return equipped(agreed)


def decide(home: Household, equipment: Equipment, **more: object) -> tuple[str, tuple[Placement, ...]]:
    jws = permit(home, equipment, 2, **more)
    placed = home.agent.place(jws, equipment, context=PAGE, now=home.clock())
    return home.node.placements.read(OWNER, newest=1)[0].decision_id, placed


def test_it_replays_under_everything_that_g_was_told(agreed: Household, equipment: Equipment) -> None:
    """Caps, pacing, a stopped campaign, blocks, a switched-off topic, evidence: all of it is in the record."""
    limits = (CapRule(scope=CapScope.CREATIVE, views_max=1, window_hours=24),)
    creatives = [
        one.model_copy(update={"tags": ("sweets",) if i == 0 else (), "campaign_id": f"k{i}", "bid_micros": 10 * i})
        for i, one in enumerate(equipment.catalogue.creatives)
    ]
    agreed.node.recorder.time_limits()
    kit = capped(equipped(agreed, creatives), limits)
    switch(agreed.node, OWNER, "Sweets", off=True)
    first, placed = decide(agreed, kit)
    agreed.agent.feedback.seen(agreed.node.placements.read(OWNER, newest=1)[0].place, now=agreed.clock())
    told = {
        "pacing": {"k4": 0.0},
        "stopped": ("k5",),
        "blocked_categories": ("tea",),
        "blocked_advertisers": ("nobody",),
    }
    second, then = decide(agreed, kit, **told)
    record = opened_record(agreed.node.decisions.find(OWNER, second) or pytest.fail("not kept"))
    assert record.inputs.shown
    assert record.inputs.refused_tags == {"sweets"}
    assert record.inputs.stopped == {"k5"}
    assert record.inputs.pacing == {"k4": 0.0}
    assert not {c.creative_id for c in creatives if c.campaign_id in {"k0", "k4", "k5"}} & record.predicted.keys()
    assert again(agreed.node, OWNER, first).placements == placed
    assert again(agreed.node, OWNER, second).placements == then


def test_the_same_permit_again_is_the_same_answer(agreed: Household, equipment: Equipment) -> None:
    once = capped(equipment, (CapRule(scope=CapScope.CREATIVE, views_max=1, window_hours=24),))
    jws = permit(agreed, once)
    first = agreed.agent.place(jws, once, context=PAGE, now=agreed.clock())
    assert agreed.agent.place(jws, once, context=PAGE, now=agreed.clock()) == first
    assert len(agreed.node.placements.read(OWNER)) == 1, "a retry is no second ad"
    assert agreed.agent.place(permit(agreed, once), once, context=PAGE, now=agreed.clock()) != first, "control: the cap"


def _changed(record: DecisionRecord, **fields: object) -> bytes:
    return zlib.compress(record.model_copy(update=fields).model_dump_json().encode())


def rewrite(home: Household, decision: str, kept: KeptDecision) -> None:
    """What somebody with the device's key could write."""
    with home.node.placements._file.writing() as connection:
        connection.execute("DELETE FROM decisions")
        documents = {digest: home.node.decisions.document(digest) or "" for digest in (kept.catalogue, kept.policy)}
        from client.store.decisions import Replayable

        insert(connection, home.node.placements._file, OWNER, Replayable(decision, kept, documents))


def test_a_changed_record_does_not_replay(agreed: Household, equipment: Equipment) -> None:
    decision, placed = decide(agreed, equipment)
    kept = agreed.node.decisions.find(OWNER, decision)
    assert kept is not None
    record = opened_record(kept)
    other = next(name for name in record.predicted if name != placed[0].creative_id)
    for fields in (
        {"placements": (replace(placed[0], creative_id=other), *placed[1:])},
        {"placements": (replace(placed[0], propensity=0.5), *placed[1:])},
        {"predicted": {name: -y for name, y in record.predicted.items()}},
    ):
        rewrite(agreed, decision, msgspec.structs.replace(kept, record=_changed(record, **fields)))
        with pytest.raises(DigestMismatch):
            again(agreed.node, OWNER, decision)
    rewrite(agreed, decision, kept)
    assert again(agreed.node, OWNER, decision).placements == placed, "control: as it was, it replays"


def test_a_changed_document_is_found(agreed: Household, equipment: Equipment) -> None:
    decision, _ = decide(agreed, equipment)
    file = agreed.node.directory / "placements.db"
    with sqlite3.connect(file) as connection:
        genuine = dict(connection.execute("SELECT digest, body FROM documents").fetchall())
        for digest, body in genuine.items():
            text = zlib.decompress(body).decode()
            connection.execute(
                "UPDATE documents SET body = ? WHERE digest = ?",
                (zlib.compress(text.replace("50", "51").replace("a", "b", 1).encode()), digest),
            )
    with pytest.raises(DigestMismatch):
        again(agreed.node, OWNER, decision)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE documents SET body = ?", (b"no archive",))
    with pytest.raises(VaultCorrupt):
        again(agreed.node, OWNER, decision)


def test_a_catalogue_that_the_service_did_not_sign_replays_nothing(agreed: Household, equipment: Equipment) -> None:
    forged = replace(equipment, catalogue_jws=seal(equipment.catalogue, SigningKey.generate()))
    decision, _ = decide(agreed, forged)
    with pytest.raises(UnknownSigner):
        again(agreed.node, OWNER, decision)


def test_what_is_not_kept_cannot_be_replayed(agreed: Household, equipment: Equipment) -> None:
    with pytest.raises(DigestMismatch, match="keeps no decision"):
        again(agreed.node, OWNER, "dec_unknown")


def test_nothing_of_a_decision_can_be_read_in_the_file(agreed: Household, equipment: Equipment) -> None:
    decision, placed = decide(agreed, equipment)
    for path in agreed.node.directory.glob("placements.db*"):
        data = path.read_bytes()
        assert decision.encode() not in data
        assert (placed[0].creative_id or "").encode() not in data


def test_documents_are_kept_once_and_no_longer_than_needed(agreed: Household, equipment: Equipment) -> None:
    def held() -> int:
        with sqlite3.connect(agreed.node.directory / "placements.db") as connection:
            return int(connection.execute("SELECT COUNT(*) FROM documents").fetchone()[0])

    decide(agreed, equipment)
    decide(agreed, equipment)
    assert held() == 2
    decide(agreed, capped(equipment, (CapRule(scope=CapScope.CREATIVE, views_max=9, window_hours=24),)))
    assert held() == 3
    kept = KeptDecision(record=b"", catalogue="c" * 64, policy="p" * 64, model_version=1)
    from client.store.decisions import Replayable

    for number in range(KEPT_MAX):
        documents = {kept.catalogue: "c", kept.policy: "p"}
        agreed.node.placements.write(OWNER, [], Replayable(f"d{number}", kept, documents))
    assert held() == 2, "those of decisions that are gone went with them"


def test_a_file_of_the_first_format_is_brought_forward(agreed: Household, equipment: Equipment, tmp_path: Path) -> None:
    """Ads that were kept before there were decisions stay readable."""
    from client.store.placed_file import _FIRST

    decide(agreed, equipment)
    path = agreed.node.directory / "placements.db"
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT device, sealed FROM placements").fetchall()
    before = agreed.node.placements.read(OWNER)
    path.unlink()
    for extra in agreed.node.directory.glob("placements.db-*"):
        extra.unlink()
    with sqlite3.connect(path) as connection:
        connection.executescript(f"{_FIRST} PRAGMA user_version = 1;")
        connection.executemany("INSERT INTO placements (device, sealed) VALUES (?, ?)", rows)
    assert agreed.node.placements.read(OWNER) == before
    assert agreed.node.outcomes.read(OWNER) == []
    decide(agreed, equipment)
