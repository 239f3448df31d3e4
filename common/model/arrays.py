"""Named model arrays. Owns their order, bytes and digest, and what is refused before a model is used; never pickle.

A model travels as ``{name: float32 array}``. Wherever arrays become one vector, names are taken in sorted order, so a
position of the vector means the same weight on every device and on the server.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from common.errors import DtypeMismatch, MalformedInput, NonFiniteValue, OutOfRange, ShapeMismatch, SpecMismatch

FloatArray = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]
Arrays = dict[str, FloatArray]

# No honest weight comes near. Below it no forward or backward pass can overflow float32, so whether a gradient is
# finite never depends on what a device holds: a hostile model cannot read that off a refusal.
WEIGHT_LIMIT = 1e4
SIZE_BYTES_MAX = 256 * 1024 * 1024


def check(named: Mapping[str, npt.NDArray[np.generic]], template: Mapping[str, FloatArray]) -> None:
    """Raise unless ``named`` has exactly the names, dtypes and shapes of ``template`` and sane values.

    Raises:
        SpecMismatch: names are missing or unknown: another network than the specification's.
        DtypeMismatch: an array is not float32.
        ShapeMismatch: an array has another shape.
        NonFiniteValue: an array holds NaN or infinity.
        OutOfRange: a weight lies beyond ``WEIGHT_LIMIT``.
    """
    if named.keys() != template.keys():
        missing, unknown = len(template.keys() - named.keys()), len(named.keys() - template.keys())
        raise SpecMismatch(f"the arrays are of another network: {missing} names are missing, {unknown} are unknown")
    for name, expected in template.items():
        array = named[name]
        if array.dtype != expected.dtype:
            raise DtypeMismatch(f"{name}: expected {expected.dtype}, got {array.dtype}")
        if array.shape != expected.shape:
            raise ShapeMismatch(f"{name}: expected shape {expected.shape}, got {array.shape}")
        if not np.isfinite(array).all():
            raise NonFiniteValue(f"{name}: holds NaN or infinity")
        if array.size and float(np.abs(array).max()) > WEIGHT_LIMIT:
            raise OutOfRange(f"{name}: a weight lies beyond ±{WEIGHT_LIMIT:g}")


def length(template: Mapping[str, FloatArray]) -> int:
    """Number d of weights."""
    return sum(array.size for array in template.values())


def flatten(named: Mapping[str, FloatArray]) -> Vector:
    """All weights as one float64 vector ``[d]``, names in sorted order, each array in C order."""
    parts = [np.asarray(named[name], np.float64).reshape(-1) for name in sorted(named)]
    return np.concatenate(parts) if parts else np.zeros(0)


def unflatten(vector: npt.NDArray[np.floating], template: Mapping[str, FloatArray]) -> Arrays:
    """The inverse of ``flatten``: fresh float32 arrays with the names and shapes of ``template``.

    Raises:
        ShapeMismatch: the vector does not have the template's length.
    """
    if vector.shape != (length(template),):
        raise ShapeMismatch(f"expected a vector of {length(template)} weights, got shape {vector.shape}")
    named: Arrays = {}
    start = 0
    for name in sorted(template):
        stop = start + template[name].size
        named[name] = np.array(vector[start:stop], np.float32).reshape(template[name].shape)
        start = stop
    return named


def digest(named: Mapping[str, npt.NDArray[np.generic]]) -> str:
    """SHA-256 over names, dtypes, shapes and little-endian values, hex; independent of insertion order and machine."""
    little = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in named.items()}
    header = [[name, little[name].dtype.str, list(named[name].shape)] for name in sorted(little)]
    state = hashlib.sha256(json.dumps(["reticent-arrays-1", header], separators=(",", ":")).encode())
    for name in sorted(little):
        state.update(b"\n" + little[name].tobytes())
    return state.hexdigest()


def to_bytes(named: Mapping[str, FloatArray]) -> bytes:
    """The arrays as safetensors bytes, names in sorted order."""
    return bytes(save_safetensors({name: np.asarray(named[name], order="C") for name in sorted(named)}))


def from_bytes(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """Arrays from safetensors bytes; ``check`` them before use.

    Raises:
        MalformedInput: the bytes are not safetensors, or too many.
    """
    if len(data) > SIZE_BYTES_MAX:
        raise MalformedInput(f"model arrays: at most {SIZE_BYTES_MAX} bytes, got {len(data)}")
    try:
        return dict(load_safetensors(data))
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise MalformedInput(f"model arrays: not safetensors ({type(error).__name__})") from None
