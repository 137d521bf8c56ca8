"""What ``fedmpi check --brief`` says: what differs from the defaults, and what the whole run will take."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch

from fedmpi.calibration import training_step
from fedmpi.cli import estimate
from fedmpi.cli.report import Checked
from fedmpi.config import Config
from fedmpi.config.errors import shown_value
from fedmpi.config.write import tables
from fedmpi.experiment.description import estimated_steps, methods, unknown_energy
from fedmpi.experiment.progress import duration
from fedmpi.federation.round_cost import local_steps
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.evaluation import evaluate_blocks

_COLUMNS = 79
_MOST_LINES = 8
"""Lines of keys that differ from the defaults; with the others they fit 24 lines."""

_TOGETHER = "\N{NO-BREAK SPACE}"

_INNER = (
    "pruning.initial",
    "emulation.compute",
    "emulation.network",
    "emulation.availability",
    "emulation.energy",
)
"""The tables within tables; other values that are tables, such as mixes and distributions, are those of keys."""

_STEPS = 5
_SECONDS = 5.0
"""How many training steps are timed, and for how long at most."""


def brief(config: Config, checked: Checked, ranks: int) -> list[str]:
    """Lines of at most 79 columns."""
    whole = estimate.whole_run(checked.parts, checked.model, checked.fleet, checked.sizes, checked.mask)
    experiment, dataset = config.experiment, checked.dataset
    what = [
        f"{experiment.name}: {experiment.rounds:,} rounds, seed {experiment.seed}, on {ranks} "
        f"{'rank' if ranks == 1 else 'ranks'}",
        methods(checked.parts),
        f"model {config.model.name}, D = {checked.model.parameter_count:,}; data {config.data.dataset}, "
        f"{len(dataset.train_y):,} training and {len(dataset.test_y):,} test samples",
    ]
    estimates = [
        f"  bytes     {_bytes(whole.bytes_up)} up and {_bytes(whole.bytes_down)} down, of all participants together",
        f"  emulated  {duration(whole.emulated_s)}",
        f"  host      {_host(config, checked, ranks)}",
    ]
    if whole.assumed:
        estimates.append(f"  assumed   {', '.join(whole.assumed)}")
    if whole.left_out:
        estimates.append(f"  left out  {', '.join(whole.left_out)}")
    initial = config.pruning.initial
    if initial.where != "none":
        charged = "" if initial.charged else ", not charged"
        estimates.append(
            f"  besides   initial pruning adds up to {initial.max_rounds} local rounds at the {initial.where}{charged}"
        )
    notes = (
        estimated_steps(config, checked.fleet, checked.model.layers),
        unknown_energy(config, checked.fleet),
    )
    return [
        *(part for line in what for part in _wrapped(line)),
        *_differing(config),
        "estimate of the whole run:",
        *(part for line in estimates for part in _wrapped(line, " " * 12)),
        *(part for note in notes if note for part in _wrapped(note)),
    ]


def _differing(config: Config) -> list[str]:
    """The keys whose values are not the defaults, table by table, as many as fit."""
    defaults = _by_table(tables(Config()))
    differing = []
    for table, values in _by_table(tables(config)).items():
        known = defaults.get(table, {})
        pairs = [
            f"{key} = {shown_value(value)}".replace(" ", _TOGETHER)
            for key, value in values.items()
            if key not in known or known[key] != value
        ]
        if pairs:
            differing.append(f"[{table}] {', '.join(pairs)}")
    if not differing:
        return ["all keys have their defaults"]
    lines = [line.replace(_TOGETHER, " ") for line in _wrapped(f"  {'; '.join(differing)}", "  ")]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "  ... and more, which fedmpi check prints"]
    return ["differs from the defaults:", *lines]


def _by_table(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of each table of a configuration; those within another table have a dot in their names."""
    found: dict[str, dict[str, Any]] = {}
    for name, table in config.items():
        inner = {key for key in table if f"{name}.{key}" in _INNER}
        found[name] = {key: value for key, value in table.items() if key not in inner}
        found |= {f"{name}.{key}": table[key] for key in sorted(inner)}
    return found


def _wrapped(line: str, indent: str = "") -> list[str]:
    return textwrap.wrap(line, _COLUMNS, subsequent_indent=indent, break_on_hyphens=False) or [""]


def _bytes(count: int) -> str:
    """A number of bytes with a decimal unit."""
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def _host(config: Config, checked: Checked, ranks: int) -> str:
    """How long training and evaluation take here, from a few steps that are made now."""
    step_s, sample_s = _measured(config, checked)
    experiment = config.experiment
    participants = estimate.first_participants(config, checked.fleet)
    steps = float(local_steps(config, checked.sizes[participants]).sum())
    cores = max(1, (os.cpu_count() or 1) // config.placement.threads_per_rank)
    training = ranks if ranks == 1 or config.placement.server_trains else ranks - 1
    evaluations = -(-experiment.rounds // experiment.evaluate_every)
    host_s = experiment.rounds * steps * step_s / min(training, cores, len(participants))
    host_s += evaluations * len(checked.dataset.test_y) * sample_s / min(ranks, cores)
    text = f"{duration(host_s)} of training and evaluation here, where a step takes {1e3 * step_s:.3g} ms now"
    return f"{text}; start, exchange and trace come on top"


def _measured(config: Config, checked: Checked) -> tuple[float, float]:
    """Host seconds of a training step of a full batch, and of the evaluation of one sample: medians of a few."""
    dataset, model = checked.dataset, checked.model
    batch, block = config.training.batch_size, config.training.evaluation_batch_size
    threads = torch.get_num_threads()
    torch.set_num_threads(config.placement.threads_per_rank)
    try:
        x, y = _samples(dataset.train_x, dataset.train_y, batch)
        step_s = _seconds(training_step(model.module, x, y, config.training.loss)) * batch / len(y)
        x, y = _samples(dataset.test_x, dataset.test_y, block)
        test_s = _seconds(lambda: evaluate_blocks(model, [(x, y)], config.training.loss))
        return step_s, test_s / len(y)
    finally:
        torch.set_num_threads(threads)


def _samples(x: np.ndarray, y: np.ndarray, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return as_float32(torch.from_numpy(x[:count])), torch.from_numpy(y[:count])


def _seconds(work: Callable[[], object]) -> float:
    """Median of some repetitions after one that is not counted; of fewer where they take long."""
    began = perf_counter()
    work()
    taken: list[float] = []
    while len(taken) < _STEPS and (not taken or perf_counter() - began < _SECONDS):
        start = perf_counter()
        work()
        taken.append(perf_counter() - start)
    return median(taken)
