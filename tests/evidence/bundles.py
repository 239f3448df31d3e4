"""An installation with its bundle, and ways to change one."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from pathlib import Path

from cli.evidence.verify import Report, verify_bundle
from common.crypto.signing import PublicKey, SigningKey
from common.privacy.parameters import MechanismUse
from common.taxonomy import (
    Mechanism,
    NeighbouringRelation,
    PrivacyUnit,
    ReleaseKind,
    TrustModel,
)
from common.wire import evidence as names
from common.wire.evidence import EvidenceManifest, FileDigest, seal_manifest
from policies.budget import PlannedRelease
from server.api.services import initialise
from server.evidence.bundle import write_bundle
from server.settings import Settings
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
