"""Training throughput beside a bare loop: python benchmarks/throughput.py [W1 W2 W3 W4] --data ../shared/data

For each workload the bare loop (benchmarks/bare_loop.py) and fedmpi run in turn, several times, on two MPI
ranks with one thread each; printed are the medians of the median seconds of a round, and their ratio. W4 is W2 under
PruneFL at a density of 15 %, beside the bare loop that trains the whole model; there fedmpi has three ranks, a server
and two with clients. Real data (MNIST, FEMNIST as LEAF JSON) lie in the folder given by --data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np

from fedmpi import trace
from fedmpi.config import dumps, load

HERE = Path(__file__).resolve().parent

COMMON = """
[emulation.compute]
model = "linear"
profile = "raspberry-pi-4"
[emulation.network]
uplink_mbit_per_s = 10.0
downlink_mbit_per_s = 20.0
latency_s = 0.02
"""

CONV2 = """
[experiment]
name = "conv2"
evaluate_every = 1000
rounds = {rounds}
[clients]
count = 10
[data]
dataset = "leaf"
path = "{femnist}"
partition = "by_writer"
invert = true
[model]
name = "conv2"
[training]
local_steps = 5
batch_size = 20
learning_rate = 0.25
loss = "bce_one_hot"
"""

WORKLOADS = {
    "W1": """
[experiment]
name = "W1"
rounds = 100
evaluate_every = 20
[clients]
count = 1000
per_round = 10
[data]
dataset = "idx"
path = "{data}/mnist"
partition = "iid"
samples_per_client = 60
[model]
name = "logistic"
[training]
local_epochs = 1
batch_size = 10
learning_rate = 0.03
""",
    "W2": CONV2.replace("{rounds}", "12"),
    "W3": """
[experiment]
name = "W3"
rounds = 100
evaluate_every = 1000
[clients]
count = 100
per_round = 16
[data]
dataset = "leaf"
path = "{femnist}"
partition = "by_writer"
[model]
name = "mlp"
hidden = [428, 220]
[training]
local_steps = 1
batch_size = 32
learning_rate = 0.1
""",
    "W4": CONV2.replace("{rounds}", "24")
    + """
[pruning]
method = "prunefl"
reconfigure_every = 6
max_density = 0.15
""",
}
TARGETS = {"W1": 1.3, "W2": 1.1, "W3": 1.4, "W4": 1.11}


def mpiexec() -> str:
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else "mpiexec"


def bare(config: Path, ranks: int) -> tuple[float, float]:
    command = [mpiexec(), "-n", str(ranks), sys.executable, str(HERE / "bare_loop.py"), str(config)]
    result = json.loads(
        subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
    )
    return result["median_round_s"], result["accuracy"]


def fedmpi(config: Path, ranks: int, folder: Path) -> tuple[float, float]:
    command = [
        sys.executable,
        "-m",
        "fedmpi",
        "run",
        str(config),
        "--ranks",
        str(ranks),
        "--overwrite",
        "--quiet",
    ]
    subprocess.run([*command, "--output", str(folder)], check=True)
    rounds = trace.read(folder).rounds
    accuracy = rounds["test_accuracy"].dropna()
    settled = rounds[rounds["density"] <= rounds["density"].quantile(0.5)]  # pruned, if it ever is
    return float(settled["host_s"].median()), float(accuracy.iloc[-1]) if len(accuracy) else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="W1|W2|W3|W4")
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/ and femnist_leaf.tar.xz")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, e.g. another placement"
    )
    parser.add_argument(
        "--ranks", type=int, help="ranks of fedmpi (default: 2, for W4 3); the bare loop always has two"
    )
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        femnist = folder / "femnist"
        if {"W2", "W3", "W4"} & set(arguments.workloads):
            with tarfile.open(arguments.data / "femnist_leaf.tar.xz") as archive:
                archive.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
                archive.extractall(femnist)
        for name in arguments.workloads:
            leaf = next((p.parent for p in femnist.rglob("train") if p.is_dir()), femnist)
            text = WORKLOADS[name].format(data=arguments.data.resolve(), femnist=leaf) + COMMON
            config = folder / f"{name}.toml"
            ranks = arguments.ranks or (3 if name == "W4" else 2)
            placement = [] if ranks > 2 else ["placement.server_trains=true"]
            config.write_text(dumps(load(text, [*placement, *arguments.set])), encoding="utf-8")
            pairs = [
                (bare(config, 2), fedmpi(config, ranks, folder / name)) for _ in range(arguments.repeats)
            ]
            plain, ours = (float(np.median([pair[side][0] for pair in pairs])) for side in (0, 1))
            ratio = float(np.median([mine[0] / theirs[0] for theirs, mine in pairs]))
            accuracies = f"accuracy {pairs[-1][0][1]:.3f} / {pairs[-1][1][1]:.3f}"
            print(
                f"{name}: bare loop {plain * 1e3:.2f} ms, fedmpi {ours * 1e3:.2f} ms a round, ratio {ratio:.2f} "
                f"(target {TARGETS[name]}), {accuracies}",
                flush=True,
            )


if __name__ == "__main__":
    main()
