"""List the devices that runs know, with their sources, or make a CSV file of devices from a table of phones.

``fedmpi devices`` lists fedmpi's own and the user's. ``fedmpi devices import ai-benchmark FILE -o devices.csv`` writes
a row for each phone, which ``emulation.compute.profile = "devices.csv"`` takes.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from dataclasses import asdict, replace
from math import isnan
from pathlib import Path
from typing import Any

from fedmpi.cli.number_arguments import integer, number
from fedmpi.config import ConfigError
from fedmpi.config.ranges import RATE_OR_INF, SECONDS_OR_ZERO
from fedmpi.emulation.bandwidth import BYTES_PER_S_PER_MBIT_PER_S
from fedmpi.emulation.catalogue import device, device_names
from fedmpi.emulation.device_csv import devices_text
from fedmpi.emulation.phones import assumption, read_phones
from fedmpi.emulation.profiles import MEASURED_DEVICE, POWERS, Device, built_in_devices
from fedmpi.numerics.streams import Purpose, generator

_COLUMNS = 100
_HEAD = (
    "device",
    "speed",
    "GFLOP/s",
    "up Mbit/s",
    "down Mbit/s",
    "idle W",
    "compute W",
    "send W",
    "receive W",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "import"), default="list", help="(list)")
    parser.add_argument("table", nargs="?", metavar="KIND", help="of import: ai-benchmark")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="of import: the table of phones")
    parser.add_argument("--json", action="store_true", help="list as JSON")
    parser.add_argument("-o", "--output", type=Path, metavar="CSV", help="of import: the file to write")
    parser.add_argument(
        "--clients", type=integer(1), metavar="N", help="of import: draw so many phones (default: all)"
    )
    parser.add_argument("--seed", type=integer(0), default=0, metavar="S", help="of the draw (0)")
    for way in ("uplink", "downlink"):
        parser.add_argument(
            f"--{way}-mbit-per-s",
            type=number(RATE_OR_INF),
            default=float("inf"),
            metavar="R",
            help=f"of import: the {way} of every phone (inf)",
        )
    parser.add_argument(
        "--latency-s",
        type=number(SECONDS_OR_ZERO),
        default=0.0,
        metavar="S",
        help="of import: the latency of every phone (0)",
    )


def execute(arguments: argparse.Namespace) -> int:
    """List devices, or import them."""
    if arguments.action == "import":
        return _import(arguments)
    if arguments.table is not None or arguments.output is not None:
        found = arguments.table or f"--output {arguments.output}"
        raise ConfigError("fedmpi devices list", f"found {found}", "--json alone")
    devices = [device(name) for name in device_names()]
    if arguments.json:
        print(json.dumps([_plain(known) for known in devices], indent=2))
        return 0
    print("\n".join(_listed(devices)))
    return 0


def _listed(devices: list[Device]) -> list[str]:
    """A table of aligned columns, and below it the source of each line; ``-``: unknown."""
    rows = [_HEAD, *(_row(known) for known in devices)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if position == 0 else cell.rjust(width)
            for position, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [
        "",
        "speed: of the processor over raspberry-pi-4; GFLOP/s: the rate of the compute model flops; -: unknown",
    ]
    for known in devices:
        measured = f" Tables of {', '.join(known.models)}." if known.models else ""
        if known.name in built_in_devices() and known.name != MEASURED_DEVICE and known.models:
            measured = f" Tables: those of {MEASURED_DEVICE}, scaled."
        power = f" Power: {known.powers_source}." if known.powers_source else ""
        text = f"{known.name}: {known.source.rstrip('.')}.{measured}{power}"
        lines += textwrap.wrap(" ".join(text.split()), _COLUMNS, subsequent_indent="  ")
    return lines


def _row(known: Device) -> tuple[str, ...]:
    rates = (
        None if rate is None else rate / BYTES_PER_S_PER_MBIT_PER_S
        for rate in (known.uplink_bytes_per_s, known.downlink_bytes_per_s)
    )
    watts = (getattr(known.powers, name) for name in POWERS)
    flops = None if known.figures is None else known.figures.flops_per_s / 1e9
    speed = known.relative_speed if known.name in built_in_devices() else None  # nobody compared the user's
    return (known.name, *(_cell(value) for value in (speed, flops, *rates, *watts)))


def _cell(value: float | None) -> str:
    return "-" if value is None or isnan(value) else f"{value:.3g}"


def _plain(known: Device) -> dict[str, Any]:
    """Everything that is known of a device; what is not is null."""
    powers = {name: None if isnan(w) else w for name, w in asdict(known.powers).items()}
    return {
        "name": known.name,
        "source": known.source,
        "relative_speed": known.relative_speed if known.name in built_in_devices() else None,
        "overhead_s": None if known.figures is None else known.figures.overhead_s,
        "flops_per_s": None if known.figures is None else known.figures.flops_per_s,
        "measured_models": sorted(known.models),
        "uplink_bytes_per_s": known.uplink_bytes_per_s,
        "downlink_bytes_per_s": known.downlink_bytes_per_s,
        **powers,
        "powers_source": known.powers_source or None,
    }


def _import(arguments: argparse.Namespace) -> int:
    if arguments.table != "ai-benchmark":
        problem = "is not set" if arguments.table is None else f"found {arguments.table}"
        raise ConfigError("fedmpi devices import, the kind of table", problem, "ai-benchmark")
    if arguments.file is None:
        raise ConfigError("fedmpi devices import ai-benchmark, FILE", "is not set", "a table of phones, JSON")
    if arguments.output is None or arguments.output.suffix.lower() != ".csv":
        problem = "is not set" if arguments.output is None else f"found {arguments.output}"
        raise ConfigError("--output", problem, "a file that ends in .csv")
    phones = read_phones(arguments.file)
    if arguments.clients is not None:
        draw = generator(arguments.seed, Purpose.DEVICES)
        phones = tuple(phones[row] for row in draw.integers(len(phones), size=arguments.clients).tolist())
    linked = [
        replace(
            phone,
            uplink_bytes_per_s=arguments.uplink_mbit_per_s * BYTES_PER_S_PER_MBIT_PER_S,
            downlink_bytes_per_s=arguments.downlink_mbit_per_s * BYTES_PER_S_PER_MBIT_PER_S,
        )
        for phone in phones
    ]
    text = devices_text(linked, arguments.latency_s)
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError("--output", f"{arguments.output} cannot be written: {error.strerror}") from error
    speeds = sorted(phone.relative_speed for phone in phones)
    print(
        f"{arguments.output}: {len(phones)} devices, {speeds[0]:.3g} to {speeds[-1]:.3g} times as fast as a "
        f"raspberry-pi-4 (median {speeds[len(speeds) // 2]:.3g}); powers are not known"
    )
    print(assumption())
    print(f'emulation.compute.profile = "{arguments.output}" takes it, with model = "flops" or "linear"')
    return 0
