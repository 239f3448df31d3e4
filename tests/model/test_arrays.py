"""Named arrays: order, digest, bytes, and everything refused by name."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from hypothesis.extra.numpy import arrays as numpy_arrays
from safetensors.numpy import save

from common.errors import (
    DtypeMismatch,
    MalformedInput,
    NonFiniteValue,
    OutOfRange,
    ReticentError,
    ShapeMismatch,
    SpecMismatch,
)
from common.model import arrays

values = st.floats(-1e3, 1e3, width=32)
named_arrays = st.dictionaries(
    st.text("abc.é", min_size=1, max_size=6),
    numpy_arrays(np.float32, array_shapes(min_dims=0, max_dims=3, max_side=4), elements=values),
    min_size=1,
    max_size=4,
)
TEMPLATE = {"table": np.zeros((4, 2), np.float32), "bias": np.zeros(1, np.float32)}


def changed(name: str, value: np.ndarray | None) -> dict[str, np.ndarray]:
    named: dict[str, np.ndarray] = {key: array.copy() for key, array in TEMPLATE.items()}
    if value is None:
        del named[name]
    else:
        named[name] = value
    return named


@given(named=named_arrays)
def test_flatten_and_bytes_return_what_went_in(named: arrays.Arrays) -> None:
    vector = arrays.flatten(named)
    assert vector.dtype == np.float64
    assert vector.shape == (arrays.length(named),)
    for back in (arrays.unflatten(vector, named), arrays.from_bytes(arrays.to_bytes(named))):
        arrays.check(back, named)
        assert all(np.array_equal(back[name], named[name]) for name in named)
        assert arrays.digest(back) == arrays.digest(named)


def test_order_is_by_name_not_by_insertion() -> None:
    one = {"b": np.array([2.0, 3.0], np.float32), "a": np.array([[1.0]], np.float32)}
    other = dict(sorted(one.items()))
    assert arrays.flatten(one).tolist() == [1.0, 2.0, 3.0]
    assert arrays.digest(one) == arrays.digest(other)
    assert arrays.to_bytes(one) == arrays.to_bytes(other)


def test_digest_is_pinned() -> None:
    """A change of this value makes every signed model unreadable: raise the version in the header instead."""
    named = {"bias": np.array([0.5], np.float32), "table": np.arange(4, dtype=np.float32).reshape(2, 2)}
    assert arrays.digest(named) == "9e127619de225b61dcb46dc40ffb53e384fce50091b9c33b1495190da73ba088"


def test_digest_does_not_depend_on_memory_layout() -> None:
    table = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = arrays.digest({"t": table})
    assert arrays.digest({"t": np.asfortranarray(table)}) == expected
    assert arrays.digest({"t": table.astype(">f4")}) == expected
    assert arrays.digest({"t": np.repeat(table, 2, axis=1)[:, ::2]}) == expected


@pytest.mark.parametrize(
    "other",
    [
        {"t": np.arange(6, dtype=np.float32).reshape(3, 2)},
        {"u": np.arange(6, dtype=np.float32).reshape(2, 3)},
        {"t": np.arange(6, dtype=np.float64).reshape(2, 3)},
        {"t": np.arange(6, dtype=np.float32).reshape(2, 3) + np.float32(1e-6)},
        {"t": np.arange(6, dtype=np.float32).reshape(2, 3), "u": np.zeros(0, np.float32)},
        {},
    ],
)
def test_digest_changes_with_name_shape_dtype_and_value(other: dict[str, np.ndarray]) -> None:
    assert arrays.digest(other) != arrays.digest({"t": np.arange(6, dtype=np.float32).reshape(2, 3)})


@pytest.mark.parametrize(
    ("named", "error"),
    [
        (changed("bias", None), SpecMismatch),
        (changed("extra", np.zeros(1, np.float32)), SpecMismatch),
        ({}, SpecMismatch),
        (changed("bias", np.zeros(1)), DtypeMismatch),
        (changed("bias", np.zeros(1, np.int64)), DtypeMismatch),
        (changed("bias", np.zeros(1, ">f4")), DtypeMismatch),
        (changed("bias", np.zeros(2, np.float32)), ShapeMismatch),
        (changed("table", np.zeros((2, 4), np.float32)), ShapeMismatch),
        (changed("table", np.full((4, 2), np.nan, np.float32)), NonFiniteValue),
        (changed("bias", np.array([-np.inf], np.float32)), NonFiniteValue),
        (changed("bias", np.array([-1e30], np.float32)), OutOfRange),
    ],
)
def test_wrong_arrays_are_refused_by_name(named: dict[str, np.ndarray], error: type[ReticentError]) -> None:
    with pytest.raises(error):
        arrays.check(named, TEMPLATE)


def test_right_arrays_pass() -> None:
    arrays.check(changed("bias", np.array([arrays.WEIGHT_LIMIT], np.float32)), TEMPLATE)


@pytest.mark.parametrize("length", [0, 8, 10])
def test_a_vector_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ShapeMismatch):
        arrays.unflatten(np.zeros(length), TEMPLATE)


WHOLE = arrays.to_bytes(TEMPLATE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        WHOLE[:-1],
        WHOLE[:20],
        WHOLE + b"\0",
        pickle.dumps(TEMPLATE),
        b"\xff" * 64,
    ],
)
def test_bytes_that_are_not_safetensors_are_refused(data: bytes) -> None:
    with pytest.raises(MalformedInput):
        arrays.from_bytes(data)


def test_other_dtypes_survive_the_bytes_and_fail_the_check() -> None:
    """bytes → check is the order of use: a float64 model is named as such, not silently narrowed."""
    wide = save({name: array.astype(np.float64) for name, array in TEMPLATE.items()})
    with pytest.raises(DtypeMismatch):
        arrays.check(arrays.from_bytes(wide), TEMPLATE)
