"""Erasing a subject: nothing of theirs is left in any table or file, all proofs verify, the budget is not refilled."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from common.crypto.signing import PublicKey, SigningKey, key_ring
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import LogKind, Purpose, RequestKind, RequestStatus, Role, Task
from common.transparency import tree
from common.wire.documents import open_document
from common.wire.pick import Pick
from common.wire.requests import RequestAcknowledgement, prove_identity
from policies.budget import PlannedRelease
from policies.releases import segments_of
from server.access.principal import Principal
from server.api.security import log_read
from server.dashboard.desk import Desk
from server.dashboard.sessions import Visitor
from server.ledger.check import verify
from server.ledger.repository import pseudonym
from server.picks.service import PickClaim
from server.rounds.consent import RoundConsent
from server.settings import RoundConsentRule
from server.storage import Database
from server.words import words
from tests.service.search import Traces, in_tables, on_disk
from tests.service.world import APP, Device, World, introduced

ROUNDS = 3


def one_round(world: World) -> Sequence[PlannedRelease]:
    return [PlannedRelease(s.kind, s.use) for s in segments_of(world.services.ledger.policy, Task.TRAIN, 500)]


def submit(world: World, device: Device, request: str, **more: object) -> dict[str, object]:
    extra = {"idempotency-key": str(uuid4())}
    body = {"handle": device.handle, "request": request} | more
    answer = world.http.post("/v1/dsr", json=body, headers=device.headers | extra)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def read(world: World, jws: object) -> RequestAcknowledgement:
    return open_document(str(jws), RequestAcknowledgement, key_ring(world.services.signer.public))


@dataclass
class Lived:
    """Somebody about whom everything is stored that can be."""

    device: Device
    traces: Traces


def live(world: World) -> Lived:
    """Enrol, consent, withdraw, see ads, pick privately, train, ask for data, be looked up by an officer."""
    device = world.enrol()
    everything = dict.fromkeys(Purpose, "given")
    for _ in range(1):
        world.clock.advance(60)
        headers = device.headers | {"idempotency-key": str(uuid4())}
        body = {"handle": device.handle, "notice_digest": world.notice(), "decisions": everything, "locale": "en"}
        answer = world.http.post("/v1/consents", json=body | {"surface": "settings"}, headers=headers)
        assert answer.status_code == 201, answer.text
        world.withdraw(device, ["train.local"])
    world.change(device, {purpose.value: "given" for purpose in Purpose})
    world.decide(device.handle, device.headers)
    identity = device.key.public.raw
    for number in range(ROUNDS):
        barred = world.services.ledger.reserve("run-0", f"{device.handle[:4]}/{number}", one_round(world), [identity])
        assert not barred
    with world.services.database.write() as session:
        pick = Pick(slot_group="default", epoch=1, index=1, epsilon=1.0, list_hash="0" * 64)
        assert world.services.picks.charge(session, [PickClaim(device.handle, pick)]) == [None]
    submit(world, device, "access")
    submit(world, device, "objection")
    officer = world.key(Role.PRIVACY_OFFICER, holder="ana")
    assert world.http.get("/v1/dsr", params={"handle": device.handle}, headers=officer).status_code == 200
    return Lived(device, traces_of(world, device))


def traces_of(world: World, device: Device) -> dict[str, bytes]:
    """All that names the device, and every salt that opens a commitment about it."""
    found = {
        "handle": device.handle.encode(),
        "public key": device.key.public.x.encode(),
        "pseudonym": pseudonym(device.key.public.raw),
    }
    for number, event in enumerate(world.services.consent.history(device.handle)):
        found[f"receipt {number}"] = event.receipt_id.encode()
        found[f"receipt signature {number}"] = event.receipt.rpartition(".")[2].encode()
    with world.services.database.read() as session:
        openings = [entry.opening for entry in world.services.log.about(session, device.handle)]
    for number, opening in enumerate(openings):
        assert opening is not None
        assert opening.subject_salt is not None
        found |= {f"salt {number}": opening.salt, f"subject salt {number}": opening.subject_salt}
    assert len(openings) > 10
    return found


def files_of(world: World) -> list[Path]:
    return [file for file in world.services.settings.state_dir.rglob("*") if file.is_file()]


def proofs(world: World) -> tuple[int, bytes]:
    """Check every entry's inclusion in the log as it is now; its size and root."""
    log = world.services.log
    size, root = log.size(), log.root()
    entries = log.events(limit=size)
    assert len(entries) == size
    for entry in entries:
        proof = log.inclusion(entry.leaf.seq)
        assert tree.leaf_hash(entry.leaf.encode()) == entry.leaf_hash == proof.leaf_hash
        tree.verify_inclusion(proof.leaf_hash, entry.leaf.seq, size, proof.path, root)
    return size, root


@pytest.fixture
def both(any_world: World) -> tuple[World, Lived, Lived]:
    """Two who have lived alike; the first will be erased."""
    return any_world, live(any_world), live(any_world)


def test_nothing_of_an_erased_subject_is_left_and_everybody_else_s_is(both: tuple[World, Lived, Lived]) -> None:
    world, gone, stays = both
    before = in_tables(world.services.database, gone.traces)
    assert {line.split(": ")[1] for line in before} == set(gone.traces), "the search finds what is there"
    others = in_tables(world.services.database, stays.traces)
    size, _ = proofs(world)
    answer = submit(world, gone.device, "erasure")
    assert answer["status"] == RequestStatus.COMPLETED.value
    assert in_tables(world.services.database, gone.traces) == []
    if world.services.database.engine.dialect.name == "sqlite":
        assert on_disk(files_of(world), gone.traces) == []
    assert in_tables(world.services.database, stays.traces) == others
    now, root = proofs(world)
    assert now > size
    grown = world.services.log.consistency(size)
    tree.verify_consistency(size, now, grown.path, old_root=grown.old_root, new_root=root)
    assert verify(world.services.ledger).problems == ()


def test_erasure_stops_placement_and_training(both: tuple[World, Lived, Lived]) -> None:
    world, gone, stays = both
    rounds = RoundConsent.at(
        world.services.database,
        rules=world.services.policies.policies.purposes,
        signer=world.services.signer,
        rule=RoundConsentRule.SERVICE,
        clock=world.clock,
    )
    purposes, first, second = [Purpose.TRAIN_CONTRIBUTE], gone.device.key.public.raw, stays.device.key.public.raw
    assert rounds.refused([first, second], purposes) == {first, second}, "both have objected"
    for lived in (gone, stays):
        submit(world, lived.device, "objection", lift=True)
    assert rounds.refused([first, second], purposes) == frozenset()
    submit(world, gone.device, "erasure")
    assert rounds.refused([first, second], purposes) == {first}
    backend = world.key(Role.APP_BACKEND, app_id=APP)
    decided = world.decide(gone.device.handle, backend)
    assert {slot["reason"] for slot in decided["slots"]} == {"unknown-subject"}
    assert world.http.get("/v1/consents/me", headers=gone.device.headers).status_code == 401


def test_the_acknowledgement_says_what_remains_and_outlives_the_subject(both: tuple[World, Lived, Lived]) -> None:
    world, gone, _ = both
    answer = submit(world, gone.device, "erasure", locale="zh-CN")
    word = read(world, answer["acknowledgement"])
    assert (word.request, word.status, word.law) == (RequestKind.ERASURE, RequestStatus.COMPLETED, "pipl")
    assert word.destroyed is not None
    assert min(word.destroyed.values()) >= 1, word.destroyed
    assert word.remains is not None
    (model,) = word.remains.models
    assert (model.run_id, model.model_versions, model.releases) == ("run-0", (1,), ROUNDS)
    (bound,) = word.remains.bounds
    line = world.services.ledger.policy.lines[0]
    expected = recompute_epsilon([release.use for release in one_round(world)] * ROUNDS, line.delta)
    assert (bound.epsilon, bound.delta, bound.unit) == (pytest.approx(expected, rel=0.01), line.delta, line.unit)
    assert "ε" in word.remains.explanation
    days = world.services.ledger.policy.budget_period_days
    assert word.remains.tombstone_until == (world.services.ledger.period + 1) * days - 1
    public = world.http.get(f"/v1/dsr/{answer['request_id']}/acknowledgement")
    assert public.json()["acknowledgement"] == answer["acknowledgement"]
    officer = world.key(Role.PRIVACY_OFFICER, holder="ana")
    rows = world.http.get("/v1/dsr", headers=officer).json()["requests"]
    mine = next(row for row in rows if row["request_id"] == answer["request_id"])
    assert (mine["handle"], mine["details"]) == (None, {})


def test_who_never_took_part_is_told_so(any_world: World) -> None:
    word = read(any_world, submit(any_world, any_world.consenting(), "erasure")["acknowledgement"])
    assert word.remains is not None
    assert (word.remains.models, word.remains.bounds, word.remains.tombstone_until) == ((), (), None)
    assert word.remains.explanation.startswith("Nothing.")


def test_enrolling_again_does_not_refill_the_budget(both: tuple[World, Lived, Lived]) -> None:
    world, gone, _ = both
    ledger, identity = world.services.ledger, gone.device.key.public.raw
    spent, entries = ledger.epsilon(identity), ledger.entries(identity)
    assert spent > 0
    submit(world, gone.device, "erasure")
    body = {"public_key": gone.device.key.public.x, "app_id": APP, "age_band": "adult", "jurisdiction": "CN"}
    again = world.http.post("/v1/subjects", json=body, headers=introduced(gone.device.key, world.clock))
    assert again.status_code == 201
    assert again.json()["handle"] != gone.device.handle
    assert ledger.epsilon(identity) == spent
    assert ledger.entries(identity) == entries
    charged = 0
    while not ledger.reserve("run-1", f"later/{charged}", one_round(world), [identity]):
        charged += 1
    (line, *_) = world.services.budgets.projection(0, weights=500)
    assert line.rounds_possible == 0
    assert ledger.epsilon(identity) <= ledger.policy.lines[0].epsilon_cap
    stranger = SigningKey.generate().public.raw
    fits = 0
    while not ledger.reserve("run-2", f"stranger/{fits}", one_round(world), [stranger]):
        fits += 1
    assert charged + ROUNDS == fits
    assert verify(ledger).problems == ()


def test_after_the_period_nobody_can_tell_whose_a_tombstone_was(both: tuple[World, Lived, Lived]) -> None:
    world, gone, _ = both
    ledger, identity = world.services.ledger, gone.device.key.public.raw
    submit(world, gone.device, "erasure")
    with world.services.database.read() as session:
        (key,) = session.execute(text("SELECT key FROM ledger_epoch")).scalars()
    world.clock.advance(ledger.policy.budget_period_days * 86_400)
    assert ledger.retire() == 1
    assert ledger.entries(identity) == []
    assert ledger.reserve("run-3", "new period", one_round(world), [identity]) == frozenset()
    assert len(ledger.entries(identity)) == 1
    world.services.database.scrub([bytes(key)])
    if world.services.database.engine.dialect.name == "sqlite":
        assert on_disk(files_of(world), {"epoch key": bytes(key)}) == []
    assert in_tables(world.services.database, {"epoch key": bytes(key)}) == []


def test_another_ledger_identity_is_proven_and_never_stored(any_world: World) -> None:
    world, device, identity = any_world, any_world.consenting(), SigningKey.generate()
    raw = identity.public.raw
    world.services.ledger.reserve("run", "s", one_round(world), [raw])
    spent = world.services.ledger.epsilon(raw)
    wrong = {
        "of another handle": prove_identity(identity, "x" * 22, world.clock.now),
        "too old": prove_identity(identity, device.handle, world.clock.now - 301),
        "by another key": prove_identity(SigningKey.generate(), device.handle, world.clock.now).model_copy(
            update={"identity": identity.public.x}
        ),
    }
    for proof in wrong.values():
        body = {"handle": device.handle, "request": "erasure", "ledger_proof": proof.model_dump()}
        answer = world.http.post("/v1/dsr", json=body, headers=device.headers)
        assert answer.status_code == 422, answer.text
    proof = prove_identity(identity, device.handle, world.clock.now)
    ids = submit(world, device, "access")["request_id"]
    header = {"reticent-ledger-proof": f"{proof.identity}.{proof.jws}"}
    package = world.http.get(f"/v1/dsr/{ids}/package", headers=device.headers | header)
    assert package.status_code == 200, package.text
    answer = submit(world, device, "erasure", ledger_proof=proof.model_dump())
    word = read(world, answer["acknowledgement"])
    assert word.destroyed is not None
    assert word.destroyed["ledger_names"] == 1
    assert word.remains is not None
    assert [model.releases for model in word.remains.models] == [1]
    traces = {"pseudonym": pseudonym(raw), "identity": identity.public.x.encode(), "raw identity": raw}
    assert in_tables(world.services.database, traces) == []
    assert world.services.ledger.epsilon(raw) == spent


# ── controls: each broken erasure is caught by the same search ───────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("room", "method", "caught"),
    [
        ("repeats", "forget", None),
        ("log", "erase", "log_record"),
        ("ledger", "bury", "ledger_subject"),
        ("consent", "forget", "consent_event"),
    ],
)
def test_an_erasure_that_forgets_a_room_is_caught(
    world: World, monkeypatch: pytest.MonkeyPatch, room: str, method: str, caught: str | None
) -> None:
    world.furnish()
    gone = live(world)
    monkeypatch.setattr(type(getattr(world.services, room)), method, lambda *_arguments: 0)
    if caught is None:  # kept answers are sealed: nothing of them can be read, so they are counted
        with world.services.database.read() as session:
            kept = session.execute(text("SELECT count(*) FROM kept_answer WHERE subject IS NOT NULL")).scalar_one()
        submit(world, gone.device, "erasure")
        with world.services.database.read() as session:
            left = session.execute(text("SELECT count(*) FROM kept_answer WHERE subject IS NOT NULL")).scalar_one()
        assert left == kept > 0
        return
    submit(world, gone.device, "erasure")
    assert caught in {line.split(".")[0] for line in in_tables(world.services.database, gone.traces)}


def test_an_erasure_that_leaves_the_disk_alone_is_caught(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.furnish()
    gone = live(world)
    monkeypatch.setattr(Database, "scrub", lambda *_arguments: True)
    submit(world, gone.device, "erasure")
    assert in_tables(world.services.database, gone.traces) == []
    assert on_disk(files_of(world), gone.traces) != []


def test_kept_answers_of_an_erased_subject_go(both: tuple[World, Lived, Lived]) -> None:
    world, gone, _ = both
    count = "SELECT count(*) FROM kept_answer WHERE subject IS NOT NULL"
    with world.services.database.read() as session:
        before = session.execute(text(count)).scalar_one()
    submit(world, gone.device, "erasure")
    with world.services.database.read() as session:
        assert session.execute(text(count)).scalar_one() == before / 2


def test_the_search_reads_what_is_encoded() -> None:
    """The handle inside a signed receipt is found although no column spells it."""
    inside = base64.urlsafe_b64encode(json.dumps({"handle": "q3Yx0mVbS1uJ7eHcKf2nPw"}).encode()).rstrip(b"=")
    from tests.service.search import _readable

    assert any(b"q3Yx0mVbS1uJ7eHcKf2nPw" in part for part in _readable(b"e30." + inside + b".sig"))
    assert PublicKey(SigningKey.generate().public.x).raw


def test_two_erasures_at_once_are_one(any_world: World) -> None:
    device = any_world.consenting()
    body = {"handle": device.handle, "request": "erasure"}
    call = ("POST", "/v1/dsr", {"json": body, "auth": device.auth})
    codes = sorted(answer.status_code for answer in any_world.http.together(call, call))
    assert codes[0] == 201
    assert codes[1] in {401, 404}, "to the second one the subject is unknown"
    officer = any_world.key(Role.PRIVACY_OFFICER, holder="ana")
    assert len(any_world.http.get("/v1/dsr", headers=officer).json()["requests"]) == 1


def test_a_read_that_is_logged_during_an_erasure_names_nobody_afterwards(any_world: World) -> None:
    """The desk looks somebody up, the erasure commits, and only then the read is written down."""
    device, services = any_world.consenting(), any_world.services
    reader = Principal(Role.PRIVACY_OFFICER, key_id="key_x", holder="ana", credential="key_x")
    visitor = Visitor(Role.PRIVACY_OFFICER, "key_x", "ana", "")
    desk = Desk(services, visitor, words("en", "dashboard"), "/desk/search", "")
    late = [
        threading.Thread(target=lambda: log_read(services, reader, "x", subject=device.handle)),
        threading.Thread(target=lambda: desk.note_read("x", subject=device.handle)),
    ]
    with services.database.write() as session:
        services.consent.forget(session, device.handle)
        services.log.erase(session, device.handle)
        for thread in late:
            thread.start()
        late[0].join(0.5)
    for thread in late:
        thread.join()
    with services.database.read() as session:
        assert services.log.about(session, device.handle) == []
    assert [entry.leaf.kind for entry in services.log.events(newest_first=True, limit=2, cursor=10**9)] == [
        LogKind.PRIVILEGED_READ
    ] * 2
