"""What participants send of the gradients of pruned parameters where a mask is to change; they keep nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.federation.exchange import Roster
from fedmpi.federation.importance_pairs import (
    ImportanceForm,
    ImportanceSum,
    Pairs,
    gather_pairs,
    sum_of_pairs,
)
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import RoundPlan
from fedmpi.mpi.collectives import Ranks
from fedmpi.pruning import Needs
from fedmpi.pruning.importance import add_squares


class PrunedGradients:
    """The largest gradients of pruned parameters, of a round in which they are asked for.

    A gradient is the sum over a client's local steps; what is sent is its square times the samples processed, which is
    that round's part of importance. Where the method wants ``signed_gradient`` it is the gradient at the trained
    weights, times the client's samples. Of active parameters the sum of those squares is sent, their energy, where that
    is wanted.
    """

    def __init__(self, ranks: Ranks, masked: MaskedModel, form: ImportanceForm) -> None:
        self._ranks = ranks
        self._masked = masked
        self._form = form
        self._pairs: Pairs | None = None
        self._messages: dict[int, NDArray[np.uint8] | None] = {}

    @property
    def gathers(self) -> bool:
        """Whether this round's gradients are asked for."""
        return self._pairs is not None and self._pairs.message_bytes > 0

    @property
    def at_end(self) -> bool:
        """Whether that is the gradient at the trained weights."""
        return self._form.method.signed_gradient

    def begin(self, plan: RoundPlan) -> None:
        """A round starts."""
        self._messages.clear()
        asked = Needs.IMPORTANCE in plan.needs
        self._pairs = self._form.pairs(self._masked.mask, plan.round_index, plan.k) if asked else None

    def add(self, client: int, direction_sum: torch.Tensor, samples: int) -> None:
        """Make the message of a client, of what ``Importance.add`` takes."""
        if self._pairs is None or not self.gathers:
            return
        directions = direction_sum.cpu().numpy()
        gradient = directions[self._pairs.pool]
        if self._form.method.signed_gradient:
            values = gradient * np.float32(samples)
        else:
            values = np.zeros(len(gradient), np.float32)
            add_squares(values, gradient, float(samples))
        tail = np.empty(0, np.float32)
        if self._pairs.states_energy:
            active = directions if self._masked.support is None else directions[self._masked.support]
            with np.errstate(over="ignore"):  # what is not finite is left out
                tail = np.array([np.square(active, dtype=np.float64).sum() * samples]).astype(np.float32)
        self._messages[client] = self._pairs.encode(values, tail)

    def take_back(self, clients: NDArray[np.int64]) -> None:
        """Nothing is kept of ``clients``; their messages are lost with their updates."""

    def gather(self, roster: Roster) -> ImportanceSum:
        """The exact sum over the accepted participants, on the server (collective)."""
        parameters = self._masked.mask.dimension
        if self._pairs is None or not self.gathers:
            return ImportanceSum(np.zeros(parameters), left_out=0)
        mine = roster.accepted_of(self._ranks.rank).tolist()
        messages = [self._messages.get(client) for client in mine]
        gathered = gather_pairs(self._ranks, roster, messages, self._pairs.message_bytes)
        if not self._ranks.is_server:
            return ImportanceSum(np.empty(0), left_out=0)
        return sum_of_pairs(self._pairs, gathered, parameters)

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        """Nothing goes into a checkpoint."""
        return {}

    def restore_client(self, client: int, values: NDArray[Any]) -> None:
        """Refuse what another kind of run kept. Raises ValueError."""
        raise ValueError(f"client {client}: the checkpoint has importance, which clients do not keep here")
