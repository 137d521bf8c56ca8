"""Dense averaging in which clients take masks of their own in some rounds, and so vote for the next one.

Bibikar et al., "Federated dynamic sparse training", AAAI 2022: w = sum n_i m_i w_i / sum n_i m_i over participants i
of n_i samples and masks m_i, and 0 where nobody kept an entry. Both sums are exact, so they depend neither on the order
of clients nor on how they lie on ranks; what is never pruned, and float buffers, are plain means. In all other rounds
everything is as in ``exchange_dense``.

A client's own mask lasts from the middle of its training to the end of its upload: all clients start the next round
from the server's weights and mask. So no mask of a client is kept between rounds, nor in a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.federation.client import largest_magnitude
from fedmpi.federation.exchange import Exchanged, Roster, Trained, TrainedMany
from fedmpi.federation.exchange_dense import DenseExchange
from fedmpi.federation.messages import RoundPlan
from fedmpi.mpi.collectives import Ranks
from fedmpi.pruning import Method, Needs, Setup
from fedmpi.pruning.active_values import ActiveValues
from fedmpi.pruning.mask_message import decode_mask, encode_mask
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH
from fedmpi.sparsification.wire import message_bytes


def mean_of_voters(mean: NDArray[np.float32], votes: NDArray[np.int32], total: int) -> NDArray[np.float32]:
    """The mean (D,) of each entry over those who kept it, where ``mean`` is that over all, with zeros of the others.

    ``votes`` (D,): the samples of those who kept it, of ``total``. 0 where nobody did; where all did, the bits stay.
    """
    sums = mean * np.float64(total)  # exact: 24 bits times 26
    return np.divide(sums, votes, out=np.zeros(len(sums)), where=votes > 0).astype(np.float32)


class VotingExchange:
    """``dense``, but for the rounds in which ``method`` asks for VOTES: in these every participant trains on under an
    ``own_mask``, and sends the values that it keeps, and that mask where it is another than the one of the round."""

    period = 1
    sketch = NO_SKETCH

    def __init__(self, ranks: Ranks, dense: DenseExchange, method: Method, setup: Setup) -> None:
        self._ranks = ranks
        self._dense = dense
        self._host = dense.host
        self._masked = dense.host.masked
        self._method = method
        self._setup = setup
        self._mine = np.empty(0, dtype=np.int64)
        self._sent: list[NDArray[np.uint8]] = []
        """The messages with the masks of this rank's participants, empty where the mask stayed."""
        self._entries: list[int] = []

    @property
    def dimension(self) -> int:
        return self._dense.dimension

    def bytes_by_size(self, entries: int, down: bool = False) -> tuple[float, float]:
        return self._dense.bytes_by_size(entries, down)

    def begin(self, plan: RoundPlan, mine: NDArray[np.int64]) -> None:
        if Needs.VOTES not in plan.needs:
            self._dense.begin(plan, mine)
            return
        self._mine, self._sent, self._entries = mine, [], []
        model = self._host.model
        # Own masks differ, so rows have all entries; with the next mask, ``dense`` takes its own length again.
        self._dense.average.resize(model.parameter_count + model.buffer_count)
        self._dense.average.begin(len(mine))

    def train(self, client: int, plan: RoundPlan) -> Trained:
        if Needs.VOTES not in plan.needs:
            return self._dense.train(client, plan)
        model, mask = self._host.model, self._masked.mask
        own = mask
        assert self._method.own_mask is not None
        choose, keep = self._method.own_mask, self._method.own_kept

        def own_mask(
            weights: NDArray[np.float32], gradient: NDArray[np.float32]
        ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
            nonlocal own
            own = choose(self._setup, plan.round_index, weights, gradient, mask)
            kept = mask if keep is None else keep(self._setup, plan.round_index, weights, gradient, mask)
            return own.flags(), kept.flags()

        result, compute_host_s = self._host.train(client, plan, None, own_mask=own_mask)
        row = self._dense.average.rows[len(self._sent)]
        self._host.update_into(row)
        own.apply(row[: model.parameter_count].numpy())
        same = np.array_equal(own.flags(), mask.flags())
        message = np.empty(0, np.uint8) if same else encode_mask(own, model.layers)
        entries = ActiveValues(own, model.layers).count
        self._sent.append(message)
        self._entries.append(entries)
        values_bytes = message_bytes("values", entries, model.parameter_count) + 4 * model.buffer_count
        return Trained(result, compute_host_s, entries, values_bytes + len(message), largest_magnitude(row))

    def train_many(self, plan: RoundPlan) -> Iterator[TrainedMany]:
        return self._dense.train_many(plan)  # not in rounds of votes: clients with own masks train one by one

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        if Needs.VOTES not in plan.needs:
            return self._dense.finish(plan, roster)
        taken = np.isin(self._mine, roster.accepted_of(self._ranks.rank))
        sizes = roster.sizes[np.searchsorted(roster.clients, self._mine)]
        weights = np.where(taken, sizes, 0)
        total = int(roster.sizes[roster.accepted].sum())
        used = self._entries_used(roster)
        mean = self._dense.average.finish(weights, taken, total, roster.max_abs)
        if not total:
            nothing = np.empty(0, dtype=np.int32)
            return Exchanged(nothing, 0, 0, used, bytes_down=0, probe_bytes=0)
        votes = self._votes(weights)
        before = self._masked.mask.flags()
        self._apply(mean.numpy(), votes, total)
        return Exchanged(
            # What comes back does not have the value 0 that clients know: it is sent with the rest.
            changed=np.flatnonzero(before | (votes > 0)).astype(np.int32),
            k_down=self.dimension,
            k_down_probe=0,
            entries_used=used,
            bytes_down=self.message_bytes_down(self.dimension),
            probe_bytes=0,
            votes=votes,
        )

    def _votes(self, weights: NDArray[np.int64]) -> NDArray[np.int32]:
        """The samples of the accepted clients that kept each entry (D,), on every rank."""
        layers = self._host.model.layers
        votes = np.zeros(self._host.model.parameter_count, np.int32)
        for message, weight in zip(self._sent, weights.tolist(), strict=True):
            if weight:
                mask = decode_mask(message, layers) if len(message) else self._masked.mask
                votes += np.int32(weight) * mask.flags()
        self._ranks.add_up(votes)
        return votes

    def _apply(self, mean: NDArray[np.float32], votes: NDArray[np.int32], total: int) -> None:
        parameters, weights = self._masked.parameters, self._masked.weights.numpy()
        parameters -= mean_of_voters(mean[: len(votes)], votes, total)
        parameters[votes == 0] = 0.0
        weights[len(votes) :] -= mean[len(votes) :]

    def _entries_used(self, roster: Roster) -> NDArray[np.int64]:
        """How many values of each participant go into the mean, on the server."""
        used = np.zeros(len(roster.clients), dtype=np.int64)
        gathered = self._ranks.gather_rows(
            np.array(self._entries, dtype=np.int64), [len(clients) for clients in roster.dealt]
        )
        if gathered is not None:
            used[np.searchsorted(roster.clients, np.concatenate(roster.dealt))] = gathered
        used[~roster.accepted] = 0
        return used

    def message_bytes_up(self, entries: int) -> int:
        return self._dense.message_bytes_up(entries)

    def message_bytes_down(self, k_down: int) -> int:
        return self._dense.message_bytes_down(k_down)

    def weights_tried(self) -> Iterator[tuple[Literal["previous", "probe"], torch.Tensor]]:
        return self._dense.weights_tried()

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        return self._dense.client_state(client)

    def restore_client(self, client: int, state: dict[str, NDArray[Any]]) -> None:
        self._dense.restore_client(client, state)

    def server_state(self) -> dict[str, NDArray[Any]]:
        return self._dense.server_state()

    def restore_server(self, state: dict[str, NDArray[Any]]) -> None:
        self._dense.restore_server(state)
