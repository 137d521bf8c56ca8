"""A run in words: what a log begins with, what of it varies, and where its emulated times mean little."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedmpi import __version__
from fedmpi.config import Config
from fedmpi.emulation.devices import Fleet
from fedmpi.learning.flat import Layer
from fedmpi.pruning.lottery import METHODS as LOTTERY
from fedmpi.sparsification import DENSE_METHODS

if TYPE_CHECKING:
    from fedmpi.experiment.assembly import Run

_SMALLEST_MEASURED = "conv2 (6.6 million parameters)"
"""The model whose constant stands for models without a table of their own; see devices.toml."""


def varying(config: Config) -> tuple[str, ...]:
    """What changes from round to round, of "k" and "density"."""
    k = config.k_control.method != "fixed"
    density = config.pruning.method not in ("none", *LOTTERY)
    return (("k",) if k else ()) + (("density",) if density else ())


def methods(config: Config) -> str:
    """The methods of a run, and the settings that they are known by."""
    sparse, pruning = config.sparsification, config.pruning
    text = f"sparsification {sparse.method}"
    if config.k_control.method != "fixed":
        text += f", k by {config.k_control.method}"
    elif sparse.method not in DENSE_METHODS or sparse.k or sparse.k_fraction:
        text += f", k {sparse.k}" if sparse.k else f", k {sparse.k_fraction:g} D"
    text += f"; pruning {pruning.method}"
    if pruning.initial.where != "none":
        text += f", initial pruning at {pruning.initial.where}"
    emulation = config.emulation
    clock = emulation.clock
    if clock == "realtime":
        clock += f", time scale {emulation.time_scale:g}"
    return f"{text}; compute model {emulation.compute.model}; clock {clock}"


def header(run: Run, output: Path, mpi: str) -> list[str]:
    """The lines that a log begins with: what, with which data and model, where and with what."""
    import torch

    config, facts, placement = run.config, run.facts, run.config.placement
    experiment, training, clients = config.experiment, config.training, config.clients
    sizes = np.array(facts.sizes)
    work = _count(training.local_steps, "local step")
    if training.local_epochs:
        work = _count(training.local_epochs, "local epoch")
    return [
        f"{experiment.name}: {_count(experiment.rounds, 'round')}, seed {experiment.seed}; fedmpi {__version__}",
        methods(config),
        f"model {config.model.name}, D = {run.model.parameter_count:,}; {work} of {training.batch_size} samples, "
        f"learning rate {training.learning_rate:g}",
        f"data {config.data.dataset}, partition {config.data.partition}: {_count(clients.count, 'client')}, "
        f"{clients.per_round or 'all'} in each round, with {sizes.min():,} to {sizes.max():,} samples, "
        f"{sizes.sum():,} in all; {facts.test_samples:,} to test",
        f"{_count(run.ranks.size, 'rank')}{', server trains' if placement.server_trains else ''}, "
        f"{_count(placement.threads_per_rank, 'thread')} each, on {platform.node()} with {os.cpu_count()} cores",
        f"Python {platform.python_version()}, torch {torch.__version__}, {mpi}",
        f"output {output.absolute()}",
    ]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def borrowed_constant(config: Config, fleet: Fleet, layers: Sequence[Layer]) -> str:
    """A note on emulated times that rest on the constant of another model; nothing where they do not.

    ``layers`` are the model's. Devices of a CSV file have constants of their own.
    """
    profile = config.emulation.compute.profile
    prunable = [layer.stop - layer.start for layer in layers if layer.prunable]
    if fleet.compute_model != "linear" or (isinstance(profile, str) and profile.lower().endswith(".csv")):
        return ""
    unknown = np.ones(len(fleet.device_names), dtype=bool)
    if fleet.layer_seconds_per_parameter.shape[1] == len(prunable):
        unknown = np.isnan(fleet.layer_constant_s)
    if not unknown.any():
        return ""
    step_s = fleet.constant_s + fleet.seconds_per_parameter * sum(prunable)
    client = int(np.where(unknown, step_s, -1.0).argmax())
    constant_s, name = fleet.constant_s[client], fleet.device_names[client]
    return (
        f"note: emulated compute times mean little for a small model: {name} was not measured with "
        f"{config.model.name}, and {constant_s / step_s[client]:.0%} of the {step_s[client]:.3g} s of a step are the "
        f"constant fitted on {_SMALLEST_MEASURED}; fedmpi calibrate measures a device"
    )
