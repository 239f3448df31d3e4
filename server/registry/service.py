"""The model registry. Owns registration (check, number, sign, store) and verified reading; trains nothing."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from common.crypto.signing import PublicKey, SigningKey, key_ring, signer_of
from common.errors import NotFound, TamperedModel
from common.model import arrays as model_arrays
from common.model.feature_spec import FeatureSpec
from common.model.manifest import checked, open_manifest, read_manifest, seal_manifest
from common.privacy.parameters import PrivacyStatement
from common.wire.disclosure import Disclosure
from common.wire.messages import ModelManifest, ModelSpec
from policies.placement.lint import refuse_special_features
from server.registry import repository
from server.registry.card import Card, card_of
from server.registry.repository import StoredModel
from server.storage import Sessions, exclusive
from server.transparency.publications import model_published
from server.transparency.service import TransparencyLog

Clock = Callable[[], dt.datetime]


def utc_now() -> dt.datetime:
    """The present, in UTC."""
    return dt.datetime.now(dt.UTC)


def register(
    sessions: Sessions,
    *,
    run_id: str,
    model: ModelSpec,
    spec: FeatureSpec,
    arrays: Mapping[str, npt.NDArray[np.generic]],
    metrics: Mapping[str, float],
    privacy: Sequence[PrivacyStatement],
    signer: SigningKey,
    disclosure: Disclosure | None = None,
    log: TransparencyLog | None = None,
    keys: Mapping[str, PublicKey] | None = None,
    clock: Clock = utc_now,
) -> ModelManifest:
    """Accept a trained model: check it against its network, give it the next version, sign and store it.

    The same arrays of the same training get the same version again, so a crashed caller may simply repeat itself. The
    entry in ``log`` is of the same transaction; ``keys`` are those that may have signed what is there already.

    Raises:
        SpecMismatch: the model was made for another feature specification than ``spec``.
        ContractError: the arrays are not those of the declared network, or hold NaN.
        PolicyError: a feature is named for a special category.
    """
    fields: dict[str, object] = {
        "run_id": run_id,
        "model": model,
        "arrays_digest": model_arrays.digest(arrays),
        "metrics": dict(metrics),
        "privacy": tuple(privacy),
        "disclosure": disclosure,
        "created_at": clock().isoformat(timespec="seconds"),
    }
    refuse_special_features(spec)
    draft = ModelManifest.model_validate({"version": 1} | fields)
    body = model_arrays.to_bytes(checked(arrays, draft, spec))
    with sessions() as session, session.begin():
        exclusive(session, "registry")
        known = repository.of_run(session, run_id, draft.arrays_digest)
        if known is not None:
            return read_manifest(known, keys or key_ring(signer.public))
        manifest = draft.model_copy(update={"version": (repository.newest(session) or 0) + 1})
        jws = seal_manifest(manifest, signer)
        manifest = read_manifest(jws, key_ring(signer.public))  # as every reader will see it
        stored = StoredModel(
            version=manifest.version,
            run_id=run_id,
            spec=spec.model_dump_json(),
            arrays=body,
            metrics=_copy(manifest, "metrics"),
            privacy=_copy(manifest, "privacy"),
            manifest_jws=jws,
        )
        repository.insert(
            session,
            stored,
            spec_digest=spec.digest,
            arrays_digest=manifest.arrays_digest,
            created_at=manifest.created_at,
        )
        if log is not None:
            session.flush()
            model_published(session, log, manifest, jws)
    return manifest


class Registry:
    """Reading side of the registry.

    Args of the constructor:
        sessions: makes sessions of the server's database.
        keys: public keys that may have signed models.
    """

    def __init__(self, sessions: Sessions, keys: Mapping[str, PublicKey]) -> None:
        self._sessions, self._keys = sessions, keys

    def current_version(self) -> int | None:
        """The newest version number, if any model is registered."""
        with self._sessions() as session:
            return repository.newest(session)

    def stored(self, version: int | None = None) -> StoredModel:
        """A version as stored (the newest by default), to hand on to those who verify it themselves.

        Raises:
            NotFound: no such version.
        """
        with self._sessions() as session:
            number = repository.newest(session) if version is None else version
            found = None if number is None else repository.get(session, number)
        if found is None:
            raise NotFound("no model is registered" if version is None else f"there is no model version {version}")
        return found

    def manifests(self) -> list[ModelManifest]:
        """Every registered manifest, newest first, signatures verified.

        Raises:
            TrustError: one does not verify.
        """
        with self._sessions() as session:
            signed = repository.manifests(session)
        return [read_manifest(jws, self._keys) for jws in signed]

    def signed_manifests(self) -> list[tuple[ModelManifest, str]]:
        """Every registered manifest with the id of the key that signed it, newest first, signatures verified.

        Raises:
            TrustError: one does not verify.
        """
        with self._sessions() as session:
            signed = repository.manifests(session)
        return [(read_manifest(jws, self._keys), signer_of(jws)) for jws in signed]

    def card(self, version: int | None = None) -> Card:
        """The disclosure card of a version (the newest by default), its signature verified.

        Raises:
            NotFound: no such version, or it has no card.
            TrustError: its manifest does not verify.
        """
        jws = self.stored(version).manifest_jws
        return card_of(read_manifest(jws, self._keys), signed_by=signer_of(jws))

    def verified(self, version: int | None = None) -> tuple[ModelManifest, model_arrays.Arrays, FeatureSpec]:
        """A version with everything about it verified, its readable copies included.

        Raises:
            NotFound: no such version.
            TrustError, ContractError: it is not what was signed.
        """
        found = self.stored(version)
        try:
            spec = FeatureSpec.model_validate_json(found.spec)
        except ValidationError:
            raise TamperedModel(f"the feature specification of version {found.version} cannot be read") from None
        manifest, arrays = open_manifest(found.manifest_jws, found.arrays, self._keys, spec=spec)
        copies = (found.version, found.run_id, found.metrics, found.privacy)
        if copies != (manifest.version, manifest.run_id, _copy(manifest, "metrics"), _copy(manifest, "privacy")):
            raise TamperedModel(f"the readable copy of version {found.version} is not what was signed")
        return manifest, arrays, spec


def _copy(manifest: ModelManifest, field: str) -> str:
    """One field of the manifest as JSON text, in the one form that both registering and verifying arrive at."""
    return json.dumps(json.loads(manifest.model_dump_json(include={field}))[field], sort_keys=True)
