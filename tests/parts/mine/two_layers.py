"""A model with a width of its own."""

from torch import nn


def net(shape, classes, width: int = 12):
    inputs = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, classes))
