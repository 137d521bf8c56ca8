"""Weights and mask among the arrays of a checkpoint: those of this model, or a refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmpi.checkpoint import CheckpointError
from fedmpi.checkpoint.contents import checked_weights, stored_mask
from fedmpi.pruning.mask import Mask

PLACE = Path("run/checkpoint/round-00000001")


def test_weights_of_the_model_are_taken() -> None:
    weights = np.arange(5, dtype=np.float32)
    assert checked_weights(PLACE, {"weights": weights, "other": np.zeros(2)}, 5) is weights


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, "no weights"),
        ({"weights": np.zeros(5)}, r"float64 weights of shape \(5,\)"),
        ({"weights": np.zeros(4, np.float32)}, r"float32 weights of shape \(4,\)"),
        ({"weights": np.zeros((5, 1), np.float32)}, r"float32 weights of shape \(5, 1\)"),
    ],
)
def test_other_weights_are_refused(arrays: dict[str, np.ndarray], found: str) -> None:
    with pytest.raises(CheckpointError, match=rf"round-00000001: holds {found}, the model has 5 in float32"):
        checked_weights(PLACE, arrays, 5)


def test_a_mask_is_that_of_the_model() -> None:
    active = np.arange(11) % 3 > 0
    arrays = {"mask": Mask.of(active).to_bits()}
    found = stored_mask(PLACE, arrays, 11)
    assert found is not None
    np.testing.assert_array_equal(found.flags(), active)
    assert stored_mask(PLACE, {"weights": np.zeros(3)}, 11) is None
    with pytest.raises(CheckpointError, match="round-00000001: holds no mask of 17 parameters"):
        stored_mask(PLACE, arrays, 17)
