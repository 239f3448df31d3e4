"""Memory used again: whose it is, and what records may share with the examples they were made from."""

import dataclasses

import numpy as np
import pytest
import torch

from client.training.datasets import lay_out
from client.training.workspace import Workspace
from tests.training.cohorts import CPU
from tests.training.worlds import make_examples, make_spec


def test_a_name_is_one_piece_of_memory_whatever_the_shape() -> None:
    space = Workspace(torch.empty(0))
    large = space.take("a", 4, 6)
    assert space.take("a", 4, 6) is large
    small = space.take("a", 2, 3)
    assert small.shape == (2, 3)
    assert small.data_ptr() == large.data_ptr() == space.take("a", 4, 6).data_ptr()
    assert space.take("a", 5, 6).data_ptr() != large.data_ptr()
    assert space.take("b", 2, 3).data_ptr() != small.data_ptr()


def test_nobody_else_gets_what_is_lent() -> None:
    space = Workspace(torch.empty(0))
    lent = space.lend("a", 3, 2)
    assert space.take("a", 3, 2).data_ptr() != lent.data_ptr()
    space.give_back("a", lent)
    assert space.lend("a", 3, 2).data_ptr() == lent.data_ptr()


@pytest.mark.parametrize("writeable", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_records_share_memory_only_with_examples_that_may_be_written(writeable: bool, weight: float) -> None:
    """torch warns of read-only memory, and warnings are errors here."""
    spec = make_spec()
    examples = make_examples(spec, 5)
    examples = dataclasses.replace(examples, numeric=examples.numeric.copy(), categorical=examples.categorical.copy())
    for array in (examples.numeric, examples.categorical):
        array.flags.writeable = writeable
    records = lay_out(examples, spec, contextual_weight=weight, device=CPU)
    np.testing.assert_array_equal(records.numeric[:, 0], examples.numeric)
    np.testing.assert_array_equal(records.categorical[:, 0], examples.categorical)
    shared = np.shares_memory(records.numeric.numpy(), examples.numeric)
    assert shared == (writeable and not weight)
