"""Conv4, the convolutional network of PruneFL's CelebA experiments."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fedmpi.learning.models.memory_format import ChannelsLast
from fedmpi.learning.models.pooling import pooled_pixels

_WIDTH = 32
_PADDINGS = (1, 1, 2, 2)


def conv4(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Four blocks of a 3 x 3 convolution of 32 channels, batch norm and 2 x 2 pooling, then ``classes`` units.

    31,202 parameters for 84 x 84 colour images and 2 classes (Jiang et al., IEEE TNNLS 2022; the network is
    that of LEAF's CelebA, Caldas et al. 2018). Initial weights are torch's default. ReLU follows pooling,
    with which it commutes: it sees a quarter of the values.
    """
    channels, height, width = input_shape
    growths = [2 * padding - 2 for padding in _PADDINGS]
    flat = _WIDTH * pooled_pixels("conv4", height, width, growths)
    layers: OrderedDict[str, nn.Module] = OrderedDict(channels_last=ChannelsLast())
    for number, padding in enumerate(_PADDINGS, start=1):
        layers[f"conv{number}"] = nn.Conv2d(channels, _WIDTH, 3, padding=padding)
        layers[f"norm{number}"] = nn.BatchNorm2d(_WIDTH)
        layers[f"pool{number}"] = nn.MaxPool2d(2)
        layers[f"relu{number}"] = nn.ReLU()
        channels = _WIDTH
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(flat, classes)
    return nn.Sequential(layers)
