"""What the trace costs a round: appending and committing beside a bare loop and a round of 10 ms.

python benchmarks/trace_writing.py [--rounds 1000] [--clients 10,100,1000] [--round-ms 10] [--folder DIR]
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import mean, median
from time import perf_counter, process_time
from typing import Any

import numpy as np

from fedmpi.trace import Phase, Status, TraceWriter
from fedmpi.trace.schema import TABLES

Spent = list[tuple[float, float]]
"""Host seconds and CPU seconds, one pair for each round."""

ATTRIBUTES: dict[str, Any] = {
    "config_toml": "",
    "seed": 0,
    "clients": 0,
    "ranks": 1,
    "parameters": 0,
    "layer_names": ["weight"],
    "host": "",
    "mpi_library": "",
    "slurm_job_id": "",
}


def columns(table: str, rows: int) -> dict[str, Any]:
    """Columns as a run would give them: numbers for one round, arrays for its clients."""
    random = np.random.default_rng(0)
    values: dict[str, Any] = {}
    for name in TABLES[table].names or ():
        kind = TABLES[table][name].kind
        values[name] = random.random(rows) if kind == "f" else random.integers(1000, size=rows)
        if rows == 1:
            values[name] = values[name].item()
    return values


def busy(until_s: float) -> None:
    """Compute until a moment of ``perf_counter``."""
    while perf_counter() < until_s:
        pass


def run_rounds(writer: TraceWriter | None, rounds: int, clients: int, round_s: float) -> tuple[float, Spent]:
    """Seconds a round in all, and the seconds of each round spent in the trace; no writer: the bare loop."""
    rounds_row = {**columns("rounds", 1), "phase": Phase.FEDERATED}
    client_rows = {**columns("clients", clients), "client": np.arange(clients), "status": int(Status.OK)}
    spent: Spent = []
    start_s = perf_counter()
    for number in range(rounds):
        busy(perf_counter() + round_s)
        if writer is not None:
            before_s, before_cpu_s = perf_counter(), process_time()
            rounds_row["round"] = client_rows["round"] = number
            writer.append(clients=client_rows, rounds=rounds_row)
            writer.commit()
            spent.append((perf_counter() - before_s, process_time() - before_cpu_s))
    return (perf_counter() - start_s) / rounds, spent


def main() -> None:
    """Print one line for each number of clients."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--clients", default="10,100,1000")
    parser.add_argument("--round-ms", type=float, default=10.0)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to write; default: a temporary folder"
    )
    options = parser.parse_args()
    round_s = options.round_ms / 1e3
    print(
        f"{options.rounds} rounds of {options.round_ms:g} ms; microseconds a round; append and commit in brackets"
    )
    print("clients  bare loop  with trace  [median    mean  mean CPU  CPU of a round]  trace size")
    for clients in map(int, options.clients.split(",")):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            path = Path(folder) / "trace.h5"
            writer = TraceWriter.create(path, ATTRIBUTES)
            bare_s, _ = run_rounds(None, options.rounds, clients, round_s)
            traced_s, spent = run_rounds(writer, options.rounds, clients, round_s)
            writer.close("completed")
            size = path.stat().st_size
        wall_s, cpu_s = zip(*spent, strict=True)
        print(
            f"{clients:7d}  {bare_s * 1e6:9.1f}  {traced_s * 1e6:10.1f}  [{median(wall_s) * 1e6:6.1f}  "
            f"{mean(wall_s) * 1e6:6.1f}  {mean(cpu_s) * 1e6:8.1f}  {mean(cpu_s) / round_s:14.2%}]  "
            f"{size / 1e6:7.2f} MB"
        )


if __name__ == "__main__":
    main()
