"""What ``fedmpi check`` says of a configuration beside its keys."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.checkpoint.ticket import read_ticket
from fedmpi.cli import estimate
from fedmpi.config import Config, validate_with_model
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.experiment.description import borrowed_constant
from fedmpi.federation.initial_training import SAMPLES
from fedmpi.learning.datasets import Dataset, load
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build
from fedmpi.learning.partition import partition
from fedmpi.mpi.placement import home_blocks
from fedmpi.numerics.streams import Purpose, generator
from fedmpi.pruning import lottery
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class Checked:
    """A configuration that was found fit to run: what it would be run with, and lines that say so.

    ``sizes`` (N,): samples of each client; ``mask``: that of a lottery ticket, None without one.
    """

    lines: list[str]
    dataset: Dataset
    model: FlatModel
    fleet: Fleet
    sizes: np.ndarray
    mask: Mask | None


def report(config: Config, ranks: int) -> Checked:
    """With lines on data, model, placement, memory and the first round, in that order.

    Raises ConfigError, DataError or EmulationError for what could not run on ``ranks`` ranks.
    """
    seed = config.experiment.seed
    dataset = load(config.data)
    samples = partition(
        config.data,
        dataset.train_y,
        dataset.train_writer,
        config.clients.count,
        generator(seed, Purpose.PARTITION),
    )
    sizes = np.array([len(indices) for indices in samples])
    model = FlatModel(build(config.model, dataset.input_shape, dataset.classes, seed))
    validate_with_model(config, model.parameter_count, ranks)
    fleet = assign(config, seed)
    prunable = sum(layer.stop - layer.start for layer in model.layers if layer.prunable)
    shape = " x ".join(map(str, dataset.input_shape))
    lines = [
        f"data: {len(dataset.train_y)} training and {len(dataset.test_y)} test samples of {shape}, "
        f"{dataset.classes} classes; {sizes.min()} to {sizes.max()} samples for each client",
        f"model: D = {model.parameter_count} parameters ({prunable} prunable) and {model.buffer_count} "
        f"values of buffers",
        "",
        f"placement on {ranks} {'rank' if ranks == 1 else 'ranks'}, with an estimate of memory (without "
        f"activations):",
    ]
    for rank, block in enumerate(home_blocks(config.clients.count, ranks, config.placement.server_trains)):
        memory = estimate.memory_bytes(config, model, dataset, samples, block, rank)
        lines.append(f"  rank {rank}: {_role(rank, block)}, {memory / 2**20:.0f} MiB")
    lines += _initial_pruning(config, model, fleet, sizes)
    mask = None
    if config.pruning.method in lottery.METHODS:
        mask = read_ticket(config, model.parameter_count).mask
        lines[1] += f"; {mask.count} active, density {mask.density(model.layers):.6g}"
    first = estimate.first_round(config, model, fleet, sizes, mask)
    timeline, at_most = first.timeline, "at most " if first.bound else ""
    lines += [
        "",
        f"first round: {len(first.participants)} participants, k = {first.k}; bytes of each, down "
        f"{first.bytes_down} and up {first.bytes_up}",
        f"  download {at_most}{_span(timeline.download_s)}",
        f"  compute {_span(timeline.compute_s)}",
        f"  upload {_span(timeline.upload_s)}",
        f"  whole round {at_most}{timeline.duration_s:.6g} s of emulated time",
    ]
    if first.left_out:
        lines.append(f"  without {'; without '.join(first.left_out)}")
    if note := borrowed_constant(config, fleet, model.layers):
        lines += ["", note]
    return Checked(lines, dataset, model, fleet, sizes, mask)


def _initial_pruning(config: Config, model: FlatModel, fleet: Fleet, sizes: np.ndarray) -> list[str]:
    initial = config.pruning.initial
    if initial.where == "none":
        return []
    most = f"up to {initial.max_rounds} local rounds"
    below = "  below, the first round is told as if nothing were pruned"
    if initial.where == "server":
        return ["", f"initial pruning at the server: {most} before the first round, not charged", below]
    samples = min(int(sizes[initial.client]), SAMPLES)
    line = f"initial pruning at client {initial.client}: {most} on {samples} of its samples before the first round"
    if not initial.charged:
        return ["", f"{line}, not charged", below]
    if fleet.compute_model == "measured":
        return ["", f"{line}, charged as measured when they run", below]
    round_s = estimate.initial_round_s(config, model, fleet, samples)
    return ["", line, f"  each of them {round_s:.6g} s of emulated time while nothing is pruned", below]


def _role(rank: int, block: range) -> str:
    roles = ["server"] if rank == 0 else []
    if len(block):
        roles.append(f"clients {block[0]} to {block[-1]}" if len(block) > 1 else f"client {block[0]}")
    return " and ".join(roles)


def _span(seconds: np.ndarray) -> str:
    return f"{seconds.min():.6g} to {seconds.max():.6g} s"
