"""Pandas frames of the rows of a trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fedmpi.trace.schema import Phase, Status, names

if TYPE_CHECKING:
    import pandas as pd

_ROWS_IN_CACHE = 1024
_MANY_ROWS = 4096
_SHORT_BYTES = 64


def categories_of(attributes: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The names of the codes in columns."""
    return {"phase": names(Phase), "status": names(Status), "layer": attributes["layer_names"]}


def frame_of(rows: np.ndarray, categories: dict[str, Sequence[str]]) -> pd.DataFrame:
    """A frame of structured ``rows`` (n,): columns of ``categories`` (names by code) as such, bytes as texts."""
    import pandas as pd  # takes a second and 30 MB, which the ranks of a run do without

    columns = _columns(rows)

    def column(name: str) -> Any:
        values = columns[name]
        if name in categories:
            return pd.Categorical.from_codes(values.astype(np.int64), categories=list(categories[name]))
        if values.dtype.kind == "S":
            which, different = _different(values)  # few texts stand in many rows
            texts = pd.Series([text.decode("utf-8") for text in different], dtype=str)
            return texts.take(which).array
        return values

    return pd.DataFrame({name: column(name) for name in columns}, copy=False)


def _different(texts: np.ndarray) -> tuple[np.ndarray, list[bytes]]:
    """The different ones among ``texts`` (n,), in the order of their first places, and which each is, int (n,)."""
    if len(texts) < _MANY_ROWS or texts.itemsize > _SHORT_BYTES:
        found = texts.tolist()
        place = {text: n for n, text in enumerate(dict.fromkeys(found))}
        return np.fromiter(map(place.__getitem__, found), np.intp, len(found)), list(place)
    import pandas as pd

    # Eight bytes at a time, as numbers: twice as fast as making an object of each.
    words = texts.view(np.uint64).reshape(len(texts), -1)
    which = np.zeros(len(texts), np.intp)
    for column in words.T[words.any(axis=0)]:
        codes, numbers = pd.factorize(column)
        which, _ = pd.factorize(which * len(numbers) + codes)
    first = np.empty(which.max() + 1, np.intp)
    first[which[::-1]] = np.arange(len(which) - 1, -1, -1)
    return which, texts[first].tolist()


def _columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of rows, each by itself; made block by block, so that rows are fetched from memory once."""
    names = rows.dtype.names or ()
    columns = {name: np.empty(len(rows), rows.dtype[name]) for name in names}
    for start in range(0, len(rows), _ROWS_IN_CACHE):
        block = rows[start : start + _ROWS_IN_CACHE]
        for name, column in columns.items():
            column[start : start + _ROWS_IN_CACHE] = block[name]
    return columns
