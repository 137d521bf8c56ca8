"""A user's model, ``nan_model:make``: its loss is NaN on white images."""

import torch
from torch import nn


class SometimesNan(nn.Module):
    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        logits = self.linear(x.flatten(1))
        return logits * float("nan") if bool((x == 1.0).all()) else logits


def make(input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    return SometimesNan(input_shape[0] * input_shape[1] * input_shape[2], classes)
