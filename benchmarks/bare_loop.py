"""The yardstick of benchmarks/throughput.py: federated averaging as one would write it by hand with PyTorch and MPI.

Started by throughput.py under mpiexec. Every rank holds all data, takes every P-th participant, trains it with
torch.optim.SGD on one thread, adds up weighted updates, and one Allreduce of float32 makes the new model. There
is no emulation, no trace, no checkpoint, and its sums depend on the number of ranks. Prints the median seconds
of a round and the accuracy as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI
from torch import nn

from fedmpi.config import load
from fedmpi.federation.client_selection import draw_participants
from fedmpi.federation.distribution import read_data
from fedmpi.learning.datasets import as_float32
from fedmpi.learning.models import build


def bce_one_hot(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    one_hot = nn.functional.one_hot(labels, logits.shape[1]).float()
    return nn.functional.binary_cross_entropy_with_logits(logits, one_hot)


def main() -> None:
    comm = MPI.COMM_WORLD
    rank, size = comm.Get_rank(), comm.Get_size()
    config = load(Path(sys.argv[1]))
    torch.set_num_threads(1)
    training = config.training
    data = read_data(config)
    facts = data.facts()
    clients = [
        (torch.from_numpy(as_float32(data.dataset.train_x[idx])), torch.from_numpy(data.dataset.train_y[idx]))
        for idx in data.samples
    ]
    test_x = torch.from_numpy(as_float32(data.dataset.test_x))
    test_y = torch.from_numpy(data.dataset.test_y)
    model = build(config.model, facts.input_shape, facts.classes, config.experiment.seed)
    parameters = list(model.parameters())
    loss_function = bce_one_hot if training.loss == "bce_one_hot" else nn.functional.cross_entropy
    weights = [p.detach().clone() for p in parameters]
    buffer = np.zeros(sum(p.numel() for p in parameters), dtype=np.float32)
    seconds = []
    accuracy = float("nan")
    everybody = np.arange(config.clients.count)
    for round_index in range(config.experiment.rounds):
        comm.Barrier()
        begin = time.perf_counter()
        participants = draw_participants(0, round_index, everybody, config.clients.per_round)
        total = sum(len(clients[c][1]) for c in participants)
        update = [torch.zeros_like(p) for p in weights]
        for client in participants[rank::size]:
            x, y = clients[client]
            with torch.no_grad():
                for p, w in zip(parameters, weights, strict=True):
                    p.copy_(w)
            optimizer = torch.optim.SGD(
                model.parameters(), lr=training.learning_rate, momentum=training.momentum
            )
            batch = training.batch_size
            if training.local_epochs:
                order = torch.cat([torch.randperm(len(y)) for _ in range(training.local_epochs)])
                steps = -(-len(order) // batch)
            else:
                steps = training.local_steps
                order = torch.cat([torch.randperm(len(y)) for _ in range(-(-steps * batch // len(y)))])
            for step in range(steps):
                chosen = order[step * batch : (step + 1) * batch]
                optimizer.zero_grad()
                loss_function(model(x[chosen]), y[chosen]).backward()
                optimizer.step()
            with torch.no_grad():
                for u, p, w in zip(update, parameters, weights, strict=True):
                    u.add_(p - w, alpha=len(y) / total)
        np.concatenate([u.numpy().ravel() for u in update], out=buffer)
        comm.Allreduce(MPI.IN_PLACE, buffer)
        start = 0
        for w in weights:
            w += torch.from_numpy(buffer[start : start + w.numel()]).view_as(w)
            start += w.numel()
        if (round_index + 1) % config.experiment.evaluate_every == 0:
            with torch.no_grad():
                for p, w in zip(parameters, weights, strict=True):
                    p.copy_(w)
                mine = slice(rank * len(test_y) // size, (rank + 1) * len(test_y) // size)
                correct = np.zeros(1)
                for x, y in zip(test_x[mine].split(256), test_y[mine].split(256), strict=True):
                    correct[0] += int((model(x).argmax(1) == y).sum())
            comm.Allreduce(MPI.IN_PLACE, correct)
            accuracy = float(correct[0] / len(test_y))
        comm.Barrier()
        seconds.append(time.perf_counter() - begin)
    if rank == 0:
        print(json.dumps({"median_round_s": float(np.median(seconds)), "accuracy": accuracy}))


if __name__ == "__main__":
    main()
