"""Building the parts of a run from its configuration, on every rank alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial

import numpy as np
import torch

from fedmpi.config import Config, ConfigError, validate_with_model
from fedmpi.emulation.compute import require_costs
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.federation.accounts import make_accountant
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
from fedmpi.federation.exchange_sparse import SparseExchange, SparseMethod
from fedmpi.federation.importance import ClientImportance
from fedmpi.federation.pruning import Pruner, Pruning
from fedmpi.federation.rounds import RoundLoop
from fedmpi.federation.server import Server
from fedmpi.k_control.start import start_k_control
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.host_memory import keep_freed_memory
from fedmpi.learning.models import build
from fedmpi.mpi.agreement import on_every_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement, home_blocks
from fedmpi.mpi.shared_memory import GroupMemory
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
    """The assembled parts of one run on one rank; ``server`` is None but on rank 0."""

    config: Config
    facts: DataFacts
    ranks: Ranks
    placement: Placement
    model: FlatModel
    host: ClientHost
    exchange: Exchange
    pruning: Pruning
    server: Server | None
    loop: RoundLoop


def assemble(ranks: Ranks, config: Config, expected: Expected) -> Run:
    """Read the data, build the model, and give every rank its part. Refused on all ranks if any of them cannot."""
    torch.set_num_threads(config.placement.threads_per_rank)
    data = on_server(ranks, lambda: read_data(config), expected)
    facts = _share_facts(ranks, data)

    def make_model() -> FlatModel:
        module = build(config.model, facts.input_shape, facts.classes, config.experiment.seed)
        try:
            model = FlatModel(module)
        except ValueError as error:
            raise ConfigError("model.name", str(error)) from error
        validate_with_model(config, model.parameter_count, ranks.size)
        return model

    model = on_every_rank(ranks, make_model, expected)
    fleet = on_server(ranks, lambda: _fleet(config, model), expected)
    memory = GroupMemory(ranks.comm)
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
    if ranks.is_server:
        assert fleet is not None
        dimension = model.parameter_count
        controller, k_state = start_k_control(config, dimension)
        server = Server(
            config=config,
            sizes=np.array(facts.sizes, dtype=np.int64),
            accountant=make_accountant(config, fleet, dimension),
            exchange=exchange,
            controller=controller,
            k_state=k_state,
            downlink=Downlink(
                config.clients.count,
                dimension,
                model.buffer_count,
                wire_form(config.sparsification),
                config.sparsification.value_type,
            ),
            active_prunable=pruning.mask.active_per_layer(
                [layer for layer in model.layers if layer.prunable]
            ),
            pruner=_pruner(config, method, model),
        )
    loop = RoundLoop(
        ranks=ranks,
        placement=placement,
        sizes=np.array(facts.sizes, dtype=np.int64),
        host=host,
        exchange=exchange,
        pruning=pruning,
        evaluator=evaluator,
        time_scale=config.emulation.time_scale,
        server=server,
    )
    return Run(config, facts, ranks, placement, model, host, exchange, pruning, server, loop)


def _pruner(config: Config, method: Method | None, model: FlatModel) -> Pruner | None:
    if method is None:
        return None
    setup = Setup(config.pruning, config.experiment.rounds, model.layers)
    return Pruner(method, setup, config.experiment.seed, model.parameter_count)


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
