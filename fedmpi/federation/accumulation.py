"""What clients have accumulated of their gradients and not yet got into the model: the memory of error feedback."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.federation.client_state import ClientVectors
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.error_feedback import take_out


class Accumulation:
    """The accumulated gradients (D,), float32, of the clients at home in this rank's group.

    They lie in ``vectors``. Under a mask those of pruned parameters are zero, and what is handed out are the values of
    active coordinates. ``keeps``: what a client had before a round can be put back after it.
    """

    def __init__(self, vectors: ClientVectors, masked: MaskedModel, keeps: bool) -> None:
        self._vectors = vectors
        self._masked = masked
        self._keeps = keeps
        self._before: dict[int, NDArray[np.float32]] = {}

    def begin(self) -> None:
        """A round starts: there is nothing to put back."""
        self._before.clear()

    def add(self, client: int, direction: NDArray[np.float32]) -> NDArray[np.float32]:
        """Add a client's ``direction`` (D,) to what it has; the active values of the sum."""
        accumulated = self._read(client)
        support = self._masked.support
        if support is None:
            accumulated += direction
            active = accumulated
        else:
            active = accumulated[support] + direction[support]
            accumulated[support] = active
        self._vectors.write(client, accumulated)
        return active

    def add_many(self, clients: NDArray[np.int64], directions: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same for ``clients`` (c,) and ``directions`` (c, D), which may be changed; (c, active)."""
        support = self._masked.support
        active = directions if support is None else directions[:, support]
        for client, row in zip(clients.tolist(), active, strict=True):
            accumulated = self._read(client)
            if support is None:
                row += accumulated
                accumulated[:] = row
            else:
                row += accumulated[support]
                accumulated[support] = row
            self._vectors.write(client, accumulated)
        return active

    def _read(self, client: int) -> NDArray[np.float32]:
        accumulated = self._vectors.read(client)
        if self._keeps:
            self._before[client] = accumulated.copy()
        return accumulated

    def put_back(self, clients: Iterable[int] | None = None) -> None:
        """Of this round, ``clients`` (None: all) keep nothing, where that may be."""
        for client in list(self._before) if clients is None else clients:
            if client in self._before:
                self._vectors.write(client, self._before[client])

    def take_out(
        self,
        client: int,
        indices: NDArray[np.int32],
        arrived: NDArray[np.float32],
        used: NDArray[np.bool_],
    ) -> None:
        """Take out of what a client has the entries that were ``used``, of those sent at ``indices`` of the model."""
        accumulated = self._vectors.read(client)
        take_out(accumulated, indices, arrived, used)
        self._vectors.write(client, accumulated)

    def prune(self, mask: Mask, clients: Iterable[int]) -> None:
        """What ``clients`` have of parameters that ``mask`` prunes becomes zero."""
        for client in clients:
            accumulated = self._vectors.read(client)
            mask.apply(accumulated)
            self._vectors.write(client, accumulated)

    def state(self, client: int) -> dict[str, NDArray[Any]]:
        """What a client has, for a checkpoint; nothing where it is on disk anyway."""
        return {} if self._vectors.on_disk else {"accumulated": self._vectors.read(client)}

    def restore(self, client: int, state: dict[str, NDArray[Any]]) -> None:
        """Take back what ``state`` gave."""
        self._vectors.write(client, state["accumulated"])
