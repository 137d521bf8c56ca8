"""The links of all clients in one direction: what their messages take, one after another or at once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from math import inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation import link_sharing
from fedmpi.emulation.rate_table import RateTable
from fedmpi.emulation.shared_link import SharedLink
from fedmpi.emulation.stepwise import Pieces, StepwiseRate, arrival_of, slower
from fedmpi.emulation.tcp import FLUID, Transport, start_pieces

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


_MANY = 50
"""From so many different messages on, those that have links to themselves are solved with numpy, all at once."""


@dataclass(frozen=True)
class Links:
    """Links of N clients to the server, or from it. Arrays are read-only, in client order.

    ``bytes_per_s`` float64 (N,): each client's rate, of one that varies the mean over its loop; ``server_bytes_per_s``:
    what all share. Rates may be inf. Client c follows ``traces[trace_of[c]]``, and is ``shift_s[c]`` into it when
    emulated time begins (both (N,), empty without traces). ``files`` and ``left_out`` name where traces are from.
    """

    bytes_per_s: FloatArray
    server_bytes_per_s: float = inf
    transport: Transport = FLUID
    traces: tuple[StepwiseRate, ...] = ()
    trace_of: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    shift_s: FloatArray = field(default_factory=lambda: np.zeros(0))
    files: tuple[Path, ...] = field(default=(), compare=False)
    left_out: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, np.ndarray):
                value.setflags(write=False)

    @property
    def vary(self) -> bool:
        """Whether durations depend on when a message starts."""
        return bool(self.traces)

    def payload_bytes_per_s(self, clients: NDArray[np.integer]) -> FloatArray:
        """Bytes of messages per second (n,) where ``clients`` (n,) share the server's link evenly: means over loops,
        headers taken off, TCP's start left out."""
        shared = self.server_bytes_per_s / len(clients) if len(clients) else inf
        return np.minimum(self.bytes_per_s[clients], shared) / self.transport.overhead

    def peak_payload_bytes_per_s(self, clients: NDArray[np.integer]) -> FloatArray:
        """Bytes of messages per second (n,) at which each of ``clients`` (n,) sends at most, alone on all links."""
        peaks = np.minimum(self._peak_bytes_per_s(clients), self.server_bytes_per_s)
        return np.asarray(peaks / self.transport.overhead)

    def pieces(self, client: int, begin_s: float, round_trip_s: float = 0.0, moment_s: float = 0.0) -> Pieces:
        """The rates that a transfer of ``client`` meets from ``begin_s`` on, counted from the emulated ``moment_s``."""
        if self.traces:
            trace = self.traces[self.trace_of[client]]
            own = trace.pieces(begin_s, moment_s + float(self.shift_s[client]))
        else:
            own = iter([(float(self.bytes_per_s[client]), inf)])
        return slower(own, start_pieces(begin_s, round_trip_s)) if self.transport.tcp else own

    def negligible_bytes(
        self, client: int, begin_s: float, size_bytes: float, moment_s: float = 0.0
    ) -> float:
        """Where such a transfer's rate steps, so many bytes left are none; see ``StepwiseRate.negligible_bytes``."""
        if not self.traces:
            return 0.0
        trace = self.traces[self.trace_of[client]]
        return trace.negligible_bytes(begin_s, size_bytes, moment_s + float(self.shift_s[client]))

    def finish_times(
        self,
        moment_s: float,
        clients: NDArray[np.integer],
        start_s: FloatArray,
        latency_s: FloatArray,
        message_bytes: FloatArray,
    ) -> FloatArray:
        """When the last byte of each message arrives, float64 (n,), in seconds after the emulated ``moment_s``.

        ``start_s`` (n,) counts from there too; ``latency_s`` (n,) holds jitter, and is 0 where nothing is sent. The
        result does not depend on the order of the messages, bit for bit. Raises EmulationError as
        ``link_sharing.finish_times``.
        """
        own = self.bytes_per_s[clients]
        if not (self.traces or self.transport.tcp):
            return link_sharing.finish_times(start_s, latency_s, message_bytes, own, self.server_bytes_per_s)
        begin, size = self._on_the_link(start_s, latency_s, message_bytes)
        round_trip = 2.0 * latency_s
        finish = begin.copy()
        # Equal messages are one of a weight. In sorted order, as ties of moments go by numbers of transfers.
        members: dict[tuple[float, float, float, float, float], list[int]] = {}
        which = self.trace_of[clients] if self.traces else own
        shift = self.shift_s[clients] if self.traces else np.zeros(len(clients))
        columns = (begin, size, which, shift, round_trip)
        for index, key in enumerate(zip(*(column.tolist() for column in columns), strict=True)):
            if key[1] > 0.0:
                members.setdefault(key, []).append(index)
        if not members:
            return finish
        alone = self.never_binds(clients[size > 0.0])
        link = SharedLink(self.server_bytes_per_s)
        groups = [members[key] for key in sorted(members)]
        if self.traces and not self.transport.tcp and len(groups) >= _MANY:
            first = np.array([group[0] for group in groups])
            weight = np.array([len(group) for group in groups])
            following, ahead_s = self.trace_of[clients[first]], moment_s + self.shift_s[clients[first]]
            ends = self._table.arrival_s(following, begin[first], size[first], ahead_s)
            capacity = self.server_bytes_per_s
            if alone or self._table.fit_into(capacity, following, begin[first], ends, ahead_s, weight):
                finish[np.concatenate(groups)] = np.repeat(ends, weight)
                return finish
        for group in groups:
            one = group[0]
            client, start, left = int(clients[one]), float(begin[one]), float(size[one])
            if alone and not self.transport.tcp:
                trace = self.traces[self.trace_of[client]]
                finish[group] = trace.arrival_s(start, left, moment_s + float(self.shift_s[client]))
                continue
            pieces = self.pieces(client, start, float(round_trip[one]), moment_s)
            least = self.negligible_bytes(client, start, left, moment_s)
            if alone:
                finish[group] = arrival_of(start, left, pieces, least)
            else:
                link.add(start, left, pieces, len(group), least)
        for moment, number in [] if alone else link.advance():
            finish[groups[number]] = moment
        return finish

    @cached_property
    def _table(self) -> RateTable:
        return RateTable.of(self.traces)

    def until(
        self,
        moment_s: float,
        clients: NDArray[np.integer],
        start_s: FloatArray,
        latency_s: FloatArray,
        message_bytes: FloatArray,
        stop_s: FloatArray,
    ) -> tuple[FloatArray, FloatArray]:
        """As ``finish_times``, of messages that are given up at ``stop_s`` (n,), whatever has not arrived by then.

        When the last byte arrives, float64 (n,), inf where it is given up before; and how many bytes of each message
        have arrived, float64 (n,). What is given up leaves its share of the server's link to the others.
        """
        begin, size = self._on_the_link(start_s, latency_s, message_bytes)
        finish, moved = np.full(len(clients), inf), np.zeros(len(clients))
        nothing = (size == 0.0) & (begin <= stop_s)
        finish[nothing] = begin[nothing]
        link = SharedLink(self.server_bytes_per_s)
        # In an order that the messages' own does not change, as ties of moments go by numbers of transfers.
        order = [
            i for i in np.lexsort((clients, size, begin)).tolist() if size[i] > 0.0 and begin[i] < stop_s[i]
        ]
        for index in order:
            client, start, left = int(clients[index]), float(begin[index]), float(size[index])
            pieces = self.pieces(client, start, 2.0 * float(latency_s[index]), moment_s)
            link.add(
                start, left, pieces, negligible_bytes=self.negligible_bytes(client, start, left, moment_s)
            )
        given_up: dict[float, list[int]] = {inf: []}
        for number, index in enumerate(order):
            if stop_s[index] < inf:
                given_up.setdefault(float(stop_s[index]), []).append(number)
        for stop in sorted(given_up):
            for moment, number in link.advance(stop):
                finish[order[number]], moved[order[number]] = moment, size[order[number]]
            for number in given_up[stop]:
                if finish[order[number]] == inf:
                    moved[order[number]] = link.remove(number)
        return finish, moved / self.transport.overhead

    def _on_the_link(
        self, start_s: FloatArray, latency_s: FloatArray, message_bytes: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """When the first byte of each message arrives, and how many bytes it is on the link, headers included."""
        link_sharing.check_transfers(start_s, latency_s, message_bytes)
        return start_s + self.transport.waits * latency_s, message_bytes * self.transport.overhead

    def never_binds(self, clients: NDArray[np.integer]) -> bool:
        """Whether the server's link is wide enough for the highest rates of all these clients at once."""
        peaks = self._peak_bytes_per_s(clients)
        return self.server_bytes_per_s == inf or float(np.sort(peaks).sum()) <= self.server_bytes_per_s

    def _peak_bytes_per_s(self, clients: NDArray[np.integer]) -> FloatArray:
        if not self.traces:
            return self.bytes_per_s[clients]
        return np.array([trace.peak_bytes_per_s for trace in self.traces])[self.trace_of[clients]]
