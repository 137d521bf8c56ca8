"""Trying a model before it is used: a training step and an evaluation, on made-up samples.

What a user's factory gives is any ``torch.nn.Module``; that it cannot be trained on the batches that will occur, or
breaks what results depend on, is better said in one line at the start than by a traceback in some round.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedmpi.config.errors import ConfigError, shown_value
from fedmpi.config.failures import ANY_FAILURE, described
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import evaluated_alone, training_alone
from fedmpi.learning.losses import LOSSES

_SEED = 0


@dataclass(frozen=True)
class Trial:
    """What a model is tried on: batches of the sizes ``training`` and ``evaluation`` of samples ``input_shape``.

    ``name`` is that of the model, for messages; ``loss`` that of ``[training]``.
    """

    name: str
    input_shape: tuple[int, ...]
    classes: int
    loss: str
    training: tuple[int, ...]
    evaluation: tuple[int, ...]


def try_out(model: FlatModel, trial: Trial) -> None:
    """Train (without moving the weights) and evaluate; ``model`` and all generators are afterwards as before.

    ConfigError where the model's code raises anything, gives outputs of another shape than (n, at least ``classes``),
    changes parameters itself, or gives another result for the same weights, state, samples and random numbers. Results
    that are not finite are none of these.
    """
    buffers = model.buffers.clone()
    try:
        results = []
        for _ in range(1 if model.known else 2):
            model.buffers.copy_(buffers)
            results.append([*_trained(model, trial), *_evaluated(model, trial)])
        if results[0] != results[-1]:
            raise _refusal(
                trial,
                "gives another result for the same weights, samples and random numbers",
                "a model whose state is in itself, not in classes or global variables, and whose random numbers come "
                "from the global generators of torch, NumPy or Python",
            )
    finally:
        model.put_back()
        model.buffers.copy_(buffers)


def _trained(model: FlatModel, trial: Trial) -> list[bytes]:
    """Digests of loss and gradients of a step on each batch, and of the buffers after all."""
    digests = []
    parameters = None if model.known else [_digest(view) for view in model.views]
    mean = LOSSES[trial.loss].mean
    with training_alone(model, _SEED):
        for n in trial.training:
            x, y = _samples(trial, n, model.vector.device)
            try:
                outputs = model.module(x)
                _check_outputs(trial, outputs, n)
                loss = mean(outputs, y)
                gradients = torch.autograd.grad(loss, model.parameters, allow_unused=True)
            except ConfigError:
                raise
            except ANY_FAILURE as error:
                raise _failure(trial, "a training step", n, error) from error
            _check_gradients(model, trial, gradients)
            digests += [_digest(tensor) for tensor in (loss, *gradients) if tensor is not None]
        if parameters is not None:
            _check_parameters(model, trial, parameters)
        try:
            model.take_buffers()
        except ValueError as error:
            raise _refusal(trial, str(error)) from error
    return [*digests, _digest(model.buffers)]


def _evaluated(model: FlatModel, trial: Trial) -> list[bytes]:
    """Digests of the losses of each batch."""
    digests = []
    parameters = None if model.known else [_digest(view) for view in model.views]
    for n in trial.evaluation:
        x, y = _samples(trial, n, model.vector.device)
        with evaluated_alone(model, _SEED), torch.no_grad():
            try:
                outputs = model.module(x)
                _check_outputs(trial, outputs, n)
                losses = LOSSES[trial.loss].per_sample(outputs, y)
            except ConfigError:
                raise
            except ANY_FAILURE as error:
                raise _failure(trial, "an evaluation", n, error) from error
            if parameters is not None:
                _check_parameters(model, trial, parameters)
        digests.append(_digest(losses))
    return digests


def _samples(trial: Trial, n: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Samples in [0, 1) and labels from the last class down."""
    draw = torch.Generator().manual_seed(_SEED)
    x = torch.rand((n, *trial.input_shape), generator=draw)
    y = trial.classes - 1 - torch.arange(n) % trial.classes
    return x.to(device), y.to(device)


def _check_outputs(trial: Trial, outputs: object, n: int) -> None:
    allowed = f"a tensor of floating-point numbers of shape ({n}, m), m at least {trial.classes}, the classes"
    if not isinstance(outputs, Tensor):
        raise _refusal(trial, f"gives a {type(outputs).__name__} for a batch of {n}", allowed)
    fits = outputs.dim() == 2 and outputs.shape[0] == n and outputs.shape[1] >= trial.classes
    if not fits or not outputs.is_floating_point():
        found = f"gives {outputs.dtype} outputs of shape {tuple(outputs.shape)} for a batch of {n}"
        raise _refusal(trial, found, allowed)


def _check_parameters(model: FlatModel, trial: Trial, before: list[bytes]) -> None:
    present = {id(parameter) for parameter in model.module.parameters()}
    changed = [
        layer.name
        for layer, parameter, digest in zip(model.layers, model.parameters, before, strict=True)
        if id(parameter) not in present or _digest(parameter) != digest
    ]
    if changed:
        problem = f"changes its parameter {changed[0]} in its forward pass"
        raise _refusal(trial, problem, "parameters that only training changes")


def _check_gradients(model: FlatModel, trial: Trial, gradients: Sequence[Tensor | None]) -> None:
    for layer, gradient in zip(model.layers, gradients, strict=True):
        if gradient is not None and gradient.layout != torch.strided:
            problem = f"gives a sparse gradient of {layer.name}"
            raise _refusal(trial, problem, "dense ones, as of nn.Embedding with sparse=False")


def _digest(tensor: Tensor) -> bytes:
    """The same for the same bits, of numbers or not."""
    values = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
    return hashlib.blake2b(values.numpy().data, digest_size=16).digest()


def _failure(trial: Trial, what: str, n: int, error: BaseException) -> ConfigError:
    shape = " x ".join(map(str, trial.input_shape))
    sizes = " and ".join(map(str, trial.training if what == "a training step" else trial.evaluation))
    problem = f"fails in {what} on a batch of {n} of {shape}: {described(error)}"
    return _refusal(trial, problem, f"a model that takes batches of {sizes} samples, which will occur")


def _refusal(trial: Trial, problem: str, allowed: str = "") -> ConfigError:
    return ConfigError("model.name", f"{shown_value(trial.name)} {problem}", allowed)
