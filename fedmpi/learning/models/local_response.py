"""Local response normalisation across channels (Krizhevsky, Sutskever and Hinton, NIPS 2012, section 3.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class LocalResponseNorm(nn.Module):
    """y_c = x_c / (bias + alpha * sum over |j - c| <= depth_radius of x_j^2)^beta, for x (n, channels, H, W).

    ``alpha`` multiplies the sum, as in TensorFlow's ``lrn``; torch's ``nn.LocalResponseNorm`` divides it by
    the number of channels in the window. The sums over channels are products with a band matrix, many times
    faster than torch's pooling over padded channels.
    """

    band: Tensor

    def __init__(self, channels: int, depth_radius: int, bias: float, alpha: float, beta: float) -> None:
        super().__init__()
        position = torch.arange(channels)
        band = ((position[:, None] - position[None, :]).abs() <= depth_radius).to(torch.float32)
        self.register_buffer("band", band, persistent=False)
        self.bias = bias
        self.alpha = alpha
        self.beta = beta

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (n, channels, H, W)."""
        result: Tensor = _Normalise.apply(x, self.band, self.bias, self.alpha, self.beta)
        return result


class _Normalise(torch.autograd.Function):
    """y = x p, dx = dy p - 2 alpha beta x band(dy x p / s), with s = bias + alpha band(x^2), p = s^-beta."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, band: Tensor, bias: float, alpha: float, beta: float) -> Tensor:
        scale = _over_channels(band, x * x).mul_(alpha).add_(bias)
        factor = negative_power(scale, beta)
        ctx.save_for_backward(x, band, scale, factor)
        ctx.coefficient = -2.0 * alpha * beta
        return x * factor

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        x, band, scale, factor = ctx.saved_tensors
        direct = gradients[0] * factor
        shared = _over_channels(band, (direct * x).div_(scale))
        return direct.addcmul_(x, shared, value=ctx.coefficient), None, None, None, None


def _over_channels(band: Tensor, x: Tensor) -> Tensor:
    """Sums over the neighbours of each channel, for any order in memory (fastest with channels last)."""
    rows = x.permute(0, 2, 3, 1)
    return torch.mm(rows.reshape(-1, x.shape[1]), band).view(rows.shape).permute(0, 3, 1, 2)


def negative_power(scale: Tensor, beta: float) -> Tensor:
    """1 / scale^beta of every value."""
    if beta == 0.75:  # the usual value, and square roots are much cheaper than powers
        root = scale.sqrt()
        return root.sqrt().mul_(root).reciprocal_()
    return scale.pow(-beta)
