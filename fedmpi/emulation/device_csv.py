"""Fleets in CSV files: one device for each client, with its link, what its steps take, and its powers."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from math import inf, isinf, isnan, nan
from pathlib import Path
from typing import Any

from fedmpi.config.errors import shortened
from fedmpi.config.ranges import FLOPS_PER_S, RATE_OR_INF, SECONDS_OR_ZERO, WATTS, Range
from fedmpi.emulation.bandwidth import BYTES_PER_S_PER_MBIT_PER_S
from fedmpi.emulation.errors import EmulationError, unknown_name
from fedmpi.emulation.profiles import POWERS, Device, Figures, Powers, StepCost

LINK = {"uplink_mbit_per_s": RATE_OR_INF, "downlink_mbit_per_s": RATE_OR_INF, "latency_s": SECONDS_OR_ZERO}
STEP = {"constant_s": SECONDS_OR_ZERO, "seconds_per_parameter": SECONDS_OR_ZERO}
FIGURES = {"overhead_s": SECONDS_OR_ZERO, "flops_per_s": FLOPS_PER_S}
POWER = dict.fromkeys(POWERS, WATTS)
COLUMNS: Mapping[str, Range] = LINK | STEP | FIGURES | POWER
"""Every column but ``name``, with the numbers in it."""


def of_file(profile: str | Mapping[str, float]) -> bool:
    """Whether ``emulation.compute.profile`` names a CSV file."""
    return isinstance(profile, str) and profile.lower().endswith(".csv")


def read_devices(path: Path, clients: int) -> tuple[tuple[Device, ...], tuple[float, ...]]:
    """The device and the latency (seconds) of each client, in the order of the file's rows.

    The first line names the columns, in any order. Needed: ``name``; the link's ``uplink_mbit_per_s`` and
    ``downlink_mbit_per_s`` (or inf) and ``latency_s``; and at least one of two pairs: ``constant_s`` and
    ``seconds_per_parameter`` of one local step at the experiment's own batch size, or ``overhead_s`` and
    ``flops_per_s`` of a step of any model. Allowed: ``idle_w``, ``compute_w``, ``transmit_w``, ``receive_w``, where an
    empty cell is a power that is not known. Lines without any text are skipped.

    Raises EmulationError that names file, line and column for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the file's name
        raise EmulationError(f"emulation.compute.profile: {path} cannot be read: {error}") from error
    reader = csv.reader(text.splitlines())
    rows = _rows(reader, path)
    header = [name.strip() for name in next(rows, [])]
    _check_header(header, path)
    devices, latencies = [], []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) != len(header):
            raise EmulationError(f"{where}: found {len(row)} columns; needed: {len(header)}")
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        devices.append(_device(cells, where))
        latencies.append(_number(cells, "latency_s", where))
    if len(devices) != clients:
        raise EmulationError(
            f"{path}: found {len(devices)} devices; needed: one for each of {clients} clients"
        )
    return tuple(devices), tuple(latencies)


def devices_text(devices: Iterable[Device], latency_s: float) -> str:
    """The CSV text of devices with ``figures``, that ``read_devices`` reads; a link that is None has no limit."""
    out = StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["name", *LINK, *FIGURES, *POWER])
    for device in devices:
        assert device.figures is not None
        rates = (device.uplink_bytes_per_s, device.downlink_bytes_per_s)
        link = [inf if rate is None else rate / BYTES_PER_S_PER_MBIT_PER_S for rate in rates]
        figures = (device.figures.overhead_s, device.figures.flops_per_s)
        watts = [getattr(device.powers, name) for name in POWERS]
        numbers = [f"{value:.6g}" for value in (*link, latency_s, *figures)]
        writer.writerow([device.name, *numbers, *("" if isnan(w) else f"{w:g}" for w in watts)])
    return out.getvalue()


def _check_header(header: list[str], path: Path) -> None:
    known = ("name", *COLUMNS)
    for name in header:
        if name not in known:
            raise unknown_name(f"{path}, line 1, columns", name, known)
    if len(set(header)) != len(header):
        raise EmulationError(f"{path}, line 1: a column stands there twice; needed: each once")
    present = set(header)
    needed = {"name", *LINK}
    for pair in (FIGURES, STEP):
        if present & set(pair):
            needed |= set(pair)
    if not present & {*STEP, *FIGURES}:
        needed |= set(STEP)
    missing = [name for name in known if name in needed - present]
    if missing:
        raise EmulationError(
            f"{path}, line 1: no column {', '.join(missing)}; needed: name, {', '.join(LINK)}, and "
            f"{' and '.join(STEP)} or {' and '.join(FIGURES)}; allowed: {', '.join(POWER)}"
        )


def _rows(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:  # such as a field of more than 131,072 characters
        raise EmulationError(f"{path}, line {reader.line_num}: no CSV ({error})") from error


def _device(cells: dict[str, str], where: str) -> Device:
    if not cells["name"]:
        raise EmulationError(f"{where}, column name: empty; needed: the name of a device")
    generic = figures = None
    if "constant_s" in cells:
        generic = StepCost(
            _number(cells, "constant_s", where), (_number(cells, "seconds_per_parameter", where),)
        )
    if "flops_per_s" in cells:
        figures = Figures(_number(cells, "overhead_s", where), _number(cells, "flops_per_s", where))
    watts = {name: _number(cells, name, where) for name in POWERS if cells.get(name)}
    return Device(
        name=cells["name"],
        source=where,
        generic=generic,
        figures=figures,
        uplink_bytes_per_s=_number(cells, "uplink_mbit_per_s", where) * BYTES_PER_S_PER_MBIT_PER_S,
        downlink_bytes_per_s=_number(cells, "downlink_mbit_per_s", where) * BYTES_PER_S_PER_MBIT_PER_S,
        powers=Powers(**watts),
    )


def _number(cells: dict[str, str], column: str, where: str) -> float:
    text, allowed = cells[column], COLUMNS[column]
    try:
        value = float(text)
    except ValueError:
        value = nan
    if isinf(value) and "inf" not in text.lower():  # 1e400 is no way to say that there is no limit
        value = nan
    if not allowed.holds(value):
        found = shortened(repr(text))
        unknown = ", or nothing where it is not known" if column in POWER else ""
        raise EmulationError(f"{where}, column {column}: found {found}; allowed: {allowed.allowed}{unknown}")
    return value
