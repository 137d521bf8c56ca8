"""The clients of a rank: their data, their local training, and their view of the global model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.federation.client_importance import Importance
from fedmpi.federation.exchange import TrainedBatch
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import RoundPlan
from fedmpi.learning.augmentation import augmenter
from fedmpi.learning.batched import BatchTrainer, ManyTask
from fedmpi.learning.evaluation import sample_loss
from fedmpi.learning.minibatches import batch_order, deciding_bounds
from fedmpi.learning.readjustment import OwnMask
from fedmpi.learning.training import LocalResult, LocalTask, train
from fedmpi.numerics.streams import Purpose, generator, generators, torch_seed


@dataclass(frozen=True)
class ClientData:
    """The training samples that this rank can reach.

    ``x`` (n, ...) uint8 or float32 and ``y`` (n,) int64; ``begins`` and ``sizes`` (N,) int64 say where each client's
    samples lie, one client after the other (-1: not reachable here). With ``rows`` int64 they lie in that, and it says
    where in ``x`` and ``y``: clients that together have more samples than there are share them.
    """

    x: NDArray[np.uint8] | NDArray[np.float32]
    y: NDArray[np.int64]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    rows: NDArray[np.int64] | None = None

    def of(self, client: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The samples (uint8 or float32) and labels (int64) of one client; views of the group's memory, or copies."""
        begin, size = self.begins[client], self.sizes[client]
        if begin < 0:
            raise LookupError(f"client {client} has no data on this rank")
        at: slice | NDArray[np.int64] = slice(begin, begin + size)
        if self.rows is not None:
            at = self.rows[at]
        return torch.from_numpy(self.x[at]), torch.from_numpy(self.y[at])


class ClientHost:
    """Trains clients on this rank's copy of the model, from the weights and under the mask of ``masked``: one after the
    other, or with a ``trainer`` many at once.

    ``importance`` adds up what every training shows of the importance of parameters; None where nobody asks for it.
    """

    def __init__(
        self,
        config: Config,
        masked: MaskedModel,
        data: ClientData,
        importance: Importance | None = None,
        trainer: BatchTrainer | None = None,
    ) -> None:
        self.config = config
        self.masked = masked
        self.model = masked.flat
        self.data = data
        self.importance = importance
        self.trainer = trainer
        self._direction = torch.empty(0)
        self._start = masked.weights

    def begin_round(self) -> None:
        """Take the global model as the starting point of every client of this round."""
        self._start = self.masked.weights.to(self.model.vector.device)

    def train(
        self,
        client: int,
        plan: RoundPlan,
        direction_sum: torch.Tensor | None,
        start: torch.Tensor | None = None,
        own_mask: OwnMask | None = None,
    ) -> tuple[LocalResult, float]:
        """Train one client; returns the result and the host seconds that it took. See ``learning.training.train``.

        ``start`` (D + B,): weights to start from instead of the global ones. ``own_mask``: see ``LocalTask``.
        """
        begin = time.perf_counter()
        device = self.model.vector.device
        x, y = self.data.of(client)
        seed = self.config.experiment.seed
        directions, end_gradient, importance = direction_sum, None, self.importance
        if directions is None and importance is not None:
            if not self._direction.numel():
                self._direction = torch.zeros(self.model.parameter_count, device=device)
            directions = self._direction
        if importance is not None and importance.at_end and importance.gathers:
            end_gradient = torch.zeros(self.model.parameter_count, device=device)
        task = LocalTask(
            training=self.config.training,
            learning_rate=plan.learning_rate,
            batches=generator(seed, Purpose.BATCHES, plan.round_index, client),
            augment=augmenter(self.config.data.augmentation, seed, plan.round_index, client),
            torch_seed=torch_seed(seed, Purpose.DROPOUT, plan.round_index, client)
            if self.model.draws
            else None,
            mask=self.masked.in_training,
            direction_sum=directions,
            need_weights=direction_sum is None,
            own_mask=own_mask,
            end_gradient=end_gradient,
        )
        begin_at = self._start if start is None else start
        result = train(self.model, begin_at, (x.to(device), y.to(device)), task)
        # A client whose directions are not finite is rejected, and adds nothing.
        if (
            importance is not None
            and importance.gathers
            and directions is not None
            and np.isfinite(largest_magnitude(directions))
        ):
            if end_gradient is None:
                importance.add(client, directions, result.samples)
            else:
                importance.add(client, end_gradient, len(x))
        return result, time.perf_counter() - begin

    def train_many(
        self,
        clients: NDArray[np.int64],
        plan: RoundPlan,
        need_directions: bool,
        start_of: Callable[[int], NDArray[np.float32]] | None = None,
    ) -> Iterator[TrainedBatch]:
        """Train ``clients`` in batches; each gets the bits that ``train`` gives it.

        ``need_directions``: their sums are wanted, and the weights are not. ``start_of`` (D,): weights of a client to
        start from instead of the global ones. Only with a ``trainer``.
        """
        assert self.trainer is not None
        begin = time.perf_counter()
        x, y = torch.from_numpy(self.data.x), torch.from_numpy(self.data.y)
        task = ManyTask(
            training=self.config.training,
            learning_rate=plan.learning_rate,
            mask=self.masked.in_training,
            need_directions=need_directions or self.importance is not None,
            need_weights=not need_directions,
        )
        for positions, orders, bounds in self._orders(clients, plan):
            chosen = clients[positions]
            start = self._start
            if start_of is not None:
                start = torch.from_numpy(np.stack([start_of(client) for client in chosen.tolist()]))
            taken = orders + self.data.begins[chosen][:, None]
            if self.data.rows is not None:
                taken = self.data.rows[taken]
            results = self.trainer.train(x, y, torch.from_numpy(taken), bounds, start, task)
            if self.importance is not None and self.importance.gathers and results.directions is not None:
                self._add_importance(chosen, results.directions, orders.shape[1])
            yield TrainedBatch(
                positions=positions,
                samples=np.full(len(chosen), orders.shape[1]),
                losses=np.array(results.losses),
                probe_samples=orders[:, 0],
                weights=results.weights,
                directions=results.directions,
                host_s=(time.perf_counter() - begin) / len(chosen),
            )
            begin = time.perf_counter()

    def _orders(
        self, clients: NDArray[np.int64], plan: RoundPlan
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], list[tuple[int, int]]]]:
        """Batches of clients that take samples in the same bounds: positions among ``clients``, orders, and bounds."""
        assert self.trainer is not None
        training, sizes = self.config.training, self.data.sizes[clients]
        if (self.data.begins[clients] < 0).any():
            raise LookupError(f"of clients {clients.tolist()} some have no data on this rank")
        streams = list(generators(self.config.experiment.seed, Purpose.BATCHES, plan.round_index, clients))
        most = self.trainer.most_clients
        deciding = deciding_bounds(sizes, training)
        for each in np.unique(deciding).tolist():
            same = np.flatnonzero(deciding == each)
            for first in range(0, len(same), most):
                positions = same[first : first + most]
                drawn = [
                    batch_order(size, training, streams[position])
                    for position, size in zip(positions.tolist(), sizes[positions].tolist(), strict=True)
                ]
                yield positions, np.stack([order for order, _ in drawn]), drawn[0][1]

    def _add_importance(self, clients: NDArray[np.int64], directions: torch.Tensor, samples: int) -> None:
        """The same for every client of a batch: who has directions that are not finite adds nothing."""
        assert self.importance is not None
        finite = np.isfinite(largest_magnitudes(directions))
        for position in np.flatnonzero(finite).tolist():
            self.importance.add(int(clients[position]), directions[position], samples)

    def update_into(self, row: torch.Tensor) -> None:
        """Write the update of the client trained last, w_global - w_local, into a float32 row on the CPU."""
        if row.device == self._start.device:
            torch.sub(self._start, self.model.vector, out=row)
        else:
            row.copy_(self._start - self.model.vector)

    def updates_into(self, weights: torch.Tensor, rows: torch.Tensor) -> None:
        """The same of many clients, whose trained ``weights`` (c, D) are given, into rows (c, D)."""
        torch.sub(self._start, weights, out=rows)

    def tail_update_into(self, row: torch.Tensor) -> None:
        """The same for the float buffers alone."""
        count = self.model.parameter_count
        row.copy_(self._start[count:] - self.model.vector[count:])

    def load(self, weights: torch.Tensor) -> None:
        """Put a vector into the model, for evaluation."""
        self.model.load(weights)

    def loss_of_sample(self, client: int, sample: int) -> float:
        """The loss of one training sample of a client under the vector loaded last.

        A model that draws random numbers in evaluation draws the same for every vector, so that losses compare.
        """
        device = self.model.vector.device
        x, y = self.data.of(client)
        one = slice(sample, sample + 1)
        seed = None
        if not self.model.known:
            seed = torch_seed(self.config.experiment.seed, Purpose.PROBE_LOSS, client=client)
        return sample_loss(self.model, x[one].to(device), y[one].to(device), self.config.training.loss, seed)


def largest_magnitude(vector: torch.Tensor) -> float:
    """The largest |x|; NaN or inf when the vector holds a value that is not finite."""
    if not vector.numel():
        return 0.0
    least, most = torch.aminmax(vector)  # vectorised, unlike the infinity norm, and NaN if any value is
    return float(torch.maximum(-least, most))


def largest_magnitudes(rows: torch.Tensor) -> NDArray[np.float64]:
    """The largest |x| of every row (n, m); NaN or inf where a row holds a value that is not finite."""
    if not rows.shape[1]:
        return np.zeros(len(rows))
    return torch.maximum(torch.amax(rows, 1), -torch.amin(rows, 1)).numpy().astype(np.float64)
