"""Building the parts of a run from its configuration, on every rank alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from fedmpi.config import Config
from fedmpi.emulation.compute import require_costs
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.federation.accounts import NormalizedAccountant, make_accountant
from fedmpi.federation.client import ClientHost
from fedmpi.federation.distribution import (
    DataFacts,
    ServerData,
    distribute_test,
    distribute_training,
    read_data,
)
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.evaluation import Evaluator
from fedmpi.federation.exchange import Exchange
from fedmpi.federation.exchange_dense import DenseExchange
from fedmpi.federation.exchange_sparse import SparseExchange
from fedmpi.federation.importance import ClientImportance
from fedmpi.federation.initial_pruning import InitialPhase
from fedmpi.federation.initial_server import InitialServer
from fedmpi.federation.initial_training import InitialTraining, draw_samples
from fedmpi.federation.model import make_model
from fedmpi.federation.pruning import Pruner, Pruning
from fedmpi.federation.rounds import RoundLoop
from fedmpi.federation.server import Server
from fedmpi.federation.server_pruning import ServerPruning
from fedmpi.federation.sparse_answer import SparseMethod
from fedmpi.k_control.start import start_k_control
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.host_memory import keep_freed_memory
from fedmpi.mpi.agreement import on_every_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement, home_blocks, most_sharing
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.pruning import METHODS, Method
from fedmpi.pruning.interface import Setup
from fedmpi.sparsification import (
    DENSE_METHODS,
    SELECTORS,
    exchange_period,
    periodic,
    wire_form,
)

Expected = Mapping[type[Exception], int]


@dataclass(frozen=True)
class Run:
    """The assembled parts of one run on one rank; ``server`` is None but on rank 0.

    ``initial`` is None where nothing is pruned before the rounds.
    """

    config: Config
    ranks: Ranks
    placement: Placement
    facts: DataFacts
    model: FlatModel
    host: ClientHost
    exchange: Exchange
    pruning: Pruning
    server: Server | None
    loop: RoundLoop
    initial: InitialPhase | None


def assemble(ranks: Ranks, config: Config, expected: Expected, signal: SignalFlag | None = None) -> Run:
    """Read the data, build the model, and give every rank its part. Refused on all ranks if any of them cannot.

    ``signal``: what asks the run to stop; None: nothing does.
    """
    signal = SignalFlag() if signal is None else signal
    torch.set_num_threads(config.placement.threads_per_rank)
    data = on_server(ranks, lambda: read_data(config), expected)
    facts = _share_facts(ranks, data)

    model = on_every_rank(ranks, lambda: make_model(config, facts, ranks.size), expected)
    fleet = on_server(ranks, lambda: _fleet(config, model), expected)
    # Launchers need not hand the environment to other nodes: rank 0 reads it for all.
    memory = GroupMemory(
        ranks.comm, ranks.broadcast_json(on_server(ranks, lambda: most_sharing(os.environ), expected))
    )
    blocks = home_blocks(config.clients.count, ranks.size, config.placement.server_trains)
    placement = Placement(config.clients.count, tuple(blocks), memory.groups)
    host = ClientHost(config, model, distribute_training(ranks, memory, placement, facts, data))
    test_x, test_y = distribute_test(ranks, memory, placement, facts, data)
    keep_freed_memory()
    evaluator = Evaluator(ranks, test_x, test_y, config.training.evaluation_batch_size)
    exchange = _exchange(config, ranks, placement, memory, host)
    method = METHODS.get(config.pruning.method)
    if method is not None and method.importance:
        host.importance = ClientImportance(
            ranks,
            memory,
            placement.clients_of_group(placement.group_of(ranks.rank)),
            placement.clients,
            model.parameter_count,
            blocks[ranks.rank],
        )
    pruning = Pruning(ranks, host, exchange, host.importance)
    server = None
    if fleet is not None:
        server = _server(config, facts, fleet, model, exchange, method)
    loop = RoundLoop(
        ranks=ranks,
        placement=placement,
        sizes=np.array(facts.sizes, dtype=np.int64),
        host=host,
        exchange=exchange,
        pruning=pruning,
        evaluator=evaluator,
        time_scale=config.emulation.time_scale,
        signal=signal,
        server=server,
    )
    initial = None
    if config.pruning.initial.where != "none":
        initial_server = None
        if server is not None and data is not None:
            training = InitialTraining(config, model, *draw_samples(config, data))
            initial_server = InitialServer(server, pruning, training, facts.classes)
        initial = InitialPhase(ranks, host, pruning, signal, initial_server)
    return Run(config, ranks, placement, facts, model, host, exchange, pruning, server, loop, initial)


def _server(
    config: Config,
    facts: DataFacts,
    fleet: Fleet,
    model: FlatModel,
    exchange: Exchange,
    method: Method | None,
) -> Server:
    dimension = model.parameter_count
    controller, k_state = start_k_control(config, dimension)
    downlink = Downlink(
        config.clients.count,
        dimension,
        model.buffer_count,
        wire_form(config.sparsification),
        config.sparsification.value_type,
    )
    setup = Setup(config.pruning, config.experiment.rounds, model.layers)
    pruner = None if method is None else Pruner(method, setup, config.experiment.seed, dimension)
    accountant = make_accountant(config, fleet, dimension)
    normalized = accountant if isinstance(accountant, NormalizedAccountant) else None
    return Server(
        config=config,
        sizes=np.array(facts.sizes, dtype=np.int64),
        accountant=accountant,
        exchange=exchange,
        controller=controller,
        k_state=k_state,
        downlink=downlink,
        pruning=ServerPruning(
            setup, fleet, exchange, downlink, config.training.batch_size, pruner, normalized
        ),
    )


def _fleet(config: Config, model: FlatModel) -> Fleet:
    fleet = assign(config, config.experiment.seed)
    require_costs(fleet, sum(layer.prunable for layer in model.layers))
    return fleet


def _share_facts(ranks: Ranks, data: ServerData | None) -> DataFacts:
    shared = ranks.broadcast_json(None if data is None else asdict(data.facts()))
    return DataFacts(
        input_shape=tuple(shared["input_shape"]),
        classes=shared["classes"],
        sizes=tuple(shared["sizes"]),
        test_samples=shared["test_samples"],
        dtype=shared["dtype"],
        common=shared["common"],
    )


def _exchange(
    config: Config, ranks: Ranks, placement: Placement, memory: GroupMemory, host: ClientHost
) -> Exchange:
    section, dimension = config.sparsification, host.model.parameter_count
    clients = placement.clients_of_group(placement.group_of(ranks.rank))
    if section.method in DENSE_METHODS:
        period = exchange_period(section, dimension)
        return DenseExchange(ranks, memory, host, clients, placement.clients, period)
    method = SparseMethod(
        select=SELECTORS[section.method],
        wire=wire_form(section),
        value_type=section.value_type,
        shared=partial(periodic.coordinates, config.experiment.seed)
        if section.method == "periodic"
        else None,
        survivors_told=section.method == "fub_tree",
    )
    return SparseExchange(ranks, memory, host, method, clients, placement.clients)
