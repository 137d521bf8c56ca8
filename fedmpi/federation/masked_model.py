"""The global model and its mask as one rank has them: the one place where a mask is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.learning.flat import FlatModel
from fedmpi.mpi.collectives import Ranks
from fedmpi.pruning.mask import Mask

Follower = Callable[[Mask, Sequence[int]], None]
"""``follow(mask, clients)``: go on under ``mask``, with zeros for what it prunes in all that ``clients`` carry."""


class MaskedModel:
    """The global weights under the mask of the present round, alike on every rank.

    ``weights``: the global vector (torch float32 (D + B,), parameters then float buffers, on the CPU); every rank
    applies the same changes to its own. ``flat`` is the model that trains and is evaluated, on its device.
    ``since``: the first round of ``mask``. What follows from the mask: ``support``, the rising int32 indices of active
    parameters (None: all); ``in_training``, float32 (D,) of zeros and ones on the model's device (None: nothing is
    pruned); ``active_prunable``, int64 (L,), the active parameters of each prunable layer, and ``density``.
    """

    def __init__(self, ranks: Ranks, flat: FlatModel) -> None:
        self.flat = flat
        self.weights = flat.vector.detach().cpu().clone()
        self._ranks = ranks
        self._followers: list[Follower] = []
        self.use(Mask(flat.parameter_count), 0)

    @property
    def parameters(self) -> NDArray[np.float32]:
        """The parameters (D,) among the global weights, a view."""
        return self.weights.numpy()[: self.mask.dimension]

    def follow(self, follower: Follower) -> None:
        """Call ``follower`` whenever the mask is changed, after it was, in the order of these calls."""
        self._followers.append(follower)

    def use(self, mask: Mask, since: int, clients: Sequence[int] = ()) -> None:
        """Go on under ``mask`` from round ``since`` on, on this rank alone.

        Weights that are pruned become zero, and so does what ``clients``, those of this rank that may carry state, have
        accumulated for them.
        """
        self.mask = mask
        self.since = since
        mask.apply(self.parameters)
        layers = self.flat.layers
        self.support: NDArray[np.int32] | None = mask.support()
        self.active_prunable = mask.active_per_layer([layer for layer in layers if layer.prunable])
        self.density = mask.density(layers)
        self.in_training: torch.Tensor | None = None
        if not mask.is_full:
            flags = torch.from_numpy(mask.flags().astype(np.float32))
            self.in_training = flags.to(self.flat.vector.device)
        for follow in self._followers:
            follow(mask, clients)

    def change(self, mask: Mask | None, since: int, clients: Sequence[int]) -> None:
        """``use`` the server's ``mask`` (None on other ranks) on every rank (collective)."""
        shared = self.shared(mask)
        self._ranks.barrier()  # nobody of a group is still settling what its clients sent
        self.use(shared, since, clients)

    def shared(self, mask: Mask | None) -> Mask:
        """The server's ``mask`` (None on other ranks), on every rank, which goes on under its own (collective)."""
        bits = np.empty(-(-self.mask.dimension // 8), np.uint8) if mask is None else mask.to_bits()
        self._ranks.broadcast(bits)
        return Mask.from_bits(bits, self.mask.dimension)
