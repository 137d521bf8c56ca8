"""A fleet from a CSV file: one device for each client, with its link and its cost of a local step."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from math import isinf, nan
from pathlib import Path
from typing import Any

from fedmpi.config.errors import shortened
from fedmpi.config.ranges import RATE_OR_INF, SECONDS_OR_ZERO
from fedmpi.emulation.bandwidth import BYTES_PER_S_PER_MBIT_PER_S
from fedmpi.emulation.errors import EmulationError, unknown_name
from fedmpi.emulation.profiles import Device, StepCost

COLUMNS = (
    "name",
    "uplink_mbit_per_s",
    "downlink_mbit_per_s",
    "latency_s",
    "constant_s",
    "seconds_per_parameter",
)


def read_devices(path: Path, clients: int) -> tuple[tuple[Device, ...], tuple[float, ...]]:
    """The device and the latency (seconds) of each client, in the order of the file's rows.

    The first line names the columns, in any order: ``name``; the link's ``uplink_mbit_per_s`` and
    ``downlink_mbit_per_s`` (or inf) and ``latency_s``; ``constant_s`` and
    ``seconds_per_parameter`` of one local step at the experiment's own batch size. Lines without any text
    are skipped.

    Raises EmulationError that names file, line and column for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the file's name
        raise EmulationError(f"emulation.compute.profile: {path} cannot be read: {error}") from error
    reader = csv.reader(text.splitlines())
    rows = _rows(reader, path)
    header = [name.strip() for name in next(rows, [])]
    for name in header:
        if name not in COLUMNS:
            raise unknown_name(f"{path}, line 1, columns", name, COLUMNS)
    if sorted(header) != sorted(COLUMNS):
        missing = [name for name in COLUMNS if name not in header]
        what = f"no column {', '.join(missing)}" if missing else "a column stands there twice"
        raise EmulationError(f"{path}, line 1: {what}; needed, once each: {', '.join(COLUMNS)}")
    devices, latencies = [], []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        where = f"{path}, line {reader.line_num}"
        if len(row) != len(COLUMNS):
            raise EmulationError(f"{where}: found {len(row)} columns; needed: {len(COLUMNS)}")
        cells = dict(zip(header, (cell.strip() for cell in row), strict=True))
        devices.append(_device(cells, where))
        latencies.append(_number(cells, "latency_s", where, rate=False))
    if len(devices) != clients:
        raise EmulationError(
            f"{path}: found {len(devices)} devices; needed: one for each of {clients} clients"
        )
    return tuple(devices), tuple(latencies)


def _rows(reader: Any, path: Path) -> Iterator[list[str]]:
    try:
        yield from reader
    except csv.Error as error:  # such as a field of more than 131,072 characters
        raise EmulationError(f"{path}, line {reader.line_num}: no CSV ({error})") from error


def _device(cells: dict[str, str], where: str) -> Device:
    if not cells["name"]:
        raise EmulationError(f"{where}, column name: empty; needed: the name of a device")
    constant_s = _number(cells, "constant_s", where, rate=False)
    seconds_per_parameter = _number(cells, "seconds_per_parameter", where, rate=False)
    uplink = _number(cells, "uplink_mbit_per_s", where, rate=True)
    downlink = _number(cells, "downlink_mbit_per_s", where, rate=True)
    return Device(
        name=cells["name"],
        source=where,
        generic=StepCost(constant_s, (seconds_per_parameter,)),
        uplink_bytes_per_s=uplink * BYTES_PER_S_PER_MBIT_PER_S,
        downlink_bytes_per_s=downlink * BYTES_PER_S_PER_MBIT_PER_S,
    )


def _number(cells: dict[str, str], column: str, where: str, rate: bool) -> float:
    text = cells[column]
    try:
        value = float(text)
    except ValueError:
        value = nan
    if isinf(value) and "inf" not in text.lower():  # 1e400 is no way to say that there is no limit
        value = nan
    allowed = RATE_OR_INF if rate else SECONDS_OR_ZERO
    if not allowed.holds(value):
        found = shortened(repr(text))
        raise EmulationError(f"{where}, column {column}: found {found}; allowed: {allowed.allowed}")
    return value
