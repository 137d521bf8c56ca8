"""Conv2, the convolutional network of PruneFL's FEMNIST experiments."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fedmpi.learning.models.memory_format import ChannelsLast
from fedmpi.learning.models.pooling import pooled_pixels


def conv2(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Two 5 x 5 convolutions (32 and 64 channels), each with 2 x 2 pooling, then 2048 and ``classes`` units.

    6,603,710 parameters for 28 x 28 grey images and 62 classes (Jiang et al., IEEE TNNLS 2022). Initial
    weights: convolutions and biases as torch's default, fully connected layers Kaiming uniform with
    ``fan_out`` and a = 0. ReLU follows pooling, with which it commutes: it sees a quarter of the values.
    """
    channels, height, width = input_shape
    flat = 64 * pooled_pixels("conv2", height, width, growths=(0, 0))
    module = nn.Sequential(
        OrderedDict(
            channels_last=ChannelsLast(),
            conv1=nn.Conv2d(channels, 32, 5, padding=2),
            pool1=nn.MaxPool2d(2),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(32, 64, 5, padding=2),
            pool2=nn.MaxPool2d(2),
            relu2=nn.ReLU(),
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, 2048),
            relu3=nn.ReLU(),
            fc2=nn.Linear(2048, classes),
        )
    )
    for child in module.children():
        if isinstance(child, nn.Linear):
            nn.init.kaiming_uniform_(child.weight, a=0.0, mode="fan_out")
    return module
