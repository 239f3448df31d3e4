"""The signed model. Owns how a manifest is sealed, and the steps that verify a model before anybody uses it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from common.crypto import signing
from common.errors import MalformedInput, SpecMismatch, TamperedModel
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.wire.messages import ModelManifest

TYP: Final = "model-manifest+jws"


def seal_manifest(manifest: ModelManifest, key: signing.SigningKey) -> str:
    """The manifest as a compact JWS."""
    return signing.sign(manifest.model_dump_json().encode(), key, TYP)


def read_manifest(jws: str, keys: Mapping[str, signing.PublicKey]) -> ModelManifest:
    """The manifest alone, its signature verified; enough to learn a version, not to use a model.

    Raises:
        TamperedModel: the signature does not verify, or signs something else.
        UnknownSigner: signed by a key that is not pinned.
    """
    payload = signing.verify(jws, keys, TYP, error=TamperedModel)
    try:
        return ModelManifest.model_validate_json(payload)
    except ValidationError:
        raise TamperedModel("what was signed is not a model manifest") from None


def open_manifest(
    jws: str, arrays_bytes: bytes, keys: Mapping[str, signing.PublicKey], *, spec: FeatureSpec
) -> tuple[ModelManifest, arrays.Arrays]:
    """Verify a model completely: (1) signature, (2) feature specification, (3) digest, (4) names, shapes, values.

    Args:
        jws: the signed manifest.
        arrays_bytes: the model's arrays, safetensors.
        keys: pinned public keys by ``kid``.
        spec: the feature specification that the caller computes features with.

    Raises:
        TamperedModel: the signature or the arrays' digest does not match.
        UnknownSigner: signed by a key that is not pinned.
        SpecMismatch: the model was made for other features.
        ContractError: the arrays are not those of the declared network (see ``arrays.check``).
    """
    manifest = read_manifest(jws, keys)
    if manifest.model.spec_digest != spec.digest:
        raise SpecMismatch(f"model version {manifest.version} was made for another feature specification")
    try:
        named = arrays.from_bytes(arrays_bytes)
    except MalformedInput:
        raise TamperedModel(f"the arrays of model version {manifest.version} cannot be read") from None
    if arrays.digest(named) != manifest.arrays_digest:
        raise TamperedModel(f"the arrays of model version {manifest.version} are not those that were signed")
    return manifest, checked(named, manifest, spec)


def checked(named: Mapping[str, npt.NDArray[np.generic]], manifest: ModelManifest, spec: FeatureSpec) -> arrays.Arrays:
    """The arrays, if they are those of the manifest's network.

    Raises:
        ContractError: they are not (see ``arrays.check``).
    """
    from common.model.network import initial_arrays  # torch: only where a model is really used

    arrays.check(named, initial_arrays(manifest.model, spec))
    return {name: array.astype("float32") for name, array in named.items()}
