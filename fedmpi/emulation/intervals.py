"""Availability by intervals from a file: when each client is there, once or over and over again."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import floor, inf, isfinite, nextafter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.emulation_schema import AvailabilityConfig
from fedmpi.emulation.availability import AvailabilityModel, Setup
from fedmpi.emulation.errors import EmulationError

FloatArray = NDArray[np.float64]

COLUMNS = ("client", "on_s", "off_s")


@dataclass(frozen=True)
class Intervals:
    """When clients are there: arrays (M,), by client and then by time; intervals of a client neither overlap nor touch.

    ``on_s`` belongs to an interval, ``off_s`` does not. They repeat every ``period_s`` (inf: never). ``clients`` is N.
    """

    client: NDArray[np.int64]
    on_s: FloatArray
    off_s: FloatArray
    period_s: float
    clients: int

    def within(self, moment_s: float) -> tuple[float, float]:
        """The start of the period in which ``moment_s`` lies, and the seconds since then."""
        if self.period_s == inf:
            return 0.0, moment_s
        base = floor(moment_s / self.period_s) * self.period_s
        # Rounding may put the moment just outside of its period.
        return base, min(max(moment_s - base, 0.0), nextafter(self.period_s, 0.0))

    def there(self, moment_s: float) -> NDArray[np.bool_]:
        """Who is there at ``moment_s``, bool (N,)."""
        _, time = self.within(moment_s)
        flags = np.zeros(self.clients, np.bool_)
        flags[self.client[(self.on_s <= time) & (time < self.off_s)]] = True
        return flags

    def next_s(self, moment_s: float) -> float:
        """The first moment after ``moment_s`` at which a client comes; inf: none does any more."""
        base, time = self.within(moment_s)
        later = self.on_s[self.on_s > time]
        first = base + (later.min() if later.size else self.period_s + self.on_s.min())
        return float(max(first, nextafter(moment_s, inf)))

    def leaves_s(self, moment_s: float) -> FloatArray:
        """When those who are there at ``moment_s`` go, float64 (N,); inf: never, and for those who are not there.

        An interval up to the period's end goes on in one at its start.
        """
        base, time = self.within(moment_s)
        leaving = np.full(self.clients, inf)
        now = (self.on_s <= time) & (time < self.off_s)
        leaving[self.client[now]] = base + self.off_s[now]
        if self.period_s < inf:
            goes_on = np.full(self.clients, 0.0)
            at_start = self.on_s == 0.0
            goes_on[self.client[at_start]] = self.off_s[at_start]
            who = self.client[now & (self.off_s == self.period_s)]
            leaving[who] = base + self.period_s + goes_on[who]
            leaving[who[goes_on[who] == self.period_s]] = inf
        return leaving


def read_intervals(path: Path, clients: int, period_s: float = inf) -> Intervals:
    """The intervals in a CSV file with columns client, on_s, off_s, in any order of lines.

    Clients without a line are never there. Raises EmulationError that names file and line: text that is no number, a
    client that does not exist, an interval that ends before it begins, overlaps another one of its client, or goes
    beyond the period; or a file without intervals.
    """
    rows = _rows(path, clients, period_s)
    rows.sort()
    merged: list[tuple[int, float, float]] = []
    before_line = 0
    for client, on, off, line in rows:
        if merged and merged[-1][0] == client and on < merged[-1][2]:
            raise EmulationError(
                f"{path}, line {line}: found {on:g} to {off:g}, which overlaps line {before_line}, "
                f"{merged[-1][1]:g} to {merged[-1][2]:g}; allowed: intervals of client {client} apart from each other"
            )
        if merged and merged[-1][0] == client and on == merged[-1][2]:
            merged[-1] = (client, merged[-1][1], off)
        else:
            merged.append((client, on, off))
        before_line = line
    which, on_s, off_s = zip(*merged, strict=True)
    return Intervals(
        np.array(which, np.int64), np.array(on_s, np.float64), np.array(off_s, np.float64), period_s, clients
    )


def _rows(path: Path, clients: int, period_s: float) -> list[tuple[int, float, float, int]]:
    rows: list[tuple[int, float, float, int]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None or tuple(name.strip() for name in header) != COLUMNS:
                found = "an empty file" if header is None else repr(",".join(header)[:80])
                raise EmulationError(
                    f"{path}, line 1: found {found}; allowed: the header {','.join(COLUMNS)}"
                )
            for fields in reader:
                if fields:
                    rows.append(
                        _row(fields, f"{path}, line {reader.line_num}", clients, period_s, reader.line_num)
                    )
    except OSError as error:
        raise EmulationError(
            f"emulation.availability.path: {path} cannot be read: {error.strerror}; allowed: a CSV file with columns "
            f"{', '.join(COLUMNS)}"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EmulationError(f"{path}: found no text in UTF-8 ({error}); allowed: a CSV file") from error
    if not rows:
        raise EmulationError(f"{path}: found no interval; allowed: a line for each interval of a client")
    return rows


def _row(
    fields: list[str], where: str, clients: int, period_s: float, line: int
) -> tuple[int, float, float, int]:
    if len(fields) != len(COLUMNS):
        raise EmulationError(f"{where}: found {len(fields)} fields; allowed: {', '.join(COLUMNS)}")
    text = fields[0].strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < clients):
        raise EmulationError(
            f"{where}: found client {fields[0][:40]!r}; allowed: a client from 0 to {clients - 1}"
        )
    on, off = (_seconds(field, name, where) for field, name in zip(fields[1:], COLUMNS[1:], strict=True))
    if not on < off:
        raise EmulationError(f"{where}: found on_s {on:g} and off_s {off:g}; allowed: off_s above on_s")
    if off > period_s:
        raise EmulationError(f"{where}: found off_s {off:g}; allowed: at most period_s = {period_s:g}")
    return int(text), on, off, line


def _seconds(text: str, name: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not (isfinite(value) and 0.0 <= value <= 1e18):
        raise EmulationError(f"{where}: found {name} {text[:40]!r}; allowed: seconds, 0 or more")
    return value


def _prepare(section: AvailabilityConfig, clients: int) -> Intervals:
    return read_intervals(Path(section.path), clients, section.period_s)


def _of(setup: Setup) -> Intervals:
    assert isinstance(setup.prepared, Intervals)
    return setup.prepared


def _available(setup: Setup, round_index: int, start_s: float) -> NDArray[np.bool_]:
    return _of(setup).there(start_s)


def _next(setup: Setup, round_index: int, start_s: float) -> float:
    return _of(setup).next_s(start_s)


def _leaves(setup: Setup, round_index: int, start_s: float) -> FloatArray:
    return _of(setup).leaves_s(start_s)


INTERVALS = AvailabilityModel(
    summary="each client is there in the intervals of a CSV file, `path`, which repeat every `period_s`",
    available=_available,
    next_s=_next,
    leaves_s=_leaves,
    prepare=_prepare,
)
