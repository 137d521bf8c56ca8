"""The tables of a trace as they lie in the file, and which rows belong to which round and mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.trace import Status, TraceError
from fedmpi.trace.reader import read_rows
from fedmpi.trace.schema import SCHEMA_VERSION

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Recorded:
    """The tables of a trace as they lie in the file, and where rows belong.

    ``bounds`` (R + 1,): the rows of round r in ``clients`` are ``bounds[r]`` to ``bounds[r + 1]``; ``mask_of`` (R,):
    the row of ``active`` (masks, layers) with the active parameters of each layer in the round.
    """

    path: Path
    attributes: Mapping[str, Any]
    tables: Mapping[str, np.ndarray]
    bounds: IntArray
    mask_of: IntArray
    active: IntArray

    @property
    def rounds(self) -> np.ndarray:
        return self.tables["rounds"]

    @property
    def clients(self) -> np.ndarray:
        return self.tables["clients"]

    def first(self, rounds: int) -> Recorded:
        """The part of the first ``rounds`` of the rows of ``rounds``."""
        cut = {"rounds": self.rounds[:rounds], "clients": self.clients[: self.bounds[rounds]]}
        return replace(
            self,
            tables={**self.tables, **cut},
            bounds=self.bounds[: rounds + 1],
            mask_of=self.mask_of[:rounds],
        )

    @property
    def staying(self) -> BoolArray:
        """Whose updates were in time, taken or rejected, bool (n,), of all rows of ``clients``."""
        return np.isin(self.clients["status"], (Status.OK, Status.REJECTED))


def read_recorded(path: Path, checked: bool = True) -> Recorded:
    """The trace at ``path``, or in the run folder. Raises TraceError for one that cannot be read, or is of version 1.

    Unless ``checked``, checksums are not compared.
    """
    attributes, tables = read_rows(path, checked)
    if (version := attributes["schema_version"]) != SCHEMA_VERSION:
        raise TraceError(f"{path}: schema version {version}, which does not say what the devices were")
    numbers, of_clients = tables["rounds"]["round"], tables["clients"]["round"]
    if (np.diff(numbers) != 1).any() or (np.diff(of_clients) < 0).any():
        raise TraceError(f"{path}: damaged: rounds are not numbered one after the other")
    bounds = np.searchsorted(of_clients, np.append(numbers, numbers[-1] + 1 if len(numbers) else 0))
    who = tables["clients"]["client"]
    if ((who < 0) | (who >= attributes["clients"])).any():
        raise TraceError(
            f"{path}: damaged: a row of the table clients is of none of {attributes['clients']} clients"
        )
    layers, count = tables["layers"], len(attributes["layer_names"])
    if count == 0 or len(layers) % count or (layers["layer"] != np.arange(len(layers)) % count).any():
        raise TraceError(f"{path}: damaged: the table layers does not have every layer of each mask")
    mask_of = np.searchsorted(layers["round"][::count], numbers, side="right") - 1
    if (mask_of < 0).any():
        raise TraceError(f"{path}: damaged: the table layers does not have the mask of the first round")
    return Recorded(path, attributes, tables, bounds, mask_of, layers["active"].reshape(-1, count))
