"""Local SGD of many clients at once: what ``training.train`` does for one, without autograd and for a batch of models.

The weights of the clients are the rows of one matrix. Every matrix product is that of ``train``, called for one client
after the other on operands of the same shapes, strides and alignment; what remains treats every value, or every
sample, by itself and is done for all at once. So the bits of a client do not depend on who is in the batch, and are
those that it gets alone. (For small matrices ``torch.bmm`` is another kernel, whose last bits differ.)
Where a processor or a version of torch breaks this, a trial (``batched_trial``) finds it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.batched_step import FLOATS_PER_LINE, ManySteps, Rows, padded, sample_rows
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.summed_linear import LARGE
from fedmpi.learning.training import batch_groups

_BATCH_BYTES = 2**22
"""Weights of the clients of a batch together: they stay in the cache."""
_MOST_CLIENTS = 256


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


@dataclass(frozen=True)
class _Layer:
    """A linear layer: positions of its tensors among the model's parameters, and what comes before and after it."""

    weight: int
    bias: int | None
    fan_out: int
    relu: bool


def why_not(model: FlatModel) -> str | None:
    """Why ``model`` cannot be trained in batches, as the end of a sentence; None where it can."""
    if model.vector.device.type != "cpu":
        return f"the model lies on {model.vector.device}"
    if not model.known:
        return "code of others runs in the model"
    if type(model.module) is not nn.Sequential:
        return f"the model is {type(model.module).__name__}, not layers one after the other"
    if model.buffer_count:
        return "the model has float buffers"
    flat = linear = False
    for child in model.module.children():
        if isinstance(child, nn.Linear) and type(child) is nn.Linear:
            if child.weight.numel() >= LARGE:
                return f"a layer has {child.weight.numel()} weights, at most {LARGE - 1} are worth it"
            if (
                1 in child.weight.shape
            ):  # then torch cannot tell a matrix from its transpose, and takes either product
                return "a layer has one input or one output"
            if not all(parameter.requires_grad for parameter in child.parameters()):
                return "parameters are frozen"
            if not flat:
                return "a linear layer comes before the samples are flat"
            linear = True
        elif type(child) is nn.Flatten and (child.start_dim, child.end_dim) == (1, -1):
            flat = True
        elif type(child) is not nn.ReLU:
            return f"the model has a layer {type(child).__name__}"
        elif not linear:
            return "an activation comes before the first linear layer"
    return None


class BatchTrainer:
    """Trains clients of a model for which ``why_not`` is None, from float32 (D,) weights or (clients, D)."""

    def __init__(self, model: FlatModel, loss: str) -> None:
        self.model = model
        self._loss = LOSSES[loss].of_many
        self._layers = _layers_of(model)
        size = max(1, _BATCH_BYTES // (4 * model.parameter_count))
        self.most_clients = min(_MOST_CLIENTS, size)
        self._rows = Rows(model.layers, self.most_clients)
        self._spaces: dict[int, list[_Space]] = {}

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
        samples of all steps) says which each takes (see ``training.batch_order``).
        """
        clients = len(order)
        steps = ManySteps(self._rows, clients, start, task.training, task.learning_rate, task.mask)
        losses = []
        batches = _taken(x, y, order, bounds)
        for index, (samples, labels) in enumerate(batches, start=1):
            losses.append(self._gradients(samples, labels, steps))
            last = index == len(bounds)
            steps.take(write=not last or task.need_weights, add_up=task.need_directions, last=last)
        means = [sum(each) / len(each) for each in zip(*losses, strict=True)]
        weights = steps.weights if task.need_weights else None
        return ManyResults(means, weights, steps.directions if task.need_directions else None)

    def _gradients(self, x: Sequence[Tensor], labels: Tensor, steps: ManySteps) -> list[float]:
        """Put the gradient of a batch of samples (n, features) of each client into ``steps``; the losses."""
        clients, count = labels.shape
        spaces = self._spaces_for(count)
        inputs: list[Sequence[Tensor]] = [x]
        for layer, space in zip(self._layers, spaces, strict=True):
            biases = None if layer.bias is None else steps.each(layer.bias)
            space.forward(inputs[-1], steps.transposed(layer.weight), biases, clients)
            inputs.append(space.outputs)
        losses = self._loss(spaces[-1].output[:clients], labels, spaces[-1].gradient[:clients])
        for number in range(len(self._layers) - 1, -1, -1):
            layer, space = self._layers[number], spaces[number]
            space.through_activation(clients)
            space.weight_gradients(inputs[number], steps.gradients(layer.weight), clients)
            if layer.bias is not None:
                torch.sum(space.gradient[:clients], 1, out=steps.gradient(layer.bias))
            if number:
                space.backward(steps.each(layer.weight), spaces[number - 1].gradients, clients)
        return losses

    def _spaces_for(self, samples: int) -> list[_Space]:
        if samples not in self._spaces:
            self._spaces = {}  # one at a time: clients come in the order of their sizes
            self._spaces[samples] = [_Space(layer, self.most_clients, samples) for layer in self._layers]
        return self._spaces[samples]


class _Space:
    """Room for what a layer gives for ``samples`` samples of each of ``clients``, and for the gradient there."""

    def __init__(self, layer: _Layer, clients: int, samples: int) -> None:
        self._relu = layer.relu
        self.output = _aligned(clients, samples, layer.fan_out)
        self.gradient = _aligned(clients, samples, layer.fan_out)
        self.outputs = self.output.unbind(0)
        self.gradients = self.gradient.unbind(0)
        self._transposed = self.gradient.transpose(1, 2).unbind(0)

    def forward(
        self, x: Sequence[Tensor], weights: Iterable[Tensor], biases: Iterable[Tensor] | None, clients: int
    ) -> None:
        """Outputs of ``x`` (samples, fan_in) of every client, whose transposed weights and biases are given."""
        outputs = self.outputs[:clients]
        if biases is None:
            for sample, weight, output in zip(x, weights, outputs, strict=False):
                torch.mm(sample, weight, out=output)
        else:
            for sample, weight, bias, output in zip(x, weights, biases, outputs, strict=False):
                torch.addmm(bias, sample, weight, out=output)
        if self._relu:
            self.output[:clients].relu_()

    def through_activation(self, clients: int) -> None:
        """Make of the gradient of the outputs that of the product."""
        if self._relu:
            self.gradient[:clients].masked_fill_(self.output[:clients] <= 0, 0.0)

    def weight_gradients(self, x: Sequence[Tensor], into: Sequence[Tensor], clients: int) -> None:
        """The gradients of the weights that made the outputs of ``x``."""
        for gradient, sample, of_weight in zip(self._transposed[:clients], x, into, strict=False):
            torch.mm(gradient, sample, out=of_weight)

    def backward(self, weights: Iterable[Tensor], into: Sequence[Tensor], clients: int) -> None:
        """The gradients of what the layer got."""
        for gradient, weight, of_input in zip(self.gradients[:clients], weights, into, strict=False):
            torch.mm(gradient, weight, out=of_input)


def _taken(
    x: Tensor, y: Tensor, order: Tensor, bounds: Sequence[tuple[int, int]]
) -> Iterator[tuple[Sequence[Tensor], Tensor]]:
    """The batches: float32 samples (n, features) of each client, and labels (clients, n).

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
        together = as_float32(x.index_select(0, taken)).view(clients, -1, features)
        labels = y.index_select(0, taken).view(clients, -1)
        for first, stop in group:
            mine = slice(first - begin, stop - begin)
            yield together[:, mine].unbind(0), labels[:, mine]


def _aligned(clients: int, samples: int, values: int) -> Tensor:
    """(clients, samples, values), the part of each client contiguous and at the beginning of a cache line."""
    return padded(clients, samples * values).view(clients, samples, values)


def _layers_of(model: FlatModel) -> list[_Layer]:
    positions = {id(parameter): position for position, parameter in enumerate(model.parameters)}
    layers: list[_Layer] = []
    for child in model.module.children():
        if isinstance(child, nn.Linear):
            bias = None if child.bias is None else positions[id(child.bias)]
            layers.append(_Layer(positions[id(child.weight)], bias, child.out_features, relu=False))
        elif isinstance(child, nn.ReLU):
            layers[-1] = replace(layers[-1], relu=True)
    return layers
