"""The registry: what is accepted is checked, numbered, signed; whatever is not what was signed is refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from common.crypto import signing
from common.crypto.signing import SigningKey, key_ring
from common.errors import (
    DtypeMismatch,
    NonFiniteValue,
    NotFound,
    ShapeMismatch,
    SpecMismatch,
    TamperedModel,
    TrustError,
    UnknownSigner,
)
from common.model import arrays
from common.model.manifest import open_manifest, seal_manifest
from common.wire.messages import ModelManifest
from server import migrations
from server.registry.service import Registry, register
from server.storage import Database, open_database
from tests.service.world import MODEL, OTHER_SPEC, SPEC, STATEMENT, weights

SIGNER = SigningKey.generate()
KEYS = key_ring(SIGNER.public)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{tmp_path}/a.db")
    migrations.migrate(database)
    yield database
    database.close()


def put(database: Database, run_id: str = "run", seed: int = 0, **changes: object) -> ModelManifest:
    fields: dict[str, object] = {
        "run_id": run_id,
        "model": MODEL,
        "spec": SPEC,
        "arrays": weights(seed),
        "metrics": {"auc": 0.85, "count": 1, "undefined": float("nan"), "tiny": -0.0},
        "privacy": [STATEMENT, STATEMENT.model_copy(update={"epsilon": float("inf")})],
        "signer": SIGNER,
    }
    return register(database.sessions, **(fields | changes))  # type: ignore[arg-type]


def test_a_registered_model_comes_back_verified(database: Database) -> None:
    manifest = put(database)
    found, named, spec = Registry(database.read, KEYS).verified()
    assert (found.version, found.run_id, found.privacy) == (1, "run", manifest.privacy)
    assert spec == SPEC
    assert arrays.digest(named) == manifest.arrays_digest == arrays.digest(weights())
    assert found.metrics["auc"] == 0.85
    assert np.isnan(found.metrics["undefined"])


def test_versions_count_up_and_a_repeated_registration_is_the_same_model(database: Database) -> None:
    assert put(database).version == 1
    assert put(database, seed=1).version == 2
    assert put(database).version == 1
    assert put(database, run_id="other").version == 3
    registry = Registry(database.read, KEYS)
    assert [manifest.version for manifest in registry.manifests()] == [3, 2, 1]
    assert registry.current_version() == registry.verified()[0].version == 3


def test_parallel_registrations_get_different_versions(database: Database) -> None:
    with ThreadPoolExecutor(4) as pool:
        versions = list(pool.map(lambda i: put(database, run_id=f"run-{i}").version, range(8)))
    assert sorted(versions) == list(range(1, 9))


def test_nothing_is_registered_that_is_not_a_model_of_its_specification(database: Database) -> None:
    good = weights()
    name = next(iter(good))
    with pytest.raises(SpecMismatch):
        put(database, spec=OTHER_SPEC)
    with pytest.raises(SpecMismatch):
        put(database, arrays={"other": good[name]})
    with pytest.raises(ShapeMismatch):
        put(database, arrays=good | {name: good[name][:-1]})
    with pytest.raises(DtypeMismatch):
        put(database, arrays=good | {name: good[name].astype(np.float64)})
    with pytest.raises(NonFiniteValue):
        put(database, arrays=good | {name: good[name] * np.float32("nan")})
    registry = Registry(database.read, KEYS)
    assert registry.current_version() is None
    with pytest.raises(NotFound):
        registry.verified()
    with pytest.raises(NotFound):
        registry.stored(7)


COLUMNS = {
    "arrays": "zeroblob(8)",
    "manifest_jws": "replace(manifest_jws, '.', '..')",
    "spec": "replace(spec, 'service world', 'another world')",
    "metrics": "replace(metrics, '0.85', '0.95')",
    "privacy": "replace(privacy, '4.5', '0.5')",
    "run_id": "'another run'",
}


@pytest.mark.parametrize("column", COLUMNS)
def test_a_changed_column_is_noticed(database: Database, column: str) -> None:
    put(database)
    with database.write() as session:
        session.execute(text(f"UPDATE model_version SET {column} = {COLUMNS[column]}"))  # noqa: S608 - our own words
    with pytest.raises((TrustError, SpecMismatch)):
        Registry(database.read, KEYS).verified()


def test_a_manifest_moved_to_another_version_is_noticed(database: Database) -> None:
    put(database)
    with database.write() as session:
        session.execute(text("UPDATE model_version SET version = 9"))
    with pytest.raises(TamperedModel, match="not what was signed"):
        Registry(database.read, KEYS).verified()


def test_device_side_refuses_by_name(database: Database) -> None:
    put(database)
    stored = Registry(database.read, KEYS).stored()
    jws, body = stored.manifest_jws, stored.arrays
    assert open_manifest(jws, body, KEYS, spec=SPEC)[0].version == 1
    with pytest.raises(UnknownSigner):
        open_manifest(jws, body, key_ring(SigningKey.generate().public), spec=SPEC)
    with pytest.raises(UnknownSigner):
        open_manifest(jws, body, {}, spec=SPEC)
    with pytest.raises(SpecMismatch):
        open_manifest(jws, body, KEYS, spec=OTHER_SPEC)
    for other in (arrays.to_bytes(weights(1)), b"", body[:-1], b"\x80\x04pickle"):
        with pytest.raises(TamperedModel):
            open_manifest(jws, other, KEYS, spec=SPEC)
    for forged in (signing.sign({"kind": "model_manifest"}, SIGNER, "model-manifest+jws"), jws[:-8] + "AAAAAAAA"):
        with pytest.raises(TamperedModel):
            open_manifest(forged, body, KEYS, spec=SPEC)
    with pytest.raises(TamperedModel):
        open_manifest(signing.sign({"kind": "model_manifest"}, SIGNER, "catalogue+jws"), body, KEYS, spec=SPEC)


def test_a_signed_manifest_of_another_network_is_refused(database: Database) -> None:
    """A signature alone is not enough: the arrays must be those of the declared network."""
    manifest = put(database)
    odd = {"table.weight": np.zeros((3, 1), np.float32)}
    jws = seal_manifest(manifest.model_copy(update={"arrays_digest": arrays.digest(odd)}), SIGNER)
    with pytest.raises(SpecMismatch):
        open_manifest(jws, arrays.to_bytes(odd), KEYS, spec=SPEC)


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_no_flipped_bit_of_the_arrays_passes(position: int, bit: int) -> None:
    body = bytearray(BODY)
    body[position % len(body)] ^= 1 << bit
    with pytest.raises((TrustError, SpecMismatch)):
        open_manifest(JWS, bytes(body), KEYS, spec=SPEC)


BODY = arrays.to_bytes(weights())
JWS = seal_manifest(
    ModelManifest(
        version=1,
        run_id="run",
        model=MODEL,
        arrays_digest=arrays.digest(weights()),
        metrics={},
        privacy=(STATEMENT,),
        created_at="2026-01-01T00:00:00+00:00",
    ),
    SIGNER,
)
