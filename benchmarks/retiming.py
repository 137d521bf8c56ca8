"""What timing a run again takes: a whole trace of many rounds, and times to a target over many link rates.

python benchmarks/retiming.py [--rounds 10000] [--clients 10] [--rates 100]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, process_time

import numpy as np

import fedmpi
from fedmpi.experiment.retiming import opened, prepare, write
from fedmpi.experiment.time_to_target import seconds_to
from fedmpi.sweeps.points import Point, at
from fedmpi.trace import FILE_NAME, TraceWriter
from fedmpi.trace.reader import read_rows
from fedmpi.trace.schema import CALLER_ATTRIBUTES, TABLES

METHODS = {
    "dense": ["sparsification.method=dense"],
    "fab 5 %": ["sparsification.method=fab", "sparsification.k_fraction=0.05"],
}
REAL_ROUNDS = 100


def train(folder: Path, clients: int, overrides: list[str]) -> Path:
    """A run of REAL_ROUNDS rounds of the quickstart with k fixed."""
    fedmpi.run(
        "quickstart",
        "k_control.method=fixed",
        f"clients.count={clients}",
        f"experiment.rounds={REAL_ROUNDS}",
        *overrides,
        output=folder,
        quiet=True,
    )
    return folder


def repeated(source: Path, folder: Path, times: int) -> Path:
    """The rounds of a trace again and again, as those of one long run."""
    attributes, tables = read_rows(source)
    folder.mkdir()
    known = {name: attributes[name] for name in CALLER_ATTRIBUTES} | {"model_work": attributes["model_work"]}
    writer = TraceWriter.create(folder / FILE_NAME, known)
    devices = tables["devices"]
    names = [name.decode() for name in devices["device"]]
    writer.append(devices={name: devices[name] for name in devices.dtype.names or ()} | {"device": names})
    for turn in range(times):
        for name in ("clients", "rounds") if turn else ("layers", "clients", "rounds"):
            rows = tables[name].copy()
            rows["round"] += turn * REAL_ROUNDS
            if name == "rounds":
                length_s = tables["rounds"]["end_s"][-1]
                for column in ("start_s", "end_s"):
                    rows[column] += turn * length_s
            writer.append(**{name: {column: rows[column] for column in TABLES[name].names or ()}})
        writer.commit()
    writer.close("completed")
    return folder


def timed(what: str, work: Callable[[], object]) -> None:
    """Print the host seconds and the CPU seconds of ``work``."""
    start_s, start_cpu_s = perf_counter(), process_time()
    work()
    print(
        f"{what}: {perf_counter() - start_s:.2f} s, {process_time() - start_cpu_s:.2f} s of CPU", flush=True
    )


def main() -> None:
    """Print two lines for each method."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rates", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for place, (method, overrides) in enumerate(METHODS.items()):
            run = train(Path(name) / f"{place}-run", options.clients, overrides)
            long = repeated(run, Path(name) / f"{place}-long", options.rounds // REAL_ROUNDS)
            target = Path(name) / f"{place}-retimed"
            target.mkdir()

            def again(long: Path = long, target: Path = target) -> None:
                write(prepare(long, ["emulation.network.uplink_mbit_per_s=1"]), target)

            def over_rates(run: Path = run) -> None:
                source = opened(run)
                highest = float(np.nanmax(source.recorded.rounds["test_accuracy"]))
                rates = np.geomspace(0.1, 100.0, options.rates).tolist()
                seconds_to(source, highest, [at(source.before, Point(rate, rate, 1.0)) for rate in rates])

            timed(f"{method}: retime, {options.rounds:,} rounds of {options.clients} clients", again)
            timed(f"{method}: {options.rates} link rates, up to {REAL_ROUNDS} rounds each", over_rates)


if __name__ == "__main__":
    main()
