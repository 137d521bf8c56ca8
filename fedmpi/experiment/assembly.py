"""Building the parts of a run from its configuration, on every rank alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedmpi.config import Config
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.round_end import may_stop_early
from fedmpi.experiment.batching import batch_trainer
from fedmpi.experiment.departures import check_available, check_deadline
from fedmpi.experiment.device_rows import device_rows
from fedmpi.experiment.first_k import start
from fedmpi.experiment.model import make_fleet, make_model
from fedmpi.experiment.parts import Parts, resolve
from fedmpi.federation.accountants import make_accountant
from fedmpi.federation.client import ClientHost
from fedmpi.federation.client_importance import ClientImportance, Importance, Sketches, Summing, WholeVectors
from fedmpi.federation.client_state import ClientState
from fedmpi.federation.client_tests import ClientTests, distribute_own_tests
from fedmpi.federation.distribution import (
    DataFacts,
    ServerData,
    distribute_test,
    distribute_training,
    read_data,
)
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.exchange import Exchange
from fedmpi.federation.exchange_dense import DenseExchange
from fedmpi.federation.exchange_sparse import SparseExchange
from fedmpi.federation.exchange_votes import VotingExchange
from fedmpi.federation.global_evaluation import Evaluator
from fedmpi.federation.importance_pairs import SKETCH, ImportanceForm
from fedmpi.federation.initial_pruning.local_rounds import InitialServer
from fedmpi.federation.initial_pruning.phase import InitialPhase
from fedmpi.federation.initial_pruning.training import InitialTraining, draw_samples
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.pruned_gradients import PrunedGradients
from fedmpi.federation.pruning import ServerPruning
from fedmpi.federation.round_halves import Half, ServerHalf, WorkerHalf
from fedmpi.federation.round_loop import RoundLoop
from fedmpi.federation.server import Server
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.host_memory import keep_freed_memory
from fedmpi.learning.seeding import steady_accelerator
from fedmpi.mpi.agreement import on_every_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement, home_blocks, most_sharing
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.pruning import Setup
from fedmpi.sparsification import SparseMethod

Expected = Mapping[type[Exception], int]


@dataclass(frozen=True)
class Run:
    """The assembled parts of one run on one rank; ``server`` is None but on rank 0.

    ``devices`` are the columns of the trace's table of that name, None but on rank 0. ``initial`` is None where nothing
    is pruned before the rounds.
    """

    config: Config
    parts: Parts
    ranks: Ranks
    placement: Placement
    facts: DataFacts
    model: FlatModel
    masked: MaskedModel
    host: ClientHost
    state: ClientState
    exchange: Exchange
    server: Server | None
    devices: Mapping[str, Any] | None
    loop: RoundLoop
    initial: InitialPhase | None


def assemble(
    ranks: Ranks,
    config: Config,
    expected: Expected,
    signal: SignalFlag | None = None,
    data: ServerData | None = None,
) -> Run:
    """Read the data, build the model, and give every rank its part. Refused on all ranks if any of them cannot.

    ``signal``: what asks the run to stop; None: nothing does. ``data``: what the server has read already, if it has.
    """
    signal = SignalFlag() if signal is None else signal
    torch.set_num_threads(config.placement.threads_per_rank)
    if config.placement.device != "cpu":
        steady_accelerator()
    parts = on_every_rank(ranks, lambda: resolve(config), expected)
    data = on_server(ranks, lambda: data or read_data(config), expected)
    facts = _share_facts(ranks, data)

    model = on_every_rank(ranks, lambda: make_model(parts, facts, ranks.size), expected)
    fleet = on_server(ranks, lambda: _fleet(parts, model, facts), expected)
    # Launchers need not hand the environment to other nodes: rank 0 reads it for all.
    memory = GroupMemory(
        ranks.comm, ranks.broadcast_json(on_server(ranks, lambda: most_sharing(os.environ), expected))
    )
    blocks = home_blocks(config.clients.count, ranks.size, config.placement.server_trains)
    placement = Placement(config.clients.count, tuple(blocks), memory.groups)
    training_data = distribute_training(ranks, memory, placement, facts, data)
    test_x, test_y = distribute_test(ranks, memory, placement, facts, data)
    keep_freed_memory()
    evaluator = Evaluator(ranks, test_x, test_y, config.training.evaluation_batch_size)
    client_tests = None
    if config.experiment.evaluate_clients:
        own_tests = distribute_own_tests(config, ranks, memory, placement, facts, data)
        client_tests = ClientTests(ranks, placement, own_tests, config.training.evaluation_batch_size)
    masked = MaskedModel(ranks, model)
    state = ClientState(config, ranks, memory, placement)
    importance = _importance(parts, ranks, memory, masked, state, blocks[ranks.rank])
    trainer, _ = on_every_rank(
        ranks, lambda: batch_trainer(config, model, facts.input_shape, facts.classes, facts.sizes), expected
    )
    host = ClientHost(config, masked, training_data, importance, trainer)
    exchange = _exchange(parts, ranks, memory, host, state)
    server: Server | None = None
    devices = None
    half: Half = WorkerHalf()
    if fleet is not None and data is not None:
        devices = device_rows(fleet, data)
        server = _server(parts, facts, fleet, masked, exchange)
        half = ServerHalf(server, masked, config.emulation.time_scale)
    loop = RoundLoop(
        ranks=ranks,
        placement=placement,
        sizes=facts.sizes,
        host=host,
        exchange=exchange,
        evaluator=evaluator,
        client_tests=client_tests,
        signal=signal,
        half=half,
        layers_with_k=0 if parts.k_control.layer_k is None else len(model.layers),
    )
    initial = None
    if config.pruning.initial.where != "none":
        initial_server = None
        if server is not None and data is not None:
            training = InitialTraining(config, model, *draw_samples(config, data))
            initial_server = InitialServer(server, masked, training, facts.classes)
        initial = InitialPhase(ranks, masked, signal, initial_server)
    return Run(
        config,
        parts,
        ranks,
        placement,
        facts,
        model,
        masked,
        host,
        state,
        exchange,
        server,
        devices,
        loop,
        initial,
    )


def _server(parts: Parts, facts: DataFacts, fleet: Fleet, masked: MaskedModel, exchange: Exchange) -> Server:
    config, model = parts.config, masked.flat
    dimension = model.parameter_count
    downlink = Downlink(config.clients.count, dimension, model.buffer_count, parts.codec_down, parts.resends)
    setup = _pruning_setup(config, model)
    accountant = make_accountant(config, fleet, dimension, positions_sent=not parts.sends_all)
    pruning = ServerPruning(
        method=parts.pruning,
        setup=setup,
        seed=config.experiment.seed,
        masked=masked,
        exchange=exchange,
        downlink=downlink,
        accountant=accountant,
        batch_size=config.training.batch_size,
        value_type=config.sparsification.value_type,
    )
    return Server(
        config=config,
        sizes=facts.sizes,
        accountant=accountant,
        exchange=exchange,
        controller=parts.k_control,
        k_state=start(config, parts.k_control, dimension, parts.fixed_k(dimension), model.layers),
        downlink=downlink,
        pruning=pruning,
    )


def _pruning_setup(config: Config, model: FlatModel) -> Setup:
    return Setup(config.pruning, config.experiment.rounds, model.layers)


def _importance(
    parts: Parts,
    ranks: Ranks,
    memory: GroupMemory,
    masked: MaskedModel,
    state: ClientState,
    own: range,
) -> Importance | None:
    config, method, model = parts.config, parts.pruning, masked.flat
    if not method.importance:
        return None
    form = ImportanceForm(method, _pruning_setup(config, model), config.sparsification.value_type)
    if not parts.clients_keep_importance:
        return PrunedGradients(ranks, masked, form)
    rows = state.vectors("importance", model.parameter_count)
    summing: Summing
    if config.pruning.importance == SKETCH:
        summing = Sketches(ranks, form, model.parameter_count)
    else:
        summing = WholeVectors(ranks, memory, model.parameter_count)
    return ClientImportance(ranks, memory, rows, summing, own, may_stop_early(config), method.signed_gradient)


def _fleet(parts: Parts, model: FlatModel, facts: DataFacts) -> Fleet:
    fleet = make_fleet(parts.config, model, facts)
    check_available(parts.config, fleet)
    check_deadline(parts, model, fleet, facts.sizes)
    return fleet


def _share_facts(ranks: Ranks, data: ServerData | None) -> DataFacts:
    facts = None if data is None else data.facts()
    plain = sizes = own_test_sizes = None
    if facts is not None:
        plain = {name: value for name, value in vars(facts).items() if not isinstance(value, np.ndarray)}
        sizes, own_test_sizes = facts.sizes.view(np.uint8), facts.own_test_sizes.view(np.uint8)
    shared = ranks.broadcast_json(plain)
    shared["input_shape"] = tuple(shared["input_shape"])
    return DataFacts(
        **shared,
        sizes=ranks.broadcast_bytes(sizes).view(np.int64),
        own_test_sizes=ranks.broadcast_bytes(own_test_sizes).view(np.int64),
    )


def _exchange(
    parts: Parts, ranks: Ranks, memory: GroupMemory, host: ClientHost, state: ClientState
) -> Exchange:
    method, model = parts.sparsification, host.model
    if isinstance(method, SparseMethod):
        accumulated = state.vectors("accumulated", model.parameter_count)
        sketch = parts.sketch(model.parameter_count)
        return SparseExchange(ranks, memory, host, method, parts.codec, parts.aggregator, accumulated, sketch)
    period = parts.period(model.parameter_count)
    own = state.vectors("weights", model.parameter_count + model.buffer_count, used=period > 1)
    dense = DenseExchange(ranks, memory, host, parts.aggregator, own, period)
    if parts.pruning.own_mask is None:
        return dense
    setup = Setup(parts.config.pruning, parts.config.experiment.rounds, model.layers)
    return VotingExchange(ranks, dense, parts.pruning, setup)
