"""The 1,797 handwritten digits of 8 x 8 pixels that come with scikit-learn (Alpaydin and Kaynak 1998)."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fedmpi.learning.datasets.dataset import DataError, Dataset
from fedmpi.numerics.streams import Purpose, generator

_TEST_FRACTION = 0.2
_SPLIT_SEED = 0
_LARGEST_VALUE = 16
_FILE = Path("datasets", "data", "digits.csv.gz")
"""Where scikit-learn keeps them: a row of 64 pixels and the label. Importing it would cost seconds and 90 MB a rank."""


def load_digits(folder: Path | None = None) -> Dataset:
    """Digits 0-9 as float32 (n, 1, 8, 8); a fixed fifth of every class is the test set. No ``folder`` is read."""
    del folder
    rows = np.loadtxt(_bundled_file(), delimiter=",")
    x = (rows[:, :-1] / _LARGEST_VALUE).astype(np.float32).reshape(-1, 1, 8, 8)
    y = rows[:, -1].astype(np.int64)
    draw = generator(_SPLIT_SEED, Purpose.TEST_SPLIT)
    is_test = np.zeros(y.size, dtype=bool)
    for label in range(10):
        members = draw.permutation(np.flatnonzero(y == label))
        is_test[members[: round(_TEST_FRACTION * members.size)]] = True
    return Dataset(x[~is_test], y[~is_test], None, x[is_test], y[is_test], classes=10)


def _bundled_file() -> Path:
    """The file among scikit-learn's own. Raises DataError where it is missing."""
    found = find_spec("sklearn")
    for folder in (found.submodule_search_locations if found is not None else None) or ():
        if (Path(folder) / _FILE).is_file():
            return Path(folder) / _FILE
    where = "scikit-learn is not installed" if found is None else f"{found.origin} has no {_FILE} beside it"
    raise DataError(f"data.dataset: digits come with scikit-learn, but {where}; pip install scikit-learn")
