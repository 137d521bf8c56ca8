"""Random changes of training images that keep their labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fedmpi.numerics.streams import Purpose, generator

_PADDING = 4


def flip_crop(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Each image mirrored left to right with probability 1/2, and shifted by up to 4 pixels either way.

    A shift is a crop of the original size from the image padded with 4 zeros on all sides, every place being
    equally likely (He et al., CVPR 2016, section 4.2, for CIFAR-10). Takes uint8 or float32 (n, C, H, W) and
    gives a new contiguous tensor of the same kind; it hangs on ``x`` and ``rng`` alone.
    """
    count, _, height, width = x.shape
    places = rng.integers(0, 2 * _PADDING + 1, (2, count))
    mirrored = rng.random(count) < 0.5
    top, left = torch.from_numpy(places).to(x.device)
    padded = F.pad(x, (_PADDING,) * 4)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view (n, C, 9, 9, H, W)
    cropped = windows[torch.arange(count, device=x.device), :, top, left]
    return torch.where(torch.from_numpy(mirrored).to(x.device)[:, None, None, None], cropped.flip(3), cropped)


AUGMENTATIONS: dict[str, Callable[[Tensor, np.random.Generator], Tensor]] = {"flip_crop": flip_crop}


def augmenter(name: str, seed: int, round_index: int, client: int) -> Callable[[Tensor], Tensor] | None:
    """The augmentation ``name`` for the samples that a client takes in a round; None for ``none``.

    It draws from the client's own stream and is called once: calling it again goes on drawing. KeyError for
    any other name.
    """
    if name == "none":
        return None
    augment, rng = AUGMENTATIONS[name], generator(seed, Purpose.AUGMENTATION, round_index, client)
    return lambda x: augment(x, rng)
