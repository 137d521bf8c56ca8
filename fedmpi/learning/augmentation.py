"""Random changes of training images that keep their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedmpi.numerics.streams import Purpose, generator

_PADDING = 4


Augmentation = Callable[[Tensor, int], Tensor]
"""Changes samples, uint8 or float32 (n, C, H, W), the first of which is number ``first`` of those it was drawn for."""


@dataclass(frozen=True)
class FlipCrop:
    """Each image mirrored left to right with probability 1/2, and shifted by up to 4 pixels either way.

    A shift is a crop of the original size from the image padded with 4 zeros on all sides, every place being
    equally likely (He et al., CVPR 2016, section 4.2, for CIFAR-10). ``top`` and ``left``, int64 (n,), are the places
    of n images, ``mirrored`` bool (n,). Gives a new contiguous tensor of the type and shape of ``x``.
    """

    top: Tensor
    left: Tensor
    mirrored: Tensor

    @classmethod
    def draw(cls, count: int, rng: np.random.Generator) -> FlipCrop:
        """The changes of ``count`` images."""
        top, left = torch.from_numpy(rng.integers(0, 2 * _PADDING + 1, (2, count)))
        return cls(top, left, torch.from_numpy(rng.random(count) < 0.5))

    def __call__(self, x: Tensor, first: int) -> Tensor:
        count, _, height, width = x.shape
        mine = slice(first, first + count)
        top, left, mirrored = (drawn[mine].to(x.device) for drawn in (self.top, self.left, self.mirrored))
        padded = F.pad(x, (_PADDING,) * 4)
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view (n, C, 9, 9, H, W)
        cropped = windows[torch.arange(count, device=x.device), :, top, left]
        return torch.where(mirrored[:, None, None, None], cropped.flip(3), cropped)


AUGMENTATIONS: dict[str, Callable[[int, np.random.Generator], Augmentation]] = {"flip_crop": FlipCrop.draw}


def augmenter(name: str, seed: int, round_index: int, client: int) -> Callable[[int], Augmentation] | None:
    """What draws the augmentation ``name`` for the n samples that a client takes in a round; None for ``none``.

    It draws from the client's own stream and is called once: calling it again goes on drawing. KeyError for
    any other name.
    """
    if name == "none":
        return None
    draw, rng = AUGMENTATIONS[name], generator(seed, Purpose.AUGMENTATION, round_index, client)
    return lambda count: draw(count, rng)
