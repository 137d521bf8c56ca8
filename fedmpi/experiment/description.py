"""A run in words: what a log begins with, what of it varies, and how well its times and energy are known."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from math import exp, log, sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedmpi import __version__
from fedmpi.config import Config
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.device_csv import of_file
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.flops import FlopsCosts
from fedmpi.emulation.linear import LinearCosts
from fedmpi.emulation.profiles import POWERS, left_out_factors
from fedmpi.experiment.parts import Parts
from fedmpi.learning.flat import Layer

if TYPE_CHECKING:
    from fedmpi.experiment.assembly import Run


def varying(parts: Parts) -> tuple[str, ...]:
    """What changes from round to round, of "k" and "density"."""
    k = parts.config.k_control.method != "fixed"
    density = parts.pruning.changes != "never"
    return (("k",) if k else ()) + (("density",) if density else ())


def methods(parts: Parts) -> str:
    """The methods of a run, and the settings that they are known by."""
    config = parts.config
    sparse, pruning = config.sparsification, config.pruning
    text = f"sparsification {sparse.method}"
    if config.k_control.method != "fixed":
        text += f", k by {config.k_control.method}"
    elif sparse.k or sparse.k_fraction:
        text += f", k {sparse.k}" if sparse.k else f", k {sparse.k_fraction:g} D"
    if not parts.aggregator.is_mean:
        text += f"; aggregator {config.federation.aggregator}"
    text += f"; pruning {pruning.method}"
    if pruning.initial.where != "none":
        text += f", initial pruning at {pruning.initial.where}"
    emulation = config.emulation
    clock = emulation.clock
    if clock == "realtime":
        clock += f", time scale {emulation.time_scale:g}"
    text += f"; compute model {emulation.compute.model}"
    if emulation.availability.model != "always":
        text += f"; availability {emulation.availability.model}"
    return f"{text}; clock {clock}"


def header(run: Run, output: Path, mpi: str) -> list[str]:
    """The lines that a log begins with: what, with which data and model, where and with what."""
    import torch

    config, facts, placement = run.config, run.facts, run.config.placement
    experiment, training, clients = config.experiment, config.training, config.clients
    sizes = facts.sizes
    work = _count(training.local_steps, "local step")
    if training.local_epochs:
        work = _count(training.local_epochs, "local epoch")
    return [
        f"{experiment.name}: {_count(experiment.rounds, 'round')}, seed {experiment.seed}; fedmpi {__version__}",
        methods(run.parts),
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


def estimated_steps(config: Config, fleet: Fleet, layers: Sequence[Layer]) -> str:
    """A note on step times that are estimates from floating-point work, and how good those are; "" without any.

    ``layers`` are the model's.
    """
    costs = fleet.compute.costs
    estimated = (
        costs.estimated
        if isinstance(costs, LinearCosts)
        else np.full(len(fleet.device_names), isinstance(costs, FlopsCosts))
    )
    if not estimated.any():
        return ""
    prunable = [layer.stop - layer.start for layer in layers if layer.prunable]
    clients = np.flatnonzero(estimated)
    step_s = fleet.compute.seconds(LocalTraining.of(clients, 1, prunable, density=1.0))
    slowest = int(step_s.argmax())
    note = (
        f"note: step times are estimated from the work of {config.model.name}: a step of "
        f"{config.training.batch_size} samples takes {step_s[slowest]:.3g} s on "
        f"{fleet.device_names[clients[slowest]]}"
    )
    if of_file(config.emulation.compute.profile):
        return f"{note}, as well as its overhead_s and flops_per_s are known"
    factors = left_out_factors()
    worst = max(factors, key=lambda model: factors[model])
    together = exp(sqrt(sum(log(factor) ** 2 for factor in factors.values()) / len(factors)))
    return (
        f"{note}, uncertain by a factor of {together:.2g} (measured tables left out of the fit; {worst} by "
        f"{factors[worst]:.2g}); fedmpi calibrate measures a device"
    )


def unknown_energy(config: Config, fleet: Fleet) -> str:
    """A note on the energy that will be recorded, and for which devices it is not known; "" where none is asked for."""
    if not config.emulation.energy.on:
        return ""
    known = fleet.powers.known()
    unknown: dict[str, str] = {}
    for client in np.flatnonzero(~known).tolist():
        missing = [name for name in POWERS if np.isnan(getattr(fleet.powers, name)[client])]
        unknown.setdefault(fleet.device_names[client], ", ".join(missing))
    note = f"energy: all powers are known for {known.sum()} of {known.size} clients"
    if not unknown:
        return note
    named = [f"{device} without {names}" for device, names in list(unknown.items())[:3]]
    left = len(unknown) - len(named)
    more = f" and {left} other device{'s' * (left > 1)}" if left else ""
    return f"{note}; NaN after any time in a state of unknown power: {'; '.join(named)}{more}"
