"""VGG-11 for small images, the network of PruneFL's CIFAR-10 experiments."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from fedmpi.learning.models.memory_format import ChannelsLast
from fedmpi.learning.models.pooling import pooled_pixels

_STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_HIDDEN = 512


def vgg11(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """Eight 3 x 3 convolutions in five stages, each stage ended by 2 x 2 pooling, and three dense layers.

    Configuration A of Simonyan and Zisserman (ICLR 2015) with dense layers of 512, 512 and ``classes``
    units, without dropout and batch norm; 9,750,922 parameters for 32 x 32 colour images and 10 classes
    (Jiang et al., IEEE TNNLS 2022). Initial weights: convolutions and biases as torch's default, fully
    connected layers Kaiming uniform with ``fan_in`` and a = 0, the last with ``fan_out`` and a = 1.5. ReLU
    follows pooling where there is one, with which it commutes: it sees a quarter of the values.
    """
    channels, height, width = input_shape
    flat = _STAGES[-1][-1] * pooled_pixels("vgg11", height, width, growths=(0,) * len(_STAGES))
    layers: OrderedDict[str, nn.Module] = OrderedDict(channels_last=ChannelsLast())
    for stage, widths in enumerate(_STAGES, start=1):
        for number, out_channels in enumerate(widths, start=1):
            layers[f"conv{stage}_{number}"] = nn.Conv2d(channels, out_channels, 3, padding=1)
            if number == len(widths):
                layers[f"pool{stage}"] = nn.MaxPool2d(2)
            layers[f"relu{stage}_{number}"] = nn.ReLU()
            channels = out_channels
    hidden = (nn.Linear(flat, _HIDDEN), nn.Linear(_HIDDEN, _HIDDEN))
    last = nn.Linear(_HIDDEN, classes)
    for layer in hidden:
        nn.init.kaiming_uniform_(layer.weight, a=0.0, mode="fan_in")
    nn.init.kaiming_uniform_(last.weight, a=1.5, mode="fan_out")
    layers |= {"flatten": nn.Flatten(), "fc1": hidden[0], "relu6": nn.ReLU()}
    layers |= {"fc2": hidden[1], "relu7": nn.ReLU(), "fc3": last}
    return nn.Sequential(layers)
