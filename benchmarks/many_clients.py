"""Many clients of a small model: python benchmarks/many_clients.py [W1 dense fab conv] --data ../shared/data

Logistic regression on MNIST, one process with one thread: W1 (10 of 1,000 clients, 6 steps of 10 samples), and 4,096
clients that each take one step of 2 samples, with dense averaging and with FAB-top-k with error feedback (k = 400).
fedmpi trains them in batches and one after the other; beside it runs a plain loop in numpy that averages densely and
has no emulation, no trace and no checkpoints. The same of 256 clients with 3 steps of 10 samples of a small
convolutional model, without such a loop. Printed are medians of the median seconds of a round, and ratios.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CONFIG = """
[experiment]
name = "many"
evaluate_every = 100000
rounds = {rounds}
[clients]
count = {clients}
per_round = {per_round}
[data]
dataset = "idx"
path = "{data}"
partition = "iid"
samples_per_client = {samples}
[model]
name = "{model}"
[training]
local_epochs = 1
batch_size = {batch}
learning_rate = 0.03
[sparsification]
{sparsification}
[emulation.compute]
model = "linear"
profile = "raspberry-pi-4"
[emulation.network]
uplink_mbit_per_s = 10.0
downlink_mbit_per_s = 20.0
latency_s = 0.02
"""
LOGISTIC, CONVOLUTIONAL = "logistic", "many_clients:convolutional"
MANY = {"model": LOGISTIC, "rounds": 8, "clients": 4096, "per_round": 4096, "samples": 2, "batch": 2}
DENSE, FAB = 'method = "dense"', 'method = "fab"\nk = 400'
WORKLOADS = {
    "W1": {
        "model": LOGISTIC,
        "rounds": 100,
        "clients": 1000,
        "per_round": 10,
        "samples": 60,
        "batch": 10,
        "sparsification": DENSE,
    },
    "dense": {**MANY, "sparsification": DENSE},
    "fab": {**MANY, "sparsification": FAB},
    "conv": {
        "model": CONVOLUTIONAL,
        "rounds": 8,
        "clients": 256,
        "per_round": 256,
        "samples": 30,
        "batch": 10,
        "sparsification": DENSE,
    },
}


def convolutional(input_shape: tuple[int, ...], classes: int) -> object:
    """2,826 parameters for MNIST: two convolutions that each halve the image, pooling, and a linear layer."""
    from torch import nn

    channels, height, width = input_shape
    return nn.Sequential(
        nn.Conv2d(channels, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * (height // 8) * (width // 8), classes),
    )


def loop_s(settings: dict[str, object], data: Path) -> float:
    """The median seconds of a round of federated averaging as one would write it with numpy."""
    from fedmpi.config import loads
    from fedmpi.federation.distribution import read_data

    config = loads(CONFIG.format(data=data, **settings))
    data_of = read_data(config)
    x = data_of.dataset.train_x.reshape(len(data_of.dataset.train_x), -1).astype(np.float32) / 255
    y = data_of.dataset.train_y
    clients = [(x[samples], y[samples]) for samples in data_of.samples]
    rng = np.random.default_rng(0)
    weights, bias = np.zeros((10, x.shape[1]), np.float32), np.zeros(10, np.float32)
    seconds = []
    for _ in range(config.experiment.rounds):
        begin = time.perf_counter()
        participants = rng.choice(config.clients.count, config.clients.per_round, replace=False)
        new_weights, new_bias = np.zeros_like(weights), np.zeros_like(bias)
        total = sum(len(clients[client][1]) for client in participants)
        for client in participants:
            own_x, own_y = clients[client]
            own_weights, own_bias = weights.copy(), bias.copy()
            order = rng.permutation(len(own_y))
            for start in range(0, len(own_y), config.training.batch_size):
                taken = order[start : start + config.training.batch_size]
                logits = own_x[taken] @ own_weights.T + own_bias
                error = np.exp(logits - logits.max(1, keepdims=True))
                error /= error.sum(1, keepdims=True)
                error[np.arange(len(taken)), own_y[taken]] -= 1
                error /= len(taken)
                own_weights -= config.training.learning_rate * (error.T @ own_x[taken])
                own_bias -= config.training.learning_rate * error.sum(0)
            new_weights += own_weights * np.float32(len(own_y) / total)
            new_bias += own_bias * np.float32(len(own_y) / total)
        weights, bias = new_weights, new_bias
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def fedmpi_s(settings: dict[str, object], data: Path, folder: Path, batched: str) -> float:
    """The median seconds of a round of fedmpi on one rank."""
    from fedmpi import trace

    config = folder / "many.toml"
    config.write_text(CONFIG.format(data=data, **settings), encoding="utf-8")
    command = [sys.executable, "-m", "fedmpi", "run", str(config), f"training.batched={batched}"]
    output = folder / "run"
    command += ["--overwrite", "--quiet", "--output", str(output)]
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parent)
    return float(trace.read(output).rounds["host_s"].median())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS), metavar="|".join(WORKLOADS))
    parser.add_argument("--data", type=Path, required=True, help="folder with mnist/")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    data = (arguments.data / "mnist").resolve()
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.workloads:
            settings = WORKLOADS[name]
            rows = [
                (
                    loop_s(settings, data) if settings["model"] == LOGISTIC else np.nan,
                    fedmpi_s(settings, data, Path(temporary), "off"),
                    fedmpi_s(settings, data, Path(temporary), "on"),
                )
                for _ in range(arguments.repeats)
            ]
            loop, alone, batched = np.median(rows, axis=0) * 1e3
            of_loop, of_alone = (float(np.median([row[2] / row[other] for row in rows])) for other in (0, 1))
            beside = "" if np.isnan(loop) else f", numpy loop {loop:.1f} ms ({of_loop:.2f})"
            print(
                f"{name}: {batched:.1f} ms a round in batches, {alone:.1f} ms one by one ({of_alone:.2f}){beside}",
                flush=True,
            )


if __name__ == "__main__":
    main()
