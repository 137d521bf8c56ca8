"""The model of an experiment: built, found fit for its configuration, and tried on the batches that will occur."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike

from fedmpi.config import Config, ConfigError, validate_ranks, validate_with_data
from fedmpi.config.errors import shown_value
from fedmpi.config.parts import build as part
from fedmpi.emulation.compute import ComputeModel, Work
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.experiment.parts import Parts, check_with_model
from fedmpi.experiment.work import count_work
from fedmpi.federation.distribution import DataFacts
from fedmpi.federation.initial_pruning.schedule import BATCH_SIZE
from fedmpi.federation.initial_pruning.training import SAMPLES
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build, build_flat, is_users
from fedmpi.learning.trial import Trial, try_out
from fedmpi.pruning import Mask, Setup


def make_model(parts: Parts, facts: DataFacts, ranks: int) -> FlatModel:
    """The model with its initial weights. Raises ConfigError in one line for one that cannot be trained as configured.

    A built-in model is tried on the smallest training batch alone, one of a user's in training and evaluation on the
    smallest and the largest; a user's factory is called twice, and must give the same weights.
    """
    config = parts.config
    name, seed = config.model.name, config.experiment.seed
    validate_with_data(config, int(facts.sizes.max()))
    model = build_flat(config.model, facts.input_shape, facts.classes, seed)
    validate_ranks(config, ranks)
    check_with_model(parts, model.parameter_count)
    _check_pruning(parts, model)
    training, evaluation = (
        training_batches(config, facts.sizes),
        evaluation_batches(parts, facts.test_samples),
    )
    if is_users(name):
        _refuse_other_weights(config, facts, model)
        sizes = (_ends(training), _ends(evaluation))
    else:
        sizes = ((min(training),), ())
    try_out(model, Trial(name, facts.input_shape, facts.classes, config.training.loss, *sizes))
    return model


def _check_pruning(parts: Parts, model: FlatModel) -> None:
    """Refuse a method that would find nothing to prune, or that refuses this model."""
    section, method = parts.config.pruning, parts.pruning
    if section.method == "none" or method.takes_ticket:
        return
    if not any(layer.prunable for layer in model.layers):
        problem = (
            f'found "{section.method}", and no parameter of model "{parts.config.model.name}" can be pruned'
        )
        raise ConfigError("pruning.method", problem, "none, or a model with nn.Linear or nn.Conv2d layers")
    method.init(Setup(section, parts.config.experiment.rounds, model.layers), Mask(model.parameter_count))


def make_fleet(config: Config, model: FlatModel, facts: DataFacts) -> Fleet:
    """The emulated devices, with what a step of ``model`` takes on each of them. Raises EmulationError.

    The model's work is counted on the smallest training batch, where the compute model asks for it.
    """
    compute, work = config.emulation.compute, None
    if part("emulation.compute.model", compute.model, compute.options, ComputeModel).needs_work:
        work = work_of(config, model, facts)
    fleet = assign(config, config.experiment.seed, work)
    fleet.compute.check(sum(layer.prunable for layer in model.layers))
    return fleet


def work_of(config: Config, model: FlatModel, facts: DataFacts) -> Work:
    """The work of ``model`` for a sample, counted on the smallest training batch."""
    return count_work(model, facts.input_shape, min(training_batches(config, facts.sizes)))


def training_batches(config: Config, samples: ArrayLike) -> set[int]:
    """The sizes of all batches in the rounds, by the ``samples`` (N,) of each client, and in initial pruning."""
    known = np.asarray(samples)
    training = config.training
    sizes = set()
    for count in np.unique(known).tolist():
        batch = min(training.batch_size, count)
        sizes.add(batch)
        if training.local_epochs and count % batch:
            sizes.add(count % batch)
    where = config.pruning.initial.where
    if where != "none":
        there = known[config.pruning.initial.client] if where == "client" else known.sum()
        pruned = min(SAMPLES, int(there))
        sizes |= _blocks(pruned, BATCH_SIZE)
    return sizes


def evaluation_batches(parts: Parts, test_samples: int) -> set[int]:
    """The sizes of the blocks of test samples, and 1 where losses of single samples are measured."""
    sizes = _blocks(test_samples, parts.config.training.evaluation_batch_size)
    if parts.k_control.measures_losses or parts.pruning.probe is not None:
        sizes.add(1)
    return sizes


def _blocks(samples: int, size: int) -> set[int]:
    return {min(size, samples), samples % size or min(size, samples)}


def _ends(sizes: set[int]) -> tuple[int, ...]:
    return tuple(sorted({min(sizes), max(sizes)}))


def _refuse_other_weights(config: Config, facts: DataFacts, model: FlatModel) -> None:
    module = build(config.model, facts.input_shape, facts.classes, config.experiment.seed)
    again = module.state_dict()
    for name, tensor in model.module.state_dict().items():
        if isinstance(tensor, torch.Tensor) and not _same(tensor, again.get(name)):
            problem = f"{shown_value(config.model.name)} gives {name} other values when it is called again"
            allowed = "random numbers from the global generators of torch, NumPy or Python, which are seeded"
            raise ConfigError("model.name", problem, allowed)


def _same(one: torch.Tensor, other: object) -> bool:
    if not isinstance(other, torch.Tensor) or (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    return one.layout != torch.strided or torch.allclose(one, other, rtol=0.0, atol=0.0, equal_nan=True)
