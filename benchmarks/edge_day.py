"""Devices that come and go, on real FEMNIST and cellular traces: python benchmarks/edge_day.py --data ../shared/data

Runs the sweep ``edge-day-small``: 60 phones with the speeds of AI-Benchmark's table and 45 Raspberry Pis, links that
follow the Mahimahi traces, phones that are there while they charge, a deadline and over-selection; dense averaging,
FAB-top-k, PruneFL and both at once. Prints accuracy by emulated time, who was late or dropped, how accuracy differs
between clients, and what training and waiting take the Raspberry Pis up to an accuracy of 0.4; --output keeps the study
and its figure. The folder given by --data holds femnist_leaf.tar.xz, network/mahimahi.tar.xz and
devices/raw_ai_benchmark_list.json.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tarfile
import tempfile
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
from femnist_study import amounts_to, data_folder, parser, run_sweep, unpacked_beside

import fedmpi
from fedmpi.analysis.fairness import of_client_tests

PHONES, PIS = 60, 45
PERIOD_S = 3600.0
LATENCY_S = 0.05
TEST_FILES_EVERY = 3
TARGET = 0.4
PI_NAMES = ("raspberry-pi-3", "raspberry-pi-4")


def fedmpi_command(*arguments: str) -> str:
    """What a command of fedmpi prints."""
    command = [sys.executable, "-m", "fedmpi", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def known_devices() -> dict[str, dict[str, Any]]:
    """What ``fedmpi devices`` knows, by name."""
    return {device["name"]: device for device in json.loads(fedmpi_command("devices", "--json"))}


def write_devices(table: Path, path: Path) -> None:
    """Phones drawn from AI-Benchmark's table, and Raspberry Pis 3 and 4; links are those of traces."""
    fedmpi_command(
        "devices",
        "import",
        "ai-benchmark",
        str(table),
        "-o",
        str(path),
        "--clients",
        str(PHONES),
        "--seed",
        "1",
    )
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    known = known_devices()
    link = {"uplink_mbit_per_s": "inf", "downlink_mbit_per_s": "inf", "latency_s": LATENCY_S}
    names = ["name", *link, "overhead_s", "flops_per_s", "idle_w", "compute_w"]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, **link} for row in rows)
        for number in range(PIS):
            device = known[PI_NAMES[number % 2]]
            known_of_it = {name: "" if device.get(name) is None else device[name] for name in names}
            writer.writerow({**known_of_it, **link})


def write_intervals(path: Path) -> None:
    """Phones are there in one long and one short interval of the period, Raspberry Pis always."""
    draw = np.random.default_rng(1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("client", "on_s", "off_s"))
        for client in range(PHONES):
            night = draw.uniform(0.0, 0.25) * PERIOD_S, draw.uniform(0.4, 0.5) * PERIOD_S
            noon = draw.uniform(0.55, 0.8) * PERIOD_S
            writer.writerow((client, f"{night[0]:.1f}", f"{night[1]:.1f}"))
            writer.writerow((client, f"{noon:.1f}", f"{noon + draw.uniform(0.02, 0.1) * PERIOD_S:.1f}"))
        for client in range(PHONES, PHONES + PIS):
            writer.writerow((client, 0, PERIOD_S))


def unpack_traces(archive: Path, folder: Path) -> None:
    """The uplinks and downlinks of the Mahimahi traces into folders of their own."""
    for name, ending in (("uplinks", ".up"), ("downlinks", ".down")):
        (folder / name).mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as file:
            file.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
            for member in file.getmembers():
                if member.name.endswith(ending):
                    member.name = Path(member.name).name
                    file.extract(member, folder / name)


def table(study: Path) -> str:
    """A row for each run: accuracy at hours of emulated time, rounds, shares of late and dropped, fairness, energy."""
    lines = [
        "| method | rounds | accuracy after 15 min | 30 min | 1 h | late | dropped | worst 10 % | Gini | MB up "
        f"| kJ of Pis training and waiting to {TARGET} |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for folder in sorted(path for path in study.iterdir() if (path / "trace.h5").is_file()):
        trace = fedmpi.read_trace(folder)
        seen = trace.rounds[trace.rounds["test_accuracy"].notna()]
        by_time = [seen[seen["end_s"] <= hours * 3600]["test_accuracy"].max() for hours in (0.25, 0.5, 1)]
        status = trace.clients["status"].value_counts(normalize=True)
        worst, unequal = of_client_tests(trace) or (nan, nan)
        cells = [folder.name, str(len(trace.rounds)), *(f"{value:.3f}" for value in by_time)]
        cells += [f"{100 * status.get(name, 0.0):.1f} %" for name in ("late", "dropped")]
        cells += [
            f"{worst:.3f}",
            f"{unequal:.3f}",
            f"{trace.rounds['bytes_up'].sum() / 1e6:.0f}",
            f"{amounts_to(folder, TARGET).joules / 1e3:.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """Exit code 0 when all runs are complete, else that of the sweep; the table is made of what there is."""
    arguments = parser(__doc__.splitlines()[0], "edge-day-small").parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = unpacked_beside(arguments.output, Path(temporary))
        data = data_folder(arguments.data, place, TEST_FILES_EVERY)
        study = arguments.output or Path(temporary) / "study"
        files = place.with_name(f"{place.name}-files")
        files.mkdir(parents=True, exist_ok=True)
        write_devices(arguments.data / "devices" / "raw_ai_benchmark_list.json", files / "devices.csv")
        write_intervals(files / "intervals.csv")
        unpack_traces(arguments.data / "network" / "mahimahi.tar.xz", files)
        arguments.set = [
            f"emulation.compute.profile={files / 'devices.csv'}",
            f"emulation.network.uplink_trace={files / 'uplinks'}",
            f"emulation.network.downlink_trace={files / 'downlinks'}",
            f"emulation.availability.path={files / 'intervals.csv'}",
            *arguments.set,
        ]
        code = run_sweep(arguments.sweep, data, study, arguments)
        if code == 2:
            return code
        text = table(study)
        print(text)
        if arguments.table:
            arguments.table.write_text(text + "\n", encoding="utf-8")
        if arguments.output:
            figure = study / "accuracy.png"
            fedmpi_command("plot", str(study), "--x", "time", "--y", "accuracy", "--output", str(figure))
    return code


if __name__ == "__main__":
    sys.exit(main())
