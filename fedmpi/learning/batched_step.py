"""The SGD steps of a batch of clients, on matrices that hold a client in each row (see ``batched``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat

import torch
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.flat import Layer

FLOATS_PER_LINE = (
    16  # matrix products may round differently where an operand begins elsewhere in its cache line
)


def padded(rows: int, length: int) -> Tensor:
    """A float32 (rows, length) of undefined values, every row of which begins a cache line."""
    stride = -(-length // FLOATS_PER_LINE) * FLOATS_PER_LINE
    return torch.empty(rows, stride)[:, :length]


def sample_rows(x: Tensor, clients: int, offset: int) -> Tensor:
    """The samples x (clients x n, ...) of each client, float32 (clients, n, ...).

    Each begins in its cache line where it would behind ``offset`` other samples.
    """
    features = x[0].numel()
    values, lead = x.numel() // clients, offset * features % FLOATS_PER_LINE
    rows = x.view(clients, values)
    if values % FLOATS_PER_LINE or lead:
        rows = padded(clients, lead + values)[:, lead:].copy_(rows)
    return rows.view(clients, -1, *x.shape[1:])


class Rows:
    """Room for the weights and gradients of up to ``clients`` clients, and views of every client's layers in it."""

    def __init__(self, layers: Sequence[Layer], clients: int) -> None:
        self.layers = layers
        length = layers[-1].stop
        self.weights = padded(clients, length)
        self._weights = [self._layer(self.weights, layer).unbind(0) for layer in layers]
        self._transposed = [
            self._layer(self.weights, layer).transpose(1, 2).unbind(0) if len(layer.shape) == 2 else ()
            for layer in layers
        ]
        # Gradients lie in one matrix where every layer then begins a cache line, as gradients of their own do.
        self.joined = padded(clients, length) if _all_aligned(layers) else None
        self.gradients = [
            padded(clients, layer.stop - layer.start)
            if self.joined is None
            else self.joined[:, layer.start : layer.stop]
            for layer in layers
        ]
        self._gradients = [
            gradient.view(clients, *layer.shape).unbind(0)
            for gradient, layer in zip(self.gradients, layers, strict=True)
        ]
        self._sums: Tensor | None = None

    @staticmethod
    def _layer(matrix: Tensor, layer: Layer) -> Tensor:
        return matrix[:, layer.start : layer.stop].view(len(matrix), *layer.shape)

    def split(self, matrix: Tensor) -> list[Tensor]:
        """The columns of each layer, (rows, values of the layer)."""
        return [matrix[:, layer.start : layer.stop] for layer in self.layers]

    def weights_of(self, layer: int) -> Sequence[Tensor]:
        """Every client's weights of a layer, in its shape."""
        return self._weights[layer]

    def transposed_of(self, layer: int) -> Sequence[Tensor]:
        """The same, transposed."""
        return self._transposed[layer]

    def gradients_of(self, layer: int) -> tuple[Tensor, ...]:
        """Every client's gradient of a layer, in its shape."""
        return self._gradients[layer]

    @property
    def sums(self) -> Tensor:
        """Room for sums of directions, (clients, D)."""
        if self._sums is None:
            self._sums = padded(*self.weights.shape)
        return self._sums


class ManySteps:
    """The steps of one round of ``clients`` clients; holds their momentum. The arithmetic is that of ``training``.

    ``start``: float32 (D,), the same for all, or (clients, D). ``mask``: float32 (D,) of zeros and ones or None.
    """

    def __init__(
        self,
        rows: Rows,
        clients: int,
        start: Tensor,
        training: TrainingConfig,
        learning_rate: float,
        mask: Tensor | None,
    ) -> None:
        self._all = rows
        self.clients = clients
        self._training = training
        self._rate = learning_rate
        self._mask = None if mask is None else rows.split(mask.unsqueeze(0))
        self.weights = rows.weights[:clients]
        self._weights = rows.split(self.weights)
        self._gradients = [gradient[:clients] for gradient in rows.gradients]
        self._shared: list[Tensor] | None = None
        if start.dim() == 1:
            aligned = start if start.data_ptr() % (4 * FLOATS_PER_LINE) == 0 else start.clone()
            self._starts = rows.split(aligned.unsqueeze(0))
            self._shared = [
                part.view(layer.shape) for part, layer in zip(self._starts, rows.layers, strict=True)
            ]
        else:
            self.weights.copy_(start)
            self._starts = rows.split(start)
        self._velocity: list[Tensor] = []
        self._first = True
        self.directions: Tensor | None = None

    def each(self, layer: int) -> Iterable[Tensor]:
        """The present weights of a layer of every client."""
        if self._shared is not None:
            return repeat(self._shared[layer], self.clients)
        return self._all.weights_of(layer)[: self.clients]

    def transposed(self, layer: int) -> Iterable[Tensor]:
        """The same of a matrix, transposed."""
        if self._shared is not None:
            return repeat(self._shared[layer].t(), self.clients)
        return self._all.transposed_of(layer)[: self.clients]

    def gradients(self, layer: int) -> tuple[Tensor, ...]:
        """Where the gradient of a layer of every client belongs."""
        return self._all.gradients_of(layer)[: self.clients]

    def gradient(self, layer: int) -> Tensor:
        """The same in one, (clients, values of the layer)."""
        return self._gradients[layer]

    def take(self, write: bool, add_up: bool, last: bool) -> None:
        """A step along the gradients: add the directions up if ``add_up``, and move the weights if ``write``."""
        training, first, self._first = self._training, self._first, False
        sources = self._starts if self._shared is not None else self._weights
        directions = self._gradients
        if training.weight_decay:
            decay = training.weight_decay
            directions = [torch.add(d, w, alpha=decay) for d, w in zip(directions, sources, strict=True)]
        if training.proximal_mu and not first:
            mu = training.proximal_mu
            away = [torch.sub(w, start) for w, start in zip(sources, self._starts, strict=True)]
            directions = [torch.add(d, a, alpha=mu) for d, a in zip(directions, away, strict=True)]
        if training.momentum:
            directions = self._with_momentum(directions, first)
        if add_up:
            self._add_up(directions, first, last)
        if not write:
            return
        for number, (weights, source) in enumerate(zip(self._weights, sources, strict=True)):
            if self._mask is None:
                torch.add(source, directions[number], alpha=-self._rate, out=weights)
            else:
                torch.addcmul(source, directions[number], self._mask[number], value=-self._rate, out=weights)
        self._shared = None

    def _with_momentum(self, directions: list[Tensor], first: bool) -> list[Tensor]:
        if first:
            self._velocity = [direction.clone() for direction in directions]
        else:
            for velocity, direction in zip(self._velocity, directions, strict=True):
                velocity.mul_(self._training.momentum).add_(direction)
        return self._velocity

    def _add_up(self, directions: list[Tensor], first: bool, last: bool) -> None:
        if first and last and directions is self._gradients and self._all.joined is not None:
            self.directions = self._all.joined[: self.clients]
            return
        self.directions = self._all.sums[: self.clients]
        for total, direction in zip(self._all.split(self.directions), directions, strict=True):
            if first:
                total.copy_(direction)
            else:
                total.add_(direction)


def _all_aligned(layers: Sequence[Layer]) -> bool:
    return all(layer.start % FLOATS_PER_LINE == 0 for layer in layers)
