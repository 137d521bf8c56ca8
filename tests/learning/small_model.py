"""A small model with its samples, and the round that torch's own optimizer makes of them."""

import numpy as np
import torch
from torch import Tensor, nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask

SAMPLES = torch.rand(23, 1, 4, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 3, (23,), generator=torch.Generator().manual_seed(2))
RATE = 0.1


def small_module(*extra: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), *extra, nn.Linear(8, 3))


def draws(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def torch_round(module: nn.Module, training: TrainingConfig) -> tuple[Tensor, float]:
    """The same round by torch's own optimizer: flat parameters and mean loss."""
    optimizer = torch.optim.SGD(
        module.parameters(), lr=RATE, momentum=training.momentum, weight_decay=training.weight_decay
    )
    order, bounds = batch_order(len(SAMPLES), training, draws())
    begin = [p.detach().clone() for p in module.parameters()]
    losses = []
    for first, stop in bounds:
        taken = torch.from_numpy(order[first:stop])
        optimizer.zero_grad()
        loss = LOSSES[training.loss].mean(module(SAMPLES[taken]), LABELS[taken])
        distance = sum(((p - b) ** 2).sum() for p, b in zip(module.parameters(), begin, strict=True))
        (loss + training.proximal_mu / 2 * distance).backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.cat([p.detach().flatten() for p in module.parameters()]), sum(losses) / len(losses)


def task(training: TrainingConfig, sums: Tensor | None = None) -> LocalTask:
    return LocalTask(training, RATE, draws(), direction_sum=sums)
