"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedmpi.learning.datasets.dataset import Dataset
from fedmpi.numerics.streams import Purpose, generator

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0
_LARGEST_VALUE = 16


def load_digits(folder: Path | None = None) -> Dataset:
    """Digits 0-9 as float32 (n, 1, 8, 8); a fixed fifth of every class is the test set. No ``folder`` is read."""
    del folder
    from sklearn.datasets import (
        load_digits as load_bundled,
    )  # slow to import, and only this data set needs it

    values, labels = load_bundled(return_X_y=True)
    x = (values / _LARGEST_VALUE).astype(np.float32).reshape(-1, 1, 8, 8)
    y = labels.astype(np.int64)
    draw = generator(_SPLIT_SEED, Purpose.TEST_SPLIT)
    is_test = np.zeros(y.size, dtype=bool)
    for label in range(10):
        members = draw.permutation(np.flatnonzero(y == label))
        is_test[members[: round(_TEST_FRACTION * members.size)]] = True
    return Dataset(x[~is_test], y[~is_test], None, x[is_test], y[is_test], classes=10)
