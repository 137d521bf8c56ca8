"""A model that draws from every generator, in both modes, and whose outputs depend on state of several kinds."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stateful(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, 16)
        self.second = nn.Linear(16, classes)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(16))
        self.frozen = nn.Parameter(torch.ones(16), requires_grad=False)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        self.steps += 1
        self.calls += 1
        self.frozen.data.mul_(0.9)
        noise = torch.randn_like(x) + random.random() + float(np.random.rand())  # noqa: NPY002
        y = F.dropout(torch.relu(self.first(x + 0.1 * noise)), 0.2, training=True) * self.frozen
        self.mean = 0.9 * self.mean + 0.1 * y.mean(0).detach()
        return self.second(y - self.mean) * (1.0 - 0.5 ** (self.steps + self.calls))


def make(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    return Stateful(int(np.prod(input_shape)), classes)
