"""Keys of the log's signer, and checkpoints that others keep."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from common.crypto import keyfile
from common.crypto.signing import SigningKey, key_ring
from common.errors import InputError, InvalidCheckpoint, MalformedInput
from common.taxonomy import LogKind
from common.transparency.checkpoint import open_checkpoint
from common.wire.documents import open_document
from common.wire.keys import follow
from common.wire.messages import Catalogue
from server.api.services import build_services
from server.settings import Settings
from server.storage import Database
from server.transparency.keys import publish_first, published, rotate
from server.transparency.push import push_to_file, push_to_url
from server.transparency.service import TransparencyLog
from tests.service.log_parts import grow, history, kinds
from tests.service.world import World

ROOT = Path(__file__).resolve().parents[2]


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
