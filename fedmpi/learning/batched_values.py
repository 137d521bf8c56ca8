"""What passes between the layers of a batch of models: values of the samples of every client (see ``batched``).

Operations that treat every value, or every sample, by itself take all clients at once; matrix products and convolutions
take one after the other, on what lies in memory as it would for that client alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedmpi.learning.batched_step import FLOATS_PER_LINE, padded

Tensors = tuple[Tensor, ...] | list[Tensor]


class Values:
    """Float32 activations of many clients, or gradients of these, in two forms.

    ``each``: (n, ...) of every client, with the strides that it would have alone, from the beginning of a cache line.
    ``together``: (clients, n, ...), the same memory: what changes it in place changes ``each``.
    """

    def __init__(
        self,
        each: Tensors | None = None,
        together: Tensor | None = None,
        transposed: Tensors | None = None,
    ) -> None:
        self._each = each
        self._together = together
        self._transposed = transposed

    @classmethod
    def of_packed(cls, packed: Tensor, clients: int) -> Values:
        """Of the samples (clients x n, ...) of all clients, one client's after the other's."""
        together = _by_client(packed, clients)
        if together[0].numel() % FLOATS_PER_LINE:
            together = room_like(together[0], clients).copy_(together)
        return cls(together=together)

    @property
    def each(self) -> Tensors:
        if self._each is None:
            assert self._together is not None
            self._each = self._together.unbind(0)
        return self._each

    @property
    def together(self) -> Tensor:
        if self._together is None:
            assert self._each is not None
            each = self._each
            if len(each) == 1:
                self._together = each[0].unsqueeze(0)
            elif each[0].numel() % FLOATS_PER_LINE:
                self._together = room_like(each[0], len(each))
                torch._foreach_copy_(self._together.unbind(0), each)
            else:
                self._together = _by_client(torch.cat(each), len(each))
            self._each = None
        return self._together

    @property
    def transposed(self) -> Tensors:
        """``each``, if (n, m), as (m, n)."""
        if self._transposed is None:
            self._transposed = self.together.transpose(1, 2).unbind(0)
        return self._transposed

    @property
    def packed(self) -> Tensor:
        """(clients x n, ...) without gaps; a copy where clients do not lie one behind the other."""
        if len(self.each) == 1:
            return self.each[0]
        if self._together is None or self._together[0].numel() % FLOATS_PER_LINE:
            return torch.cat(self.each)
        clients, samples, *shape = self._together.shape
        return self._together.as_strided((clients * samples, *shape), self._together.stride()[1:])


class Room:
    """Memory for (n, values) of each of up to ``clients`` clients, and its views, which are made once."""

    def __init__(self, clients: int, samples: int, values: int) -> None:
        self._together = padded(clients, samples * values).view(clients, samples, values)
        self._each = self._together.unbind(0)
        self._transposed = self._together.transpose(1, 2).unbind(0)

    def of_first(self, clients: int) -> Values:
        """The part of the first clients."""
        return Values(self._each[:clients], self._together[:clients], self._transposed[:clients])


def room_like(sample: Tensor, clients: int) -> Tensor:
    """(clients, n, ...) of undefined values, every client's strides those of ``sample`` (n, ...), which has no gaps."""
    room = padded(clients, sample.numel())
    return room.as_strided((clients, *sample.shape), (room.stride(0), *sample.stride()))


def _by_client(packed: Tensor, clients: int) -> Tensor:
    """(clients x n, ...) as (clients, n, ...), with the same strides also where n is 1: kernels look at those too."""
    samples = len(packed) // clients
    shape, strides = packed.shape[1:], packed.stride()
    return packed.as_strided((clients, samples, *shape), (samples * strides[0], *strides))
