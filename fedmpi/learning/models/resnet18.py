"""ResNet-18 (He, Zhang, Ren and Sun, CVPR 2016), the network of PruneFL's ImageNet experiments."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from fedmpi.learning.models.memory_format import ChannelsLast

_WIDTHS = (64, 128, 256, 512)
_BLOCKS_OF_STAGE = 2


def resnet18(input_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A 7 x 7 convolution, eight residual blocks of two 3 x 3 convolutions, and one dense layer.

    11,227,812 parameters for colour images of any size and 100 classes; 9,600 floats are batch-norm
    statistics. Prunable are 18 weights: the first convolution, the two of every block, and the dense layer. The 1 x 1
    convolutions of the three shortcuts that change the size are not (Jiang et al., IEEE TNNLS 2022). Initial
    weights are torch's default.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        channels_last=ChannelsLast(),
        conv1=nn.Conv2d(input_shape[0], _WIDTHS[0], 7, stride=2, padding=3, bias=False),
        norm1=nn.BatchNorm2d(_WIDTHS[0]),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.MaxPool2d(3, stride=2, padding=1),
    )
    channels = _WIDTHS[0]
    for stage, width in enumerate(_WIDTHS, start=1):
        for number in range(1, _BLOCKS_OF_STAGE + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            layers[f"block{stage}_{number}"] = ResidualBlock(channels, width, stride)
            channels = width
    layers["pool2"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes)
    return nn.Sequential(layers)


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x)))))); the first convolution has the stride."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            projection = _Projection(channels, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, H, W) -> (n, width, ceil(H / stride), ceil(W / stride))."""
        inner = torch.relu_(self.norm1(self.conv1(x)))
        return torch.relu_(self.norm2(self.conv2(inner)).add_(self.shortcut(x)))


class _Projection(nn.Conv2d):
    """The convolution of a shortcut between different sizes."""

    prunable = False
