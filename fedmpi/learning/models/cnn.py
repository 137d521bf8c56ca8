"""The convolutional network of the FAB-top-k experiments."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn

from fedmpi.learning.models.local_response import LocalResponseNorm
from fedmpi.learning.models.memory_format import ChannelsLast
from fedmpi.learning.models.pooling import pooled_pixels

_WEIGHT_STD = 0.1
_BIAS = 0.1


def cnn(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two 5 x 5 convolutions of 32 channels with pooling and local response normalisation, two dense layers.

    444,062 parameters for 28 x 28 grey images and 62 classes (Han, Wang and Leung, ICDCS 2020). Weights are
    normal with standard deviation 0.1, truncated at twice that; biases are 0.1. ReLU follows the first
    pooling, with which it commutes: there it sees a quarter of the values.
    """
    channels, height, width = input_shape
    flat = 32 * pooled_pixels("cnn", height, width, growths=(0, 0))
    module = nn.Sequential(
        OrderedDict(
            channels_last=ChannelsLast(),
            conv1=nn.Conv2d(channels, 32, 5, padding=2),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            norm1=_normalisation(),
            conv2=nn.Conv2d(32, 32, 5, padding=2),
            relu2=nn.ReLU(),
            norm2=_normalisation(),
            pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 256),
            relu3=nn.ReLU(),
            fc2=nn.Linear(256, classes),
        )
    )
    with torch.no_grad():
        for child in module.children():
            if isinstance(child, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(child.weight, std=_WEIGHT_STD, a=-2 * _WEIGHT_STD, b=2 * _WEIGHT_STD)
                if child.bias is not None:
                    child.bias.fill_(_BIAS)
    return module


def _normalisation() -> LocalResponseNorm:
    return LocalResponseNorm(channels=32, depth_radius=4, bias=1.0, alpha=0.001 / 9, beta=0.75)
