"""Local SGD of many clients at once: what ``training.train`` does for one, without autograd and for a batch of models.

The weights of the clients are the rows of one matrix. Every matrix product is that of ``train``, called for one client
after the other on operands of the same shapes, strides and alignment; what remains treats every value, or every
sample, by itself and is done for all at once. So the bits of a client do not depend on who is in the batch, and are
those that it gets alone. (For small matrices ``torch.bmm`` is another kernel, whose last bits differ.)
Where a processor or a version of torch breaks this, a trial (``batched_trial``) finds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.batched_models import Network, entrance, has_convolutions
from fedmpi.learning.batched_step import FLOATS_PER_LINE, ManySteps, Rows, sample_rows
from fedmpi.learning.batched_values import Values
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.minibatches import batch_groups, taken
from fedmpi.learning.training import descend_from

_BATCH_BYTES = 2**22
"""Weights of the clients of a batch together: they stay in the cache."""
_BATCH_BYTES_KEPT = 2**24
"""The same with what their layers keep for the backward pass."""
_MOST_CLIENTS = 256
FEWEST_CLIENTS = 4
"""Fewer clients in a batch of convolutional models gain nothing, if they do not lose."""


@dataclass(frozen=True)
class ManyTask:
    """How a batch of clients trains in a round, as ``training.LocalTask`` says it of one."""

    training: TrainingConfig
    learning_rate: float
    mask: Tensor | None
    need_directions: bool
    need_weights: bool


@dataclass(frozen=True)
class ManyResults:
    """``losses``: the mean of each client's losses; ``weights`` and ``directions``: float32 (clients, D), which are the
    trained parameters and ``LocalTask.direction_sum``, None where they were not asked for.

    Valid until the next batch.
    """

    losses: list[float]
    weights: Tensor | None
    directions: Tensor | None


def most_clients(model: FlatModel, kept_bytes: float) -> int:
    """How many clients make a batch whose layers keep ``kept_bytes`` of each for the backward pass."""
    weights = 4 * model.parameter_count
    return max(
        1, min(_MOST_CLIENTS, _BATCH_BYTES // weights, int(_BATCH_BYTES_KEPT / (weights + kept_bytes)))
    )


class BatchTrainer:
    """Trains clients of a model for which ``why_not`` is None, from float32 (D,) weights or (clients, D).

    ``kept_bytes``: see ``most_clients``; those of linear layers may be left out.
    """

    def __init__(self, model: FlatModel, loss: str, kept_bytes: float = 0.0) -> None:
        self.model = model
        self._loss = LOSSES[loss].of_many
        self._convolutions = has_convolutions(model)
        self._enter = entrance(model)
        self.most_clients = most_clients(model, kept_bytes)
        self._rows = Rows(model.layers, self.most_clients)
        self._network: Network | None = None

    def train(
        self,
        x: Tensor,
        y: Tensor,
        order: Tensor,
        bounds: Sequence[tuple[int, int]],
        start: Tensor,
        task: ManyTask,
    ) -> ManyResults:
        """Train up to ``most_clients`` clients that take their samples in batches of the same ``bounds``.

        ``x`` (all samples, ...) float32 or uint8 and ``y`` int64 are those of all clients, ``order`` int64 (clients,
        samples of all steps) says which each takes (see ``minibatches.batch_order``).
        """
        clients = len(order)
        if clients == 1 and self._convolutions:
            return self._train_one(x, y, order[0], bounds, start, task)
        steps = ManySteps(self._rows, clients, start, task.training, task.learning_rate, task.mask)
        losses = []
        batches = _taken_of_many(x, y, order, bounds)
        for index, (samples, labels) in enumerate(batches, start=1):
            losses.append(self._gradients(samples, labels, steps))
            last = index == len(bounds)
            steps.take(write=not last or task.need_weights, add_up=task.need_directions, last=last)
        means = [sum(each) / len(each) for each in zip(*losses, strict=True)]
        weights = steps.weights if task.need_weights else None
        return ManyResults(means, weights, steps.directions if task.need_directions else None)

    def _train_one(
        self,
        x: Tensor,
        y: Tensor,
        order: Tensor,
        bounds: Sequence[tuple[int, int]],
        start: Tensor,
        task: ManyTask,
    ) -> ManyResults:
        """The same without a batch, in which one client with convolutions would take longer."""
        model, directions = self.model, self._rows.sums[:1] if task.need_directions else None
        loss = descend_from(
            model,
            start if start.dim() == 1 else start[0],
            taken(x, y, order, bounds, None),
            task.training,
            task.learning_rate,
            task.mask,
            None if directions is None else directions[0],
            steps_written=len(bounds) if task.need_weights else len(bounds) - 1,
        )
        weights = model.vector[: model.parameter_count].unsqueeze(0) if task.need_weights else None
        return ManyResults([loss], weights, directions)

    def _gradients(self, samples: Tensor, labels: Tensor, steps: ManySteps) -> list[float]:
        """Put the gradient of a batch of samples (clients, n, ...) into ``steps``; the losses."""
        network = self._network_for(labels.shape[1])
        values = Values(self._enter(samples))
        for layer in network.layers:
            values = layer.forward(values, steps)
        of_logits = network.of_logits.of_first(steps.clients)
        losses = self._loss(values.together, labels, of_logits.together)
        gradient: Values | None = of_logits
        for layer in reversed(network.layers):
            assert gradient is not None
            gradient = layer.backward(gradient, steps)
        return losses

    def _network_for(self, samples: int) -> Network:
        # One at a time: clients come in the order of their sizes.
        if self._network is None or self._network.samples != samples:
            self._network = Network(self.model, self.most_clients, samples)
        return self._network


def _taken_of_many(
    x: Tensor, y: Tensor, order: Tensor, bounds: Sequence[tuple[int, int]]
) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches: float32 samples (clients, n, ...) and labels (clients, n).

    Each client's begin in their cache line where those of ``train`` do; where every sample begins one, several batches
    are taken at once.
    """
    clients, features = len(order), x[0].numel()
    begins = [group[0][0] for group in batch_groups(bounds, 4 * features) for _ in group]
    if features % FLOATS_PER_LINE:
        for (first, stop), begin in zip(bounds, begins, strict=True):
            taken = order[:, first:stop].reshape(-1)
            samples = sample_rows(as_float32(x.index_select(0, taken)), clients, first - begin)
            yield samples, y.index_select(0, taken).view(clients, -1)
        return
    for group in batch_groups(bounds, 4 * features * clients):
        begin = group[0][0]
        taken = order[:, begin : group[-1][1]].reshape(-1)
        together = as_float32(x.index_select(0, taken)).unflatten(0, (clients, -1))
        labels = y.index_select(0, taken).view(clients, -1)
        for first, stop in group:
            mine = slice(first - begin, stop - begin)
            yield together[:, mine], labels[:, mine]
