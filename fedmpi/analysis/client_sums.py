"""What the rows of participants add up to, by round and by client: of a trace of any size, some rounds at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmpi.analysis.looks import PARTS
from fedmpi.trace import Status, Trace, TraceError, rows_of_clients

_ROWS_AT_ONCE = 2**18

Rows = Callable[[int, int], pd.DataFrame]
"""``rows(first, last)``: the participants of these rounds, columns as in the table ``clients``."""


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums by round or by client, n of them: ``rows`` int64 (n,), ``part_s`` (4, n) in seconds of each of PARTS,
    ``energy_j`` (n,), NaN where that of a row is not known, ``statuses`` int64 (statuses, n), how many rows have each.
    """

    rows: NDArray[np.int64]
    part_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    statuses: NDArray[np.int64]

    @classmethod
    def nothing(cls, count: int) -> Sums:
        """Sums without any row yet."""
        floats = np.zeros((len(PARTS), count)), np.zeros(count)
        return cls(np.zeros(count, np.int64), *floats, np.zeros((len(Status), count), np.int64))

    def add(self, places: NDArray[np.int64], rows: pd.DataFrame) -> None:
        """Add ``rows``, each at its place among the n."""
        count = len(self.rows)
        self.rows[:] += np.bincount(places, minlength=count)
        for sums, column in zip(self.part_s, PARTS, strict=True):
            sums += np.bincount(places, weights=rows[column].to_numpy(np.float64), minlength=count)
        if "energy_j" in rows:
            energy_j = rows["energy_j"].to_numpy(np.float64)
            self.energy_j[:] += np.bincount(places, weights=energy_j, minlength=count)
        codes = rows["status"].cat.codes.to_numpy(np.int64)
        counts = np.bincount(codes * count + places, minlength=self.statuses.size)
        self.statuses[:] += counts.reshape(self.statuses.shape)

    def at(self, places: NDArray[np.int64]) -> Sums:
        """Those at some places."""
        return Sums(
            self.rows[places], self.part_s[:, places], self.energy_j[places], self.statuses[:, places]
        )


@dataclass(frozen=True, eq=False)
class ClientSums:
    """Sums over the participants of a trace: ``by_round``, in the order of the table ``rounds``, and ``by_client``, of
    the ``client`` numbers (M,), rising, of those that took part.

    ``has_energy``: whether the energy of any row is known. ``federated`` rows are not of initial pruning, and took
    ``federated_s`` (4,) seconds in each of PARTS; of those that were accepted there are ``counted`` (M,), with
    ``entries_used`` (M,); of ``none_used`` no entry was used.
    """

    by_round: Sums
    client: NDArray[np.int64]
    by_client: Sums
    has_energy: bool
    federated: int
    federated_s: NDArray[np.float64]
    counted: NDArray[np.int64]
    entries_used: NDArray[np.int64]
    none_used: int


_known: WeakKeyDictionary[Trace, ClientSums] = WeakKeyDictionary()


def sums_of(trace: Trace) -> ClientSums:
    """The sums of a trace, made once. Raises TraceError where rows are read from its file and that is damaged."""
    if trace not in _known:
        with rows_of(trace) as rows:
            _known[trace] = _added(trace, rows)
    return _known[trace]


@contextmanager
def rows_of(trace: Trace) -> Iterator[Rows]:
    """The participants of some rounds of a trace, from its table or, where that was left in it, from its file."""
    if trace.whole:
        clients = trace.clients
        numbers = clients["round"].to_numpy()
        order = None if (np.diff(numbers) >= 0).all() else np.argsort(numbers, kind="stable")
        ordered = numbers if order is None else numbers[order]

        def rows(first: int, last: int) -> pd.DataFrame:
            begin, end = np.searchsorted(ordered, [first, last + 1])
            return clients.iloc[begin:end] if order is None else clients.iloc[order[begin:end]]

        yield rows
    else:
        with rows_of_clients(trace) as rows_in_file:
            yield rows_in_file


def _added(trace: Trace, rows: Rows) -> ClientSums:
    numbers = trace.rounds["round"].to_numpy()
    count = max(
        int(trace.attributes["clients"]), int(trace.clients["client"].max()) + 1 if len(trace.clients) else 0
    )
    by_round, by_client = Sums.nothing(len(numbers)), Sums.nothing(count)
    counted, entries_used = np.zeros(count, np.int64), np.zeros(count, np.int64)
    federated, none_used, has_energy, federated_s = 0, 0, False, np.zeros(len(PARTS))
    for first, last in _some_rounds(trace):
        some = rows(first, last)
        clients = some["client"].to_numpy()
        if len(clients) and not 0 <= clients.min() <= clients.max() < count:
            raise TraceError(
                f"{trace.path}: damaged: a row of the table clients is of none of {count} clients"
            )
        by_round.add(np.searchsorted(numbers, some["round"].to_numpy()), some)
        by_client.add(clients, some)
        has_energy |= "energy_j" in some and bool(some["energy_j"].notna().any())
        inside = (some["round"] >= 0).to_numpy()
        federated += int(inside.sum())
        federated_s += some.loc[inside, list(PARTS)].to_numpy(np.float64).sum(axis=0)
        accepted = inside & (some["status"] == "ok").to_numpy()
        used = some["entries_used"].to_numpy()[accepted]
        counted += np.bincount(clients[accepted], minlength=count)
        entries_used += np.bincount(clients[accepted], weights=used, minlength=count).astype(np.int64)
        none_used += int((used == 0).sum())
    there = np.flatnonzero(by_client.rows)
    return ClientSums(
        by_round=by_round,
        client=there,
        by_client=by_client.at(there),
        has_energy=has_energy,
        federated=federated,
        federated_s=federated_s,
        counted=counted[there],
        entries_used=entries_used[there],
        none_used=none_used,
    )


def _some_rounds(trace: Trace) -> Iterator[tuple[int, int]]:
    """The first and the last of some rounds after the other, with about so many participants at once as fit into
    little memory; all of them of a trace that is in memory."""
    numbers = trace.rounds["round"].to_numpy()
    if not len(numbers):
        return
    if trace.whole:
        yield int(numbers[0]), int(numbers[-1])
        return
    ends = trace.rounds["participants"].to_numpy().cumsum()
    bounds = np.flatnonzero(np.diff(ends // _ROWS_AT_ONCE, prepend=0))
    for begin, end in zip([0, *bounds], [*bounds, len(numbers)], strict=True):
        if end > begin:
            yield int(numbers[begin]), int(numbers[end - 1])
