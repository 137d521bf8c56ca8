"""A large trace: reading one round of it, a page on all of it (``fedmpi report``), and compressed chunks.

python benchmarks/trace_slices.py [--participants 100000] [--rounds 100] [--folder DIR]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import h5py
import numpy as np
from trace_writing import ATTRIBUTES, columns

from fedmpi.config import dumps, loads
from fedmpi.trace import Phase, Status, TraceWriter, read
from fedmpi.trace.schema import ROWS_PER_CHUNK, TABLES

FILTERS: dict[str, dict[str, Any]] = {
    "none (as written)": {},
    "lzf": {"compression": "lzf", "shuffle": True},
    "gzip 1": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "gzip 4": {"compression": "gzip", "compression_opts": 4, "shuffle": True},
}
"""Name -> filters of HDF5 beside the checksum; columns are shuffled by bytes before they are compressed."""


def client_rows(number: int, participants: int) -> dict[str, Any]:
    """The rows of a round as runs give them: seconds with all their digits, bytes and samples with few values."""
    random = np.random.default_rng(number)
    rows = columns("clients", participants)
    rows |= {"round": number, "client": np.arange(participants), "rank": 0, "status": int(Status.OK)}
    rows |= {"samples": random.integers(20, 400, participants), "version": number, "staleness": 0}
    rows |= {name: np.full(participants, np.nan) for name in ("overrun_s", "energy_j", "released_s")}
    for name in ("download_s", "compute_s", "upload_s", "wait_s", "train_loss"):
        rows[name] = random.random(participants)
    for name, most in (
        ("bytes_down", 9000),
        ("bytes_up", 3000),
        ("entries_sent", 500),
        ("entries_used", 200),
    ):
        rows[name] = random.integers(0, most, participants)
    return rows


def write_trace(path: Path, rounds: int, participants: int) -> tuple[float, float]:
    """Host seconds and CPU seconds of writing a trace of so many rounds."""
    start_s, start_cpu_s = perf_counter(), process_time()
    spent = 0.0
    config = dumps(loads(f"[clients]\ncount = {participants}\n[experiment]\nrounds = {rounds}\n"))
    writer = TraceWriter.create(path, {**ATTRIBUTES, "config_toml": config, "clients": participants})
    everybody = np.arange(participants)
    writer.append(
        devices={**columns("devices", participants), "client": everybody, "device": ["small"] * participants}
    )
    for number in range(rounds):
        begin = process_time()
        rows = client_rows(number, participants)
        spent += process_time() - begin
        row = {
            **columns("rounds", 1),
            "round": number,
            "phase": Phase.FEDERATED,
            "participants": participants,
            "start_s": float(number),
            "end_s": number + 1.0,
        }
        writer.append(clients=rows, rounds=row)
        writer.commit(force=True)
    writer.close("completed")
    return perf_counter() - start_s - spent, process_time() - start_cpu_s - spent


def read_rounds(path: Path, rounds: int, repeats: int) -> tuple[list[float], list[float]]:
    """Milliseconds of reading the clients of single rounds, the file opened anew for each: of the host, of the CPU."""
    random = np.random.default_rng(1)
    wall_ms, cpu_ms = [], []
    for number in random.integers(0, rounds, repeats).tolist():
        start_s, start_cpu_s = perf_counter(), process_time()
        clients = read(path, rounds=(number, number)).clients
        cpu_ms.append(1e3 * (process_time() - start_cpu_s))
        wall_ms.append(1e3 * (perf_counter() - start_s))
        assert set(clients["round"]) == {number}
    return wall_ms, cpu_ms


def report(path: Path) -> tuple[float, float, float]:
    """Host seconds, CPU seconds and the most memory in MB of a page on the whole trace."""
    start_s, before = perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [
        sys.executable,
        "-m",
        "fedmpi",
        "report",
        str(path),
        "--output",
        str(path.with_suffix(".html")),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return perf_counter() - start_s, cpu_s, after.ru_maxrss / 1024


def compressed(path: Path, folder: Path, rows: int) -> None:
    """Print size, and CPU seconds of writing and reading, of the same rows under each of FILTERS."""
    with h5py.File(path, "r") as file:
        block = file["clients"][:rows]
    print(f"\nchunks of {ROWS_PER_CHUNK['clients']} rows, {rows:,} rows of clients")
    print(f"{'compression':18s}  bytes a row  write us a row  read us a row")
    for name, filters in FILTERS.items():
        target = folder / "filtered.h5"
        start_s = process_time()
        with h5py.File(target, "w") as file:
            chunk = (ROWS_PER_CHUNK["clients"],)
            file.create_dataset("clients", data=block, chunks=chunk, fletcher32=True, **filters)
        write_s = process_time() - start_s
        start_s = process_time()
        with h5py.File(target, "r") as file:
            file["clients"][:]
        read_s = process_time() - start_s
        size = target.stat().st_size
        print(f"{name:18s}  {size / rows:11.1f}  {1e6 * write_s / rows:14.3f}  {1e6 * read_s / rows:13.3f}")


def main() -> None:
    """Print what writing and reading took, and a line for each compression."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--participants", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--rows", type=int, default=500_000, help="of the comparison of compressions")
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; default: a temporary folder"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        path = Path(name) / "trace.h5"
        wall_s, cpu_s = write_trace(path, options.rounds, options.participants)
        rows = options.rounds * options.participants
        print(
            f"{options.rounds} rounds of {options.participants:,} participants: {path.stat().st_size / 1e6:,.0f} MB, "
            f"{TABLES['clients'].itemsize} bytes a row; written in {wall_s:.1f} s, {1e6 * cpu_s / rows:.3f} us "
            "of CPU a row"
        )
        spent, cpu_ms = read_rounds(path, options.rounds, options.repeats)
        print(
            f"one round's clients: median {median(spent):.1f} ms, least {min(spent):.1f}, most {max(spent):.1f}, "
            f"of CPU {median(cpu_ms):.1f} ({options.repeats} rounds, the file opened anew for each)"
        )
        wall_s, cpu_s, most_mb = report(path)
        print(f"fedmpi report: {wall_s:.1f} s, {cpu_s:.1f} s of CPU, at most {most_mb:,.0f} MB of memory")
        compressed(path, Path(name), min(options.rows, rows))


if __name__ == "__main__":
    main()
