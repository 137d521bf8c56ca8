"""A labelled data set in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

_UINT8_ONE = 255
"""The stored value that means 1.0."""


MOST_CLASSES = 10**6
"""Every class is an output of the model: a label beyond is damaged, or no label."""


class DataError(ValueError):
    """Data that are missing, damaged or inconsistent; names the file, what was found and expected."""


@dataclass(frozen=True)
class Dataset:
    """Training and test samples.

    ``train_x``, ``test_x``: (n, C, H, W), uint8 (0..255, to be taken by ``as_float32``) or float32 in [0, 1];
    ``train_y``, ``test_y``: int64 (n,) in [0, classes); ``train_writer``: int64 (n,), who wrote each training
    sample, or None where that is not known; ``test_writer``: the same of each test sample, by the same numbers, -1 for
    a writer of no training sample.
    """

    train_x: np.ndarray
    train_y: np.ndarray
    train_writer: np.ndarray | None
    test_x: np.ndarray
    test_y: np.ndarray
    classes: int
    test_writer: np.ndarray | None = None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample."""
        channels, height, width = self.train_x.shape[1:]
        return channels, height, width


@overload
def as_float32(x: np.ndarray) -> np.ndarray: ...
@overload
def as_float32(x: Tensor) -> Tensor: ...
def as_float32(x: np.ndarray | Tensor) -> np.ndarray | Tensor:
    """Samples as float32 in [0, 1]: uint8 values divided by 255 (a new array), float32 not copied.

    Arrays and tensors give the same bits. TypeError for any other type of values.
    """
    if isinstance(x, Tensor):
        if x.dtype == torch.uint8:
            return x.to(torch.float32).div_(_UINT8_ONE)
        if x.dtype == torch.float32:
            return x
    elif x.dtype == np.uint8:
        return np.divide(x, np.float32(_UINT8_ONE), dtype=np.float32)
    elif x.dtype == np.float32:
        return x
    raise TypeError(f"samples are {x.dtype}: only uint8 and float32 are allowed")


def inverted(x: np.ndarray) -> np.ndarray:
    """1 - x in the units of ``as_float32``, in place."""
    return np.subtract(_UINT8_ONE if x.dtype == np.uint8 else np.float32(1), x, out=x)
