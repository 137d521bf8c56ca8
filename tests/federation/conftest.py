"""A server with few parts around it: a model of ten parameters, an exchange that does nothing, real devices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mpi4py import MPI

from fedmpi import trace
from fedmpi.config import Config, loads
from fedmpi.emulation.devices import assign
from fedmpi.federation.accountants import make_accountant
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import RECORD
from fedmpi.federation.pruning import ServerPruning
from fedmpi.federation.server import Server
from fedmpi.k_control import Controller, Observation
from fedmpi.k_control import State as KState
from fedmpi.learning.flat import FlatModel
from fedmpi.mpi.collectives import Ranks
from fedmpi.pruning import NONE, Method, Setup
from fedmpi.sparsification.codec import DENSE
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch
from fedmpi.trace.schema import TABLES

NETWORK = """
[experiment]
rounds = 6
[clients]
count = 4
[training]
batch_size = 10
learning_rate = 0.5
[emulation.network]
uplink_mbit_per_s = 0.008
downlink_mbit_per_s = 0.008
"""
"""1000 bytes a second each way; training takes a second."""

SIZES = np.array([10, 20, 30, 40])


def layers() -> FlatModel:
    """Ten parameters: six and two that can be pruned (L = 2), and two biases that cannot."""
    torch.manual_seed(0)
    return FlatModel(torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Linear(2, 1, bias=False)))


@dataclass
class NoExchange:
    """Messages of 100 bytes and 4 for each value up, of 200 and 4 down."""

    dimension: int = 10
    period: int = 1
    sketch: MagnitudeSketch = NO_SKETCH
    restored: dict[str, np.ndarray] = field(default_factory=dict)

    def message_bytes_up(self, entries: int) -> int:
        return 100 + 4 * entries

    def message_bytes_down(self, k_down: int) -> int:
        return 200 + 4 * k_down

    def bytes_by_size(self, entries: int, down: bool = False) -> tuple[float, float]:
        return (200.0 if down else 100.0) + 4 * entries, 0.5 if down else 0.25

    def server_state(self) -> dict[str, np.ndarray]:
        return {"kept": np.arange(3)}

    def restore_server(self, state: dict[str, np.ndarray]) -> None:
        self.restored = state


@dataclass
class SeenCosts:
    """A controller of k that keeps what it sees, and counts rounds in k."""

    measures: bool = False
    seen: list[Observation] = field(default_factory=list)

    def controller(self) -> Controller:
        return Controller(
            summary="Seen.",
            init=lambda setup, draw: KState(3, 0),
            step=self.step,
            measures_losses=self.measures,
        )

    def step(self, state: KState, observation: Observation, draw: Callable[[], float]) -> KState:
        self.seen.append(observation)
        return KState(state.k + 1, 0)


@dataclass
class World:
    config: Config
    ranks: Ranks
    masked: MaskedModel
    exchange: NoExchange
    costs: SeenCosts
    server: Server

    def records(self, **columns: Any) -> np.ndarray:
        """RECORDs of all clients, in falling order."""
        records = np.zeros(4, RECORD)
        records["client"] = np.arange(4)
        records["samples"], records["entries"], records["message_bytes"] = SIZES, 3, 112
        records["max_abs"] = [1.0, 4.0, 2.0, 3.0]
        records["train_loss"] = [1.0, 2.0, 3.0, 4.0]
        for name, values in columns.items():
            records[name] = values
        return records[::-1].copy()


@pytest.fixture
def world() -> Callable[..., World]:
    def build(
        *overrides: str, method: Method = NONE, k_state: KState | None = None, measures: bool = False
    ) -> World:
        config = loads(NETWORK, list(overrides))
        ranks, exchange, costs = Ranks.of(MPI.COMM_SELF), NoExchange(), SeenCosts(measures)
        masked = MaskedModel(ranks, layers())
        accountant = make_accountant(config, assign(config, 0), 10, positions_sent=True)
        downlink = Downlink(4, 10, 0, DENSE)
        setup = Setup(config.pruning, config.experiment.rounds, masked.flat.layers)
        no_exchange: Any = exchange
        pruning = ServerPruning(method, setup, 0, masked, no_exchange, downlink, accountant, 10)
        server = Server(
            config,
            SIZES,
            accountant,
            no_exchange,
            costs.controller(),
            KState(3, 0) if k_state is None else k_state,
            downlink,
            pruning,
        )
        return World(config, ranks, masked, exchange, costs, server)

    return build


HOST_COLUMNS = {"host_s", "rank", "overrun_s", "released_s"}
"""Columns of a trace that say what happened here, not on the emulated devices."""


def assert_same_trace(one: trace.Trace, other: trace.Trace) -> None:
    """All that was learned and emulated is equal, bit by bit."""
    for name in TABLES:
        left, right = (
            getattr(each, name).drop(columns=HOST_COLUMNS, errors="ignore") for each in (one, other)
        )
        pd.testing.assert_frame_equal(left, right, check_exact=True, obj=name)


@pytest.fixture(scope="session")
def same_trace() -> Callable[[trace.Trace, trace.Trace], None]:
    return assert_same_trace
