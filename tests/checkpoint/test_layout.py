"""The layout of a model survives a checkpoint, and anything else is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from fedmpi.checkpoint import CheckpointError
from fedmpi.checkpoint.layout import layout_of, read_layout
from fedmpi.learning.flat import FlatModel

PLACE = Path("run/checkpoint/round-00000001")


def a_model() -> FlatModel:
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))
    module[3].bias.requires_grad = False
    return FlatModel(module)


def test_tensors_are_found_without_the_model() -> None:
    model = a_model()
    layout = read_layout(PLACE, json.loads(json.dumps(layout_of(model))))
    assert layout.layers == model.layers
    assert layout.length == model.vector.numel()
    state = model.module.state_dict()
    found = layout.tensors(model.vector.numpy())
    assert set(found) | set(layout.others) == set(state)
    assert set(layout.others) == {"3.bias", "1.num_batches_tracked"}
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor, state[name].numpy())


def _changed(**changes: Any) -> Any:
    return {"parameters": [["a", [2, 3], True]], "buffers": [["b", [4]]], "others": ["c"], **changes}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        _changed(parameters=[["a", [2, 3]]]),
        _changed(parameters=[["a", [2, -3], True]]),
        _changed(parameters=[["a", [2, 1.5], True]]),
        _changed(parameters=[["a", "23", True]]),
        _changed(parameters=[["", [2], True]]),
        _changed(parameters=[["b", [2], True]]),
        _changed(parameters=[["a", [2**31 - 1, 2], True]]),
        _changed(buffers=[["b", [2**31]]]),
        _changed(others=[3]),
    ],
)
def test_what_is_no_layout_is_refused(value: Any) -> None:
    assert read_layout(PLACE, _changed()).length == 10
    with pytest.raises(CheckpointError, match=r"round-00000001: the layout of its model"):
        read_layout(PLACE, value)
