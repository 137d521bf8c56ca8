"""Terms of the cost model of docs/scaling.md: python benchmarks/scaling.py [TERM ...]

Terms are ranks, clients, participants, collectives and disk, each measured in processes of its own: what ranks take to
start, what each client takes in set-up and memory, what a round takes for each participant, in training and on the
server, what collective calls take, and what changes when the state of clients is on disk. Clients train logistic
regression on digits (D = 650), 8 samples each, one step of 8 a round, on devices and links of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
SAMPLES = 8

FLEET = """
[experiment]
name = "fleet"
rounds = 5
evaluate_every = 1000000
[data]
dataset = "digits"
partition = "scaling:windows"
[model]
name = "logistic"
[training]
local_steps = 1
batch_size = 8
[emulation.compute]
model = "flops"
profile = {"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}
[emulation.network]
uplink_mbit_per_s = {distribution = "lognormal", median = 2.0, sigma = 0.6}
downlink_mbit_per_s = 8.0
latency_s = 0.02
jitter_s = 0.01
server_ingress_mbit_per_s = 1000.0
"""
FAB = ["sparsification.method=fab", "sparsification.k=65"]


def windows(
    labels: NDArray[np.int64], writers: NDArray[np.int64] | None, clients: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """A partition for fleets that are larger than the data set: neighbouring samples from a random one on."""
    starts = rng.integers(0, labels.size, clients)[:, None]
    return list(np.sort((starts + np.arange(SAMPLES)) % labels.size, axis=1))


def peak_mib() -> float:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run_here(overrides: list[str]) -> dict[str, float]:
    """Seconds and memory of an experiment in this process: set-up, training and the rest of a round (of the CPU)."""
    import_s = process_time()
    from fedmpi.config import loads
    from fedmpi.emulation.clock import VirtualClock
    from fedmpi.experiment import checkpointing
    from fedmpi.experiment.assembly import assemble
    from fedmpi.experiment.main import EXPECTED
    from fedmpi.experiment.progress import Progress
    from fedmpi.experiment.recording import Recorder
    from fedmpi.experiment.resuming import Identity
    from fedmpi.federation.round_halves import RoundReport
    from fedmpi.mpi.collectives import Ranks
    from fedmpi.mpi.library import MPI

    import_s, before_mib, began_s = process_time(), peak_mib(), perf_counter()
    config = loads(FLEET, overrides)
    ranks = Ranks.of(MPI.COMM_WORLD)
    run = assemble(ranks, config, EXPECTED)
    identity = Identity.of_new_run(config)
    train_s: list[float] = []
    other_s: list[float] = []
    save_s = 0.0
    with tempfile.TemporaryDirectory(dir=os.environ.get("SCALING_FOLDER")) as folder:
        output = Path(folder)
        checkpointing.start_state(run, output, EXPECTED, identity.run_id)
        progress = Progress(config.experiment.rounds, quiet=True)
        recorder = Recorder(run, output, progress, None, identity)
        setup_s, setup_cpu_s = perf_counter() - began_s, process_time() - import_s
        trained_s, last_s, last_cpu_s = 0.0, perf_counter(), process_time()

        def on_round(report: RoundReport) -> None:
            nonlocal trained_s, last_s, last_cpu_s
            recorder.round(report)
            now_s, now_cpu_s, in_training_s = (
                perf_counter(),
                process_time(),
                run.loop.training_host_s - trained_s,
            )
            # One thread: by its share of the core, seconds of a machine that is busy become those of one that is not.
            share = (now_cpu_s - last_cpu_s) / (now_s - last_s)
            train_s.append(share * in_training_s)
            other_s.append(share * (now_s - last_s - in_training_s))
            trained_s, last_s, last_cpu_s = run.loop.training_host_s, now_s, now_cpu_s

        def on_checkpoint() -> None:
            nonlocal last_s, last_cpu_s, save_s
            began_s = perf_counter()
            checkpointing.save(run, output, EXPECTED, identity)
            last_s, last_cpu_s = perf_counter(), process_time()
            save_s = last_s - began_s

        run.loop.run(VirtualClock(), on_round, on_checkpoint)
        recorder.close("completed")
        size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    return {
        "import_s": import_s,
        "import_mib": before_mib,
        "setup_s": setup_s,
        "setup_cpu_s": setup_cpu_s,
        "peak_mib": peak_mib(),
        "first_round_s": train_s[0] + other_s[0],
        "train_s": median(train_s[1:]),
        "other_s": median(other_s[1:]),
        "checkpoint_s": save_s,
        "folder_mib": size / 2**20,
    }


def apart(*overrides: str) -> dict[str, float]:
    """``run_here`` in a process of its own."""
    command = [sys.executable, str(HERE / "scaling.py"), "--here", *overrides]
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def ranks_term(arguments: argparse.Namespace) -> None:
    """Start-up by number of ranks: seconds until a run of one round ends."""
    for count in (1, 2, 3, 5):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "fedmpi", "run", "quickstart", "experiment.rounds=1", "--quiet"]
            if count > 1:
                command += ["--ranks", str(count)]
            began_s = perf_counter()
            subprocess.run([*command, "--output", folder], check=True)
            print(f"ranks {count}: {perf_counter() - began_s:.2f} s from the command to its end")


def clients_term(arguments: argparse.Namespace) -> None:
    """Set-up and memory by number of clients, dense, 100 of them in a round."""
    before: dict[str, float] = {}
    for count in arguments.clients:
        found = apart(f"clients.count={count}", "clients.per_round=100")
        print(
            f"clients {count:,}: set-up {found['setup_s']:.2f} s (CPU {found['setup_cpu_s']:.2f} s), "
            f"peak {found['peak_mib']:.0f} MiB, a round {1e3 * (found['train_s'] + found['other_s']):.1f} ms"
        )
        if before:
            more = count - before["count"]
            seconds, mib = (
                found["setup_cpu_s"] - before["setup_cpu_s"],
                found["peak_mib"] - before["peak_mib"],
            )
            print(f"  each more: {1e6 * seconds / more:.2f} us, {2**20 * mib / more:.0f} bytes")
        before = {**found, "count": count}


def participants_term(arguments: argparse.Namespace) -> None:
    """A round by number of participants, on one rank: training, and everything else."""
    methods: list[tuple[str, list[str]]] = [("dense", []), ("fab", FAB)]
    for name, method in methods:
        for count in (100, 1000, 10_000):
            found = apart("clients.count=20000", f"clients.per_round={count}", *method)
            print(
                f"{name}, {count:,} participants: training {1e6 * found['train_s'] / count:.0f} us each, "
                f"the rest {1e6 * found['other_s'] / count:.0f} us each"
            )


def disk_term(arguments: argparse.Namespace) -> None:
    """Clients' state in memory and on disk: a round, a checkpoint, memory."""
    most = max(min(arguments.clients), 100_000)
    for state in ("memory", "disk"):
        fleet = [f"clients.count={most}", "clients.per_round=1000", f"clients.state={state}", *FAB]
        found = apart(*fleet, "experiment.rounds=20", "experiment.checkpoint_every=5")
        print(
            f"{most:,} clients, state in {state}: a round of 1,000 {found['train_s'] + found['other_s']:.2f} s, "
            f"peak {found['peak_mib']:.0f} MiB, a checkpoint {found['checkpoint_s']:.2f} s, "
            f"run folder {found['folder_mib']:.0f} MiB"
        )


def collectives_term(arguments: argparse.Namespace) -> None:
    """Collective calls among 2 and 4 ranks of this machine."""
    from fedmpi.cli.launch import find_mpiexec, mpiexec_command

    mpiexec = find_mpiexec()
    if mpiexec is None:
        print("no mpiexec is found: collective calls are not measured")
        return
    for count in (2, 4):
        command = mpiexec_command(mpiexec, count, [str(HERE / "scaling.py"), "--collectives"])
        subprocess.run(command, check=True)


def collectives_here() -> None:
    """Seconds of a short broadcast, and of gathering 1 KiB and 1 MiB from each rank, medians of many."""
    from fedmpi.mpi.collectives import Ranks
    from fedmpi.mpi.library import MPI

    ranks = Ranks.of(MPI.COMM_WORLD)
    short = np.zeros(16, np.uint8)

    def timed(what: str, call: Callable[[], Any], times: int) -> None:
        taken = []
        for _ in range(times):
            ranks.barrier()
            began_s = perf_counter()
            call()
            ranks.barrier()
            taken.append(perf_counter() - began_s)
        if ranks.is_server:
            print(f"{ranks.size} ranks, {what}: {1e6 * median(taken):.0f} us with two barriers")

    timed("barriers alone", lambda: None, 300)
    timed("broadcast of 16 bytes", lambda: ranks.broadcast(short), 300)
    for rows in (np.zeros(2**10, np.uint8), np.zeros(2**20, np.uint8)):
        gather = partial(ranks.gather_rows, rows, [rows.size] * ranks.size)
        timed(f"{rows.size} bytes from each to the server", gather, 50)


TERMS = {
    "ranks": ranks_term,
    "clients": clients_term,
    "participants": participants_term,
    "collectives": collectives_term,
    "disk": disk_term,
}


def main() -> None:
    if sys.argv[1:2] == ["--here"]:
        print(json.dumps(run_here(sys.argv[2:])))
        return
    if sys.argv[1:2] == ["--collectives"]:
        collectives_here()
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("terms", nargs="*", metavar="TERM", help=", ".join(TERMS))
    parser.add_argument("--clients", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments = parser.parse_args()
    for name in arguments.terms or TERMS:
        if name not in TERMS:
            parser.error(f"term {name}: allowed are {', '.join(TERMS)}")
        TERMS[name](arguments)


if __name__ == "__main__":
    main()
