"""What ``fedmpi check`` says of a configuration beside its keys."""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter

import numpy as np

from fedmpi.checkpoint.ticket import read_ticket
from fedmpi.cli import estimate, memory_footprint
from fedmpi.config import Config
from fedmpi.emulation.bandwidth import BYTES_PER_S_PER_MBIT_PER_S
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.tcp import INITIAL_SEGMENTS, PACKET_BYTES, SEGMENT_BYTES
from fedmpi.experiment.batching import batch_trainer
from fedmpi.experiment.departures import check_available, check_deadline, departure_lines
from fedmpi.experiment.description import estimated_steps, unknown_energy
from fedmpi.experiment.model import evaluation_batches, make_fleet, make_model
from fedmpi.experiment.parts import Parts, resolve
from fedmpi.federation.distribution import DataFacts, ServerData, read_data
from fedmpi.federation.initial_pruning.training import SAMPLES
from fedmpi.learning.activations import activations
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.host_memory import private_bytes
from fedmpi.mpi.placement import home_blocks
from fedmpi.pruning import Setup
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class Checked:
    """A configuration that was found fit to run: what it would be run with, and lines that say so.

    ``sizes`` (N,): samples of each client; ``mask``: that of round 0, None where it is full; ``read_s``: host
    seconds in which the data were read and divided.
    """

    parts: Parts
    lines: list[str]
    data: ServerData
    read_s: float
    model: FlatModel
    fleet: Fleet
    sizes: np.ndarray
    mask: Mask | None


def report(config: Config, ranks: int) -> Checked:
    """With lines on data, model, placement, memory and the first round, in that order.

    Raises ConfigError, DataError or EmulationError for what could not run on ``ranks`` ranks.
    """
    parts = resolve(config)
    began_s, before_bytes = perf_counter(), private_bytes()
    data = read_data(config)
    read_s, read_bytes = perf_counter() - began_s, private_bytes() - before_bytes
    dataset, facts = data.dataset, data.facts()
    sizes = facts.sizes
    model = make_model(parts, facts, ranks)
    fleet = make_fleet(config, model, facts)
    prunable = sum(layer.stop - layer.start for layer in model.layers if layer.prunable)
    shape = " x ".join(map(str, dataset.input_shape))
    lines = [
        f"data: {len(dataset.train_y)} training and {len(dataset.test_y)} test samples of {shape}, "
        f"{dataset.classes} classes; {sizes.min()} to {sizes.max()} samples for each client"
        + (f", {own.min()} to {own.max()} to test it" if (own := facts.own_test_sizes).size else ""),
        f"model: D = {model.parameter_count} parameters ({prunable} prunable) and {model.buffer_count} "
        f"values of buffers",
        f"  {_batching(config, model, facts)}",
        *filter(None, (estimated_steps(config, fleet, model.layers), unknown_energy(config, fleet))),
        "",
        f"placement on {ranks} {'rank' if ranks == 1 else 'ranks'}, with an estimate of the memory of each:",
    ]
    lines += _placement(parts, model, data, read_bytes, ranks)
    lines += _state(parts, model)
    lines += _initial_pruning(config, model, fleet, sizes)
    mask = None
    if parts.pruning.takes_ticket:
        mask = read_ticket(config, model.parameter_count).mask
    elif parts.pruning.first_mask is not None:
        setup = Setup(config.pruning, config.experiment.rounds, model.layers)
        weights = model.vector.detach().cpu().numpy()[: model.parameter_count]
        mask = parts.pruning.first_mask(setup, weights)
    if mask is not None:
        lines[1] += f"; {mask.count} active, density {mask.density(model.layers):.6g}"
    lines += _links(config, fleet)
    check_available(config, fleet)
    lines += departure_lines(config, fleet)
    check_deadline(parts, model, fleet, sizes)
    first = estimate.first_round(parts, model, fleet, sizes, mask)
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
    if parts.pruning.importance:
        lines.append(_importance(parts, model, first.k))
    return Checked(parts, lines, data, read_s, model, fleet, sizes, mask)


def _state(parts: Parts, model: FlatModel) -> list[str]:
    """What clients carry on disk; nothing where that is in memory."""
    config, clients = parts.config, parts.config.clients
    if clients.state != "disk":
        return []
    vector = 4 * model.vector.numel()
    each = vector if parts.period(model.parameter_count) > 1 else 0
    each = each if parts.sends_all else 4 * model.parameter_count
    each += 4 * model.parameter_count if parts.clients_keep_importance else 0
    where = clients.state_folder or "the run's folder"
    copies = 3 if config.experiment.checkpoint_every else 1
    most = f"{copies * each * clients.count / 2**20:,.0f} MiB"
    states = ", in up to three states for checkpoints" if copies > 1 else ""
    return [f"  and up to {most} on disk, in {where}: what clients carry, {each:,} bytes each{states}"]


def _importance(parts: Parts, model: FlatModel, k: int) -> str:
    """What a participant sends of importance where the mask is to change."""
    size, nearly = estimate.importance_bytes(parts, model, k)
    what = "gradients" if parts.pruning.signed_gradient else "importance"
    section = parts.config.pruning
    by_k = section.importance != "full" and not section.importance_entries
    then = " with the k of the first round" if by_k and parts.config.k_control.method != "fixed" else ""
    return f"rounds before a new mask: {what} of each, {nearly}{size} bytes more up{then}"


def _batching(config: Config, model: FlatModel, facts: DataFacts) -> str:
    trainer, reason = batch_trainer(config, model, facts.input_shape, facts.classes, facts.sizes)
    if trainer is None:
        return f"a rank trains its participants one after the other: {reason}"
    return f"a rank trains its participants in batches of up to {trainer.most_clients}"


def _initial_pruning(config: Config, model: FlatModel, fleet: Fleet, sizes: np.ndarray) -> list[str]:
    initial = config.pruning.initial
    if initial.where == "none":
        return []
    most = f"up to {initial.max_rounds} local rounds"
    below = "  below, the first round is that of a model of which nothing is pruned"
    if initial.where == "server":
        return ["", f"initial pruning at the server: {most} before the first round, not charged", below]
    samples = min(int(sizes[initial.client]), SAMPLES)
    line = f"initial pruning at client {initial.client}: {most} on {samples} of its samples before the first round"
    if not initial.charged:
        return ["", f"{line}, not charged", below]
    if fleet.compute.model.needs_host_time:
        return ["", f"{line}, charged as measured when they run", below]
    round_s = estimate.initial_round_s(config, model, fleet, samples)
    return ["", line, f"  each of them {round_s:.6g} s of emulated time while nothing is pruned", below]


def _links(config: Config, fleet: Fleet) -> list[str]:
    """Where links vary or messages start slowly: what they follow. Nothing for constant rates."""
    network, lines = config.emulation.network, []
    for direction, links in (("uplink", fleet.uplink), ("downlink", fleet.downlink)):
        if not links.vary:
            continue
        periods = np.array([trace.period_s for trace in links.traces])
        stall_s = max(trace.longest_stall_s for trace in links.traces)
        mean = links.bytes_per_s / BYTES_PER_S_PER_MBIT_PER_S
        start = "at a random moment" if network.trace_start == "random" else "at the beginning"
        traces = "1 trace" if len(links.traces) == 1 else f"{len(links.traces)} traces"
        if len(links.traces) < len(links.files):
            traces = f"the first {len(links.traces)} of {len(links.files)} traces"
        lines.append(
            f"  {direction}: {traces} for {len(mean)} clients, loops of {_span(periods)} that start {start}, "
            f"mean rates {mean.min():.4g} to {mean.max():.4g} Mbit/s, without capacity for up to {stall_s:.4g} s"
        )
        if links.left_out:
            lines.append(f"  {direction}: not a trace: {', '.join(path.name for path in links.left_out)}")
    if fleet.uplink.transport.tcp:
        how = "a new connection for each message" if fleet.uplink.transport.new else "over kept connections"
        lines.append(
            f"  tcp, {how}: {SEGMENT_BYTES} of {PACKET_BYTES} bytes are payload, and a message starts with "
            f"{INITIAL_SEGMENTS} segments a round trip of {_span(2.0 * fleet.latency_s)}, doubled each time"
        )
    return ["", "links:", *lines] if lines else []


def _placement(parts: Parts, model: FlatModel, data: ServerData, read_bytes: int, ranks: int) -> list[str]:
    """A line for each rank, or for several in turn that have equally many clients and, rounded, memory."""
    config = parts.config
    blocks = home_blocks(config.clients.count, ranks, config.placement.server_trains)
    smallest = min(evaluation_batches(parts, len(data.dataset.test_y)))
    layers = activations(model, data.dataset.input_shape, smallest)
    groups: list[tuple[int, int, int, int]] = []  # first and last rank, clients of each, MiB
    for rank, block in enumerate(blocks):
        size = memory_footprint.memory_bytes(parts, model, data, layers, blocks, rank, read_bytes)
        mib = round(size / 2**20)
        first, _, clients, of_first = groups[-1] if groups else (0, 0, -1, 0)
        if rank > 1 and clients == len(block) and mib == of_first:
            groups[-1] = (first, rank, clients, mib)
        else:
            groups.append((rank, rank, len(block), mib))
    lines = []
    for first, last, clients, mib in groups:
        if first == last:
            lines.append(f"  rank {first}: {_role(first, blocks[first])}, {mib} MiB")
        else:
            span = f"clients {blocks[first][0]} to {blocks[last][-1]}"
            each = f"{clients} {'client' if clients == 1 else 'clients'} each"
            lines.append(f"  rank {first} to {last}: {span}, {each}, {mib} MiB each")
    shared = memory_footprint.libraries_bytes(ranks)[1] // 2**20
    return [*lines, f"  and {shared} MiB of libraries on every node, which its ranks share"]


def _role(rank: int, block: range) -> str:
    roles = ["server"] if rank == 0 else []
    if len(block):
        roles.append(f"clients {block[0]} to {block[-1]}" if len(block) > 1 else f"client {block[0]}")
    return " and ".join(roles)


def _span(seconds: np.ndarray) -> str:
    return f"{seconds.min():.6g} to {seconds.max():.6g} s"
