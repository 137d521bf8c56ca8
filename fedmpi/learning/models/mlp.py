"""Fully connected networks; without hidden layers, multinomial logistic regression."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from math import prod

from torch import nn


def mlp(input_shape: tuple[int, ...], classes: int, hidden: tuple[int, ...]) -> nn.Module:
    """Linear layers of the ``hidden`` sizes with ReLU between, torch's default initial weights."""
    sizes = (prod(input_shape), *hidden, classes)
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        layers[f"fc{number}"] = nn.Linear(fan_in, fan_out)
        if number < len(sizes) - 1:
            layers[f"relu{number}"] = nn.ReLU()
    return nn.Sequential(layers)


def logistic(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Multinomial logistic regression: one linear layer."""
    return mlp(input_shape, classes, ())
